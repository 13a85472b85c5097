"""Events on pods and the node: repeated ones are counted on one object, and each object has a budget."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

import aiohttp

from local.node.api import ApiClient, ApiError, NotFoundError
from local.node.files import Json
from local.node.status import timestamp

log = logging.getLogger(__name__)

BURST = 25.0
REFILL_SECONDS = 300.0
MEMORY_SECONDS = 3600.0


@dataclass
class _Budget:
    tokens: float = BURST
    at: float = field(default_factory=time.monotonic)

    def take(self, now: float) -> bool:
        self.tokens = min(BURST, self.tokens + (now - self.at) / REFILL_SECONDS)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class _Known:
    name: str
    count: int
    at: float


class EventRecorder:
    """Writes events in the background; a lost one is lost."""

    def __init__(self, api: ApiClient, node: str) -> None:
        self._api = api
        self._node = node
        self._queue: asyncio.Queue[tuple[Json, str, str, str]] = asyncio.Queue(maxsize=1000)
        self._known: dict[tuple[str, str, str, str], _Known] = {}
        self._budgets: dict[str, _Budget] = {}

    def record(self, pod: Json, kind: str, reason: str, message: str, container: str = "") -> None:
        """Queues an event on `pod`; never waits."""
        metadata = pod["metadata"]
        identity = {key: metadata[key] for key in ("name", "namespace", "uid")}
        involved = {"apiVersion": "v1", "kind": "Pod", **identity}
        if container:
            inits = {one["name"] for one in pod["spec"].get("initContainers", ())}
            involved["fieldPath"] = f"spec.{'initContainers' if container in inits else 'containers'}{{{container}}}"
        if not self._queue.full():
            self._queue.put_nowait((involved, kind, reason, message))

    async def run(self) -> None:
        """Writes queued events until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._write(*event)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.debug("event_lost reason=%s error=%r", event[2], error)

    async def _write(self, involved: Json, kind: str, reason: str, message: str) -> None:
        now = time.monotonic()
        budget = self._budgets.setdefault(involved["uid"], _Budget(at=now))
        if not budget.take(now):
            return
        key = (involved["uid"], involved.get("fieldPath", ""), reason, message)
        known = self._known.get(key)
        if known is None or not await self._count_up(involved, known):
            self._known[key] = _Known(await self._create(involved, kind, reason, message), 1, now)
        self._forget(now)

    async def _count_up(self, involved: Json, known: _Known) -> bool:
        known.count += 1
        path = f"/api/v1/namespaces/{involved['namespace']}/events/{known.name}"
        try:
            await self._api.patch(path, {"count": known.count, "lastTimestamp": timestamp(time.time())})
        except NotFoundError:
            return False
        return True

    async def _create(self, involved: Json, kind: str, reason: str, message: str) -> str:
        name = f"{involved['name'][:200]}.{time.time_ns():x}"
        at = timestamp(time.time())
        body = {
            "metadata": {"name": name, "namespace": involved["namespace"]},
            "involvedObject": involved,
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "source": {"component": "kubelet", "host": self._node},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node,
        }
        await self._api.post(f"/api/v1/namespaces/{involved['namespace']}/events", body)
        return name

    def _forget(self, now: float) -> None:
        if len(self._known) > 4096:
            self._known = {key: known for key, known in self._known.items() if now - known.at < MEMORY_SECONDS}
        if len(self._budgets) > 4096:
            self._budgets = {uid: one for uid, one in self._budgets.items() if now - one.at < MEMORY_SECONDS}
