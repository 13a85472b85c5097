"""A stand-in for nodes that runs containers on paper: image ids, restarts, gates and conditions of a kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from activities.errors import KubeError
from activities.kube import STRATEGIC_MERGE_PATCH, path_of
from activities.resources import PODS
from planning.flight import has_gate
from planning.objects import condition, format_time, generation_of, is_condition_true, name_of, status_of
from planning.planner import Json
from tests.workflows.rig import World

GATE = "stormservice.orchestration.aibrix.ai/in-place-update-ready"


class PaperNode:
    """Containers of images in `broken` never run; `address` is every pod's."""

    def __init__(self, world: World, *, broken: str = "none", address: str = "10.1.2.3") -> None:
        self.world, self.broken, self.address = world, broken, address

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def run() -> None:
            while True:
                with suppress(KubeError):
                    await self.once()
                await asyncio.sleep(0.1)

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            task.cancel()

    async def once(self) -> None:
        for pod in await self.world.all(PODS):
            if "deletionTimestamp" not in pod["metadata"]:
                await self._publish(pod, self._status(pod))

    async def _publish(self, pod: Json, status: Json) -> None:
        known = status_of(pod)
        conditions = {each["type"]: each["status"] for each in known.get("conditions") or ()}
        same = all(conditions.get(each["type"]) == each["status"] for each in status["conditions"])
        if same and all(known.get(key) == value for key, value in status.items() if key != "conditions"):
            return
        path = path_of(PODS, self.world.namespace, name_of(pod), "status")
        with suppress(KubeError):
            await self.world.client.call("PATCH", path, body={"status": status}, content_type=STRATEGIC_MERGE_PATCH)

    def _status(self, pod: Json) -> Json:
        before = {each["name"]: each for each in status_of(pod).get("containerStatuses") or ()}
        statuses = [self._container(one, before.get(one["name"])) for one in pod["spec"]["containers"]]
        runs = all(each["ready"] for each in statuses)
        ready = runs and (not has_gate(pod) or is_condition_true(pod, GATE))
        values = {"PodScheduled": True, "ContainersReady": runs, "Ready": ready}
        return {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "observedGeneration": generation_of(pod),
            "containerStatuses": statuses,
            "conditions": [_condition(pod, kind, value) for kind, value in values.items()],
        }

    def _container(self, container: Json, before: Json | None) -> Json:
        image, works = container["image"], self.broken not in container["image"]
        image_id = f"sha256:{image}" if works or before is None else before["imageID"]
        restarts = before["restartCount"] + (before["imageID"] != image_id) if before else 0
        state: Json = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        if not works:
            state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
        return {
            "name": container["name"], "image": image, "imageID": image_id, "restartCount": restarts, "ready": works,
            "started": works, "state": state, "lastState": {},
        }  # fmt: skip


def _condition(pod: Json, kind: str, value: bool) -> Json:
    known: Any = condition(pod, kind)
    text = "True" if value else "False"
    at = known.get("lastTransitionTime") if known.get("status") == text else None
    return {"type": kind, "status": text, "lastTransitionTime": at or format_time(datetime.now(UTC))}
