"""Ends drains early: asks the engine of a pod that is being drained whether anything still runs.

It runs beside the workflows in the process that acts and notes on the pod what it saw. `drainSeconds` stays the limit:
an engine that does not answer, has no gauges or is never idle gets all of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp

from activities.errors import KubeError
from activities.kube import STRATEGIC_MERGE_PATCH, KubeClient
from activities.resources import PODS
from activities.store import Cache
from crds import labels
from planning.flight import time_in
from planning.objects import annotations_of, is_deleting, labels_of, name_of, status_of, uid_of
from planning.planner import Json

log = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 1.0
# Whoever routes has heard of the closed gate by then, and what was on its way has arrived.
LINGER: Final = timedelta(seconds=2)
IDLE_LOOKS: Final = 2
ANSWER_SECONDS: Final = 2.0
PAGE_LIMIT_BYTES: Final = 4 * 1024 * 1024
_GAUGE: Final = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|sglang:num_(?:running|queue)_reqs|trtllm_num_requests_(?:running|waiting))"
    r"(?:\{[^\n]*\})?[ \t]+([0-9.eE+]+)",
    re.MULTILINE,
)


class Drains:
    """Looks after all drained pods of the cache; `run` does so for ever."""

    def __init__(self, client: KubeClient, cache: Cache) -> None:
        self._client = client
        self._pods = cache.stores[PODS.key]
        self._idle: Counter[str] = Counter()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await self.look(session)
                await asyncio.sleep(PERIOD_SECONDS)

    async def look(self, session: aiohttp.ClientSession) -> None:
        now = datetime.now(UTC)
        drained = [pod for pod in self._pods.objects() if is_draining(pod, now)]
        self._idle = Counter({uid: self._idle[uid] for uid in map(uid_of, drained)})
        await asyncio.gather(*(self._one(session, pod) for pod in drained))

    async def _one(self, session: aiohttp.ClientSession, pod: Json) -> None:
        requests = await running_requests(session, pod)
        self._idle[uid_of(pod)] = self._idle[uid_of(pod)] + 1 if requests == 0 else 0
        if self._idle[uid_of(pod)] < IDLE_LOOKS:
            return
        metadata = pod["metadata"]
        noted = {labels.DRAINED: annotations_of(pod)[labels.DRAIN_SINCE]}
        body = {"metadata": {"uid": metadata["uid"], "annotations": noted}}
        try:
            await self._client.patch(PODS, metadata["namespace"], name_of(pod), body, STRATEGIC_MERGE_PATCH)
        except KubeError as error:
            log.info("drain-not-noted pod=%s error=%s", name_of(pod), error)
        else:
            log.info("drained pod=%s", name_of(pod))


def is_draining(pod: Json, now: datetime) -> bool:
    """Its drain has begun a little while ago, and nobody has noted its end."""
    noted = annotations_of(pod)
    since = time_in(noted.get(labels.DRAIN_SINCE))
    if since is None or noted.get(labels.DRAINED) == noted[labels.DRAIN_SINCE] or is_deleting(pod):
        return False
    return now >= since + LINGER


async def running_requests(session: aiohttp.ClientSession, pod: Json) -> float | None:
    """Requests that the engine says are running or waiting; None when it does not say."""
    address = status_of(pod).get("podIP")
    if not address:
        return None
    host = f"[{address}]" if ":" in address else address
    try:
        async with session.get(f"http://{host}:{metric_port(pod)}/metrics") as answer:
            page = await answer.content.read(PAGE_LIMIT_BYTES)
            return requests_in(page.decode(errors="replace")) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


def metric_port(pod: Json) -> str:
    found = labels_of(pod)
    return found.get(labels.MODEL_METRIC_PORT) or found.get(labels.MODEL_PORT) or str(labels.DEFAULT_MODEL_PORT)


def requests_in(page: str) -> float | None:
    """The sum over engines and models of a page of metrics; None when no engine that we know wrote it."""
    found = [float(value) for value in _GAUGE.findall(page)]
    return sum(found) if found else None
