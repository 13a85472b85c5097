"""Writes `.status` when it differs from what the API server has; condition times alone are no difference."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from itertools import takewhile
from typing import Any, Final

from activities.errors import KubeConflict, KubeError, KubeNotFound
from activities.kube import KubeClient
from activities.metrics import Metrics
from activities.store import Store
from planning.planner import Json

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.1
PAUSE_PER_WRITE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0
AFTER_REFUSED_SECONDS: Final = 1.0
CONDITION_TIMES = frozenset({"lastTransitionTime", "lastUpdateTime", "lastUpdateMicroTime", "lastProbeTime"})


def same_status(one: Any, other: Any) -> bool:
    """Semantic equality: times inside conditions do not count, nor does an empty value against a missing one."""
    return bool(_essence(one) == _essence(other))


def _essence(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _essence(each) for key, each in value.items() if key not in CONDITION_TIMES}
        return {key: each for key, each in kept.items() if each not in (None, {}, [], "")}
    if isinstance(value, list):
        return [_essence(each) for each in value]
    return value


class Pace:
    """How long an object's next status write waits after its last one: the longer, the more is written in all.

    A change after a quiet moment is written at once; in a burst what changes meanwhile goes in one write.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()

    def seconds_left(self, uid: str, clock: float) -> float:
        last = self._last.get(uid)
        if last is None:
            return 0.0
        lately = sum(1 for _ in takewhile(lambda at: at > clock - 1.0, reversed(self._last.values())))
        return last + min(FIRST_PAUSE_SECONDS + lately * PAUSE_PER_WRITE_SECONDS, LONGEST_PAUSE_SECONDS) - clock

    def wrote(self, uid: str, clock: float) -> None:
        self._last[uid] = clock
        self._last.move_to_end(uid)
        while self._last and next(iter(self._last.values())) < clock - LONGEST_PAUSE_SECONDS:
            self._last.popitem(last=False)


class StatusWriter:
    """One PUT of the status subresource; `write` answers the seconds after which to plan again, 0 when all is said."""

    def __init__(self, client: KubeClient, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics
        self._pace = Pace()

    async def write(self, store: Store, live: Json, status: Json, *, hurry: bool = False) -> float:
        if same_status(live.get("status") or {}, status):
            return 0.0
        uid, kind = live["metadata"]["uid"], live["kind"]
        left = self._pace.seconds_left(uid, time.monotonic())
        if left > 0 and not hurry:
            return left
        try:
            answer = await self._put(store, live, status)
        except (KubeConflict, KubeNotFound):
            self._metrics.status_writes.labels(kind, "conflict").inc()
            return AFTER_REFUSED_SECONDS
        except KubeError as error:
            self._metrics.status_writes.labels(kind, "failed").inc()
            log.warning("status-failed kind=%s name=%s error=%s", kind, live["metadata"]["name"], error)
            return AFTER_REFUSED_SECONDS
        self._metrics.status_writes.labels(kind, "written").inc()
        self._pace.wrote(uid, time.monotonic())
        store.put_own(answer)
        return 0.0

    async def _put(self, store: Store, live: Json, status: Json) -> Json:
        metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        body = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "status": status}
        return await self._client.replace(
            store.resource, metadata["namespace"], metadata["name"], body | _required(live), sub="status"
        )


def _required(live: Json) -> Json:
    """The spec goes along: a schema may demand it, although this subresource ignores it."""
    return {"spec": live["spec"]} if "spec" in live else {}
