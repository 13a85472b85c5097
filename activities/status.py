"""Writes `.status` when it differs from what the API server has; condition times alone are no difference."""

from __future__ import annotations

import logging
from typing import Any

from activities.errors import KubeConflict, KubeError, KubeNotFound
from activities.kube import KubeClient
from activities.metrics import Metrics
from activities.store import Store
from planning.planner import Json

log = logging.getLogger(__name__)

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


class StatusWriter:
    """One PUT of the status subresource; True unless the caller should plan again (conflict) or later (refused)."""

    def __init__(self, client: KubeClient, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics

    async def write(self, store: Store, live: Json, status: Json) -> bool:
        if same_status(live.get("status") or {}, status):
            return True
        kind = live["kind"]
        try:
            answer = await self._put(store, live, status)
        except (KubeConflict, KubeNotFound):
            self._metrics.status_writes.labels(kind, "conflict").inc()
            return False
        except KubeError as error:
            self._metrics.status_writes.labels(kind, "failed").inc()
            log.warning("status-failed kind=%s name=%s error=%s", kind, live["metadata"]["name"], error)
            return False
        self._metrics.status_writes.labels(kind, "written").inc()
        store.put_own(answer)
        return True

    async def _put(self, store: Store, live: Json, status: Json) -> Json:
        metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        body = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "status": status}
        return await self._client.replace(
            store.resource, metadata["namespace"], metadata["name"], body | _required(live), sub="status"
        )


def _required(live: Json) -> Json:
    """The spec goes along: a schema may demand it, although this subresource ignores it."""
    return {"spec": live["spec"]} if "spec" in live else {}
