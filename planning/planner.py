"""What a planner is: the one interface between the pure rules of a kind and the loop that runs them.

A new kind is one planner, the steps it needs and one line in `planning.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from planning.wire import Decision, Memory, Ref, View

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API server serves it. `kind` is CamelCase; `key` is the lower-case name used in refs and caches.

    `alias` is the key where several groups have a kind of that name. `optional`: its definition may be missing, and may
    come and go while the operator runs.
    """

    group: str
    version: str
    plural: str
    kind: str
    alias: str = ""
    optional: bool = False

    @property
    def key(self) -> str:
        return self.alias or self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class World:
    """What the cache saw at one moment.

    `object` is None only when the object is confirmed gone. `children` holds, by resource key, the objects whose
    controller is this object (by uid); an optional resource that the API server does not serve has no entry.
    Objects are the API server's JSON; nobody may change them. `now` is timezone aware. `ownerless` holds, by resource
    key, the objects of the namespace that no controller has: for planners with `adopts`.
    """

    ref: Ref
    object: Json | None
    children: Mapping[str, Sequence[Json]]
    now: datetime
    ownerless: Mapping[str, Sequence[Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass found.

    `decision` is None when the world need not change. `status` is the whole desired `.status` (None: leave it);
    the caller writes it when it differs. `wake_at`: plan again then even if nothing happens.
    """

    decision: Decision | None
    view: View
    status: Json | None = None
    wake_at: datetime | None = None
    events: Sequence[tuple[str, str, str]] = field(default=())


class Planner(Protocol):
    """The rules of one kind: `plan` is pure, deterministic for its arguments and takes below 100 ms for 2,000 pods.

    `rollout` is the revision that the asking child workflow carries out, None for the object's own workflow. Steps that
    failed lately (`memory.failures`) are not planned again before their `retry_at` unless the generation changed.
    """

    @property
    def resource(self) -> Resource: ...

    @property
    def owns(self) -> Sequence[Resource]: ...

    def plan(self, world: World, memory: Memory, rollout: str | None) -> Plan: ...
