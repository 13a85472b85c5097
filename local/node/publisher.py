"""Sends a pod's status: one request at a time, only differences, again until it has arrived."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import aiohttp

from local.node.api import STRATEGIC, ApiClient, ApiError, ConflictError, NotFoundError
from local.node.files import Json
from local.node.pod_state import PodState

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
FINAL_TRIES = 5


class StatusPublisher:
    """Writes the status subresource of one pod."""

    def __init__(self, api: ApiClient, state: PodState) -> None:
        self._api = api
        self._state = state
        self._sent: Json | None = None
        self._make: Callable[[], Json] | None = None
        self._task: asyncio.Task[None] | None = None

    def offer(self, make: Callable[[], Json]) -> None:
        """Sends `make()` soon, unless it is what was sent last."""
        self._make = make
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def final(self, make: Callable[[], Json]) -> None:
        """Sends `make()` now, with a few tries."""
        await self.close()
        for _ in range(FINAL_TRIES):
            if await self._send(make()):
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Stops sending."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while self._make is not None:
            make, self._make = self._make, None
            if not await self._send(make()):
                self._make = self._make or make
                await asyncio.sleep(RETRY_SECONDS)

    def _is_shown(self, status: Json) -> bool:
        """Whether the object says the same: the node controller marks pods of a silent node as not ready."""
        known = self._state.pod.get("status", {})
        shown = {one["type"]: one["status"] for one in known.get("conditions", ())}
        wanted = {one["type"]: one["status"] for one in status["conditions"]}
        return known.get("phase") == status["phase"] and wanted.items() <= shown.items()

    async def _send(self, status: Json) -> bool:
        """Whether nothing is left to send. Answers update what is known of the pod's status."""
        if status == self._sent and self._is_shown(status):
            return True
        metadata = self._state.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        body = {"metadata": {"uid": metadata["uid"]}, "status": _as_patch(status)}
        try:
            answer = await self._api.request("PATCH", path, body, STRATEGIC)
        except (NotFoundError, ConflictError):
            return True
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("status_not_sent pod=%s error=%r", self._state.title, error)
            return False
        self._sent = status
        self._state.pod["status"] = answer["status"]
        self._state.pod["metadata"]["resourceVersion"] = answer["metadata"]["resourceVersion"]
        return True


def _as_patch(status: Json) -> Json:
    """Address lists are merged by a strategic patch unless it says that they are whole."""
    lists = {key: [*status[key], {"$patch": "replace"}] for key in ("podIPs", "hostIPs") if key in status}
    return status | lists
