"""Kubernetes Events: what `kubectl describe` shows of the decisions. Repeats raise a count instead of adding objects.

Recording never waits and never fails a step: a full queue or a refused write is logged and dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from activities.errors import KubeError, KubeNotFound
from activities.kube import KubeClient
from planning.planner import Json, Resource

log = logging.getLogger(__name__)

EVENTS = Resource(group="", version="v1", plural="events", kind="Event")
QUEUE_LIMIT = 5000
REMEMBERED = 2000
AGGREGATE_SECONDS = 600.0
MESSAGE_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One thing that happened to an object. `type` is Normal or Warning."""

    about: Json
    type: str
    reason: str
    message: str
    at: datetime

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.about["metadata"]["uid"], self.type, self.reason, self.message)


@dataclass(slots=True)
class _Known:
    name: str
    count: int
    until: float


class EventRecorder:
    """Writes occurrences one after another in the background; `run` lasts until cancelled."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._queue: asyncio.Queue[Occurrence] = asyncio.Queue(QUEUE_LIMIT)
        self._known: OrderedDict[tuple[str, str, str, str], _Known] = OrderedDict()

    def record(self, about: Json, kind: str, reason: str, message: str) -> None:
        try:
            self._queue.put_nowait(Occurrence(about, kind, reason, message, datetime.now(UTC)))
        except asyncio.QueueFull:
            log.warning("event-dropped reason=%s object=%s", reason, about["metadata"]["name"])

    async def run(self) -> None:
        while True:
            occurrence = await self._queue.get()
            try:
                await self._write(occurrence)
            except KubeError as error:
                log.info("event-refused reason=%s error=%s", occurrence.reason, error)
            finally:
                self._queue.task_done()

    async def flush(self, seconds: float) -> None:
        """Write what is queued, for at most `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), seconds)

    async def _write(self, occurrence: Occurrence) -> None:
        known = self._known.get(occurrence.key)
        if known is not None and known.until > time.monotonic():
            known.count += 1
            if await self._raise_count(occurrence, known):
                return
        name = _event_name(occurrence)
        namespace = occurrence.about["metadata"]["namespace"]
        await self._client.create(EVENTS, namespace, _event(occurrence, name))
        self._known[occurrence.key] = _Known(name, 1, time.monotonic() + AGGREGATE_SECONDS)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def _raise_count(self, occurrence: Occurrence, known: _Known) -> bool:
        body = {"count": known.count, "lastTimestamp": _stamp(occurrence.at)}
        try:
            await self._client.patch(EVENTS, occurrence.about["metadata"]["namespace"], known.name, body)
        except KubeNotFound:
            return False
        return True


def _event_name(occurrence: Occurrence) -> str:
    seed = "/".join((*occurrence.key, occurrence.at.isoformat()))
    digest = hashlib.sha256(seed.encode()).hexdigest()[:16]
    return f"{occurrence.about['metadata']['name'][:230]}.{digest}"


def _event(occurrence: Occurrence, name: str) -> Json:
    about, stamp = occurrence.about, _stamp(occurrence.at)
    component = f"{about['kind'].lower()}-controller"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": about["metadata"]["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": about["metadata"]["namespace"],
            "name": about["metadata"]["name"],
            "uid": about["metadata"]["uid"],
            "resourceVersion": about["metadata"].get("resourceVersion", ""),
        },
        "type": occurrence.type,
        "reason": occurrence.reason,
        "message": occurrence.message.encode()[:MESSAGE_BYTES].decode(errors="ignore"),
        "source": {"component": component},
        "reportingComponent": component,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
