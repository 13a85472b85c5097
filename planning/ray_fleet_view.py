"""What one look at a RayClusterFleet finds: its replica sets, which of them is the new one, and the room for change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from crds import labels
from crds.intorstr import Budget, resolve
from planning import names
from planning.backoff import failures_of
from planning.objects import (
    annotations_of,
    generation_of,
    in_order,
    is_deleting,
    name_of,
    spec_of,
    status_of,
    uid_of,
)
from planning.render_ray import copied_annotations, template_digest
from planning.wire import Memory, Target

Json = dict[str, Any]
ROLLING_UPDATE: Final = "RollingUpdate"
RECREATE: Final = "Recreate"
DEFAULT_PART: Final = "25%"
"""Surge and unavailable of a fleet that names neither, as Kubernetes has it for Deployments."""


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """One replica set. `size` is what its spec asks for, `desired` and `most` what the fleet last noted on it.

    `leaving` counts its clusters that are being deleted.
    """

    live: Json
    digest: str
    size: int
    total: int
    leaving: int
    ready: int
    available: int
    desired: str
    most: str
    revision: int

    @property
    def name(self) -> str:
        return name_of(self.live)

    @property
    def target(self) -> Target:
        version = str(self.live["metadata"].get("resourceVersion") or "")
        return Target(name=self.name, uid=uid_of(self.live), resource_version=version)

    @property
    def observed(self) -> bool:
        return int(status_of(self.live).get("observedGeneration") or 0) >= generation_of(self.live)


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet with what it owns, the oldest first."""

    live: Json
    digest: str
    sets: Sequence[ReplicaSet]
    strategy: str
    budget: Budget

    @property
    def name(self) -> str:
        return name_of(self.live)

    @property
    def new(self) -> ReplicaSet | None:
        """The oldest with the fleet's template."""
        return next((each for each in self.sets if each.digest == self.digest), None)

    @property
    def old(self) -> list[ReplicaSet]:
        new = self.new
        return [each for each in self.sets if new is None or each.name != new.name]

    @property
    def total(self) -> int:
        return sum(each.size for each in self.sets)

    @property
    def paused(self) -> bool:
        return bool(spec_of(self.live).get("paused"))

    @property
    def next_revision(self) -> int:
        return max((each.revision for each in self.old), default=0) + 1


def observe(live: Json, replica_sets: Sequence[Json]) -> Fleet:
    """Raises IntOrStringError for a surge or unavailable that cannot be read."""
    spec = spec_of(live)
    strategy = (spec.get("strategy") or {}).get("type") or ROLLING_UPDATE
    sets = [_observed(each) for each in in_order(replica_sets) if not is_deleting(each)]
    return Fleet(live, template_digest(spec.get("template") or {}), sets, strategy, _budget(spec, strategy))


def _observed(live: Json) -> ReplicaSet:
    spec, status, notes = spec_of(live), status_of(live), annotations_of(live)
    size = int(spec.get("replicas", 1))
    return ReplicaSet(
        live=live, digest=template_digest(spec.get("template") or {}), size=size,
        total=int(status.get("replicas") or 0), leaving=int(status.get("terminatingReplicas") or 0),
        ready=int(status.get("readyReplicas") or 0),
        available=min(int(status.get("availableReplicas") or 0), size),
        desired=notes.get(labels.FLEET_DESIRED_REPLICAS, ""), most=notes.get(labels.FLEET_MAX_REPLICAS, ""),
        revision=number(notes.get(labels.FLEET_REVISION)),
    )  # fmt: skip


def number(text: str | None) -> int:
    """0 for what is none."""
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _budget(spec: Json, strategy: str) -> Budget:
    desired = max(0, int(spec.get("replicas", 1)))
    if strategy != ROLLING_UPDATE:
        return Budget(desired, 0, 0)
    asked = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    surge, unavailable = resolve(
        asked.get("maxSurge", DEFAULT_PART), asked.get("maxUnavailable", DEFAULT_PART), desired
    )  # fmt: skip
    return Budget(desired, surge, min(unavailable, desired))


def collisions(fleet: Fleet, memory: Memory) -> int:
    """`collisionCount`: raised past every name that somebody else, or another template, has."""
    count = int(status_of(fleet.live).get("collisionCount") or 0)
    taken = {each.name for each in fleet.sets if each.digest != fleet.digest}
    taken |= {
        failure.step.partition("/")[2]
        for failure in failures_of(memory, generation_of(fleet.live))
        if failure.cause == "name-conflict"
    }
    while replica_set_name(fleet, count) in taken:
        count += 1
    return count


def replica_set_name(fleet: Fleet, collisions: int) -> str:
    return f"{fleet.name}-{names.short_hash(fleet.digest, collisions)}"


def lacks_annotations(fleet: Fleet, new: ReplicaSet) -> bool:
    return not copied_annotations(fleet.live).items() <= annotations_of(new.live).items()
