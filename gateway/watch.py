"""The pods that name a model, kept up to date by list and watch.

While the API server is away the last known pods stay. After a lost connection the watch goes on from the last version;
only a version that the server has forgotten costs a new list. A watch lasts at most `WATCH_SECONDS`, so that a dead
connection that nobody closed is noticed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import aiohttp

from crds import labels
from gateway.kube import KubeClient, KubeError, KubeRefused, WatchExpired
from gateway.topology import Endpoint, endpoint_of

PODS = "/api/v1/pods"
PAGE = "500"
WATCH_SECONDS = 60
WATCH_GRACE_SECONDS = 10
LIST_SECONDS = 60
FIRST_BACK_OFF_SECONDS = 0.1
LAST_BACK_OFF_SECONDS = 3.0

log = logging.getLogger(__name__)


class PodWatch:
    """All endpoints of the cluster by pod uid. `changed` is called after each batch of changes."""

    def __init__(self, client: KubeClient, changed: Callable[[], None]) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.is_synced = False
        self._client = client
        self._changed = changed
        self._version = ""
        self._back_off = FIRST_BACK_OFF_SECONDS

    async def run(self) -> None:
        """Follow the pods until cancelled; every failure is retried."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                self._back_off = FIRST_BACK_OFF_SECONDS
            except WatchExpired:
                log.info("event=watch_expired version=%s", self._version)
                self._version = ""
            except (KubeError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                await self._wait_after(error)

    async def _wait_after(self, error: Exception) -> None:
        pause = self._back_off * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        log.warning("event=watch_failed pods=%d retry_seconds=%.1f error=%r", len(self.endpoints), pause, error)
        self._back_off = min(self._back_off * 2, LAST_BACK_OFF_SECONDS)
        await asyncio.sleep(pause)

    async def _list(self) -> None:
        found: dict[str, Endpoint] = {}
        query = {"labelSelector": labels.MODEL_NAME, "limit": PAGE}
        while True:
            page = await self._client.get(PODS, query, LIST_SECONDS)
            for pod in page["items"]:
                _take(found, pod)
            following = page["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        self.endpoints, self._version, self.is_synced = found, page["metadata"]["resourceVersion"], True
        log.info("event=pods_listed pods=%d version=%s", len(found), self._version)
        self._changed()

    async def _watch(self) -> None:
        query = {
            "watch": "1",
            "labelSelector": labels.MODEL_NAME,
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async for events in self._client.watch(PODS, query, WATCH_SECONDS + WATCH_GRACE_SECONDS):
            self._back_off = FIRST_BACK_OFF_SECONDS
            changes = [self._apply(event) for event in events]
            if any(changes):
                self._changed()

    def _apply(self, event: dict[str, Any]) -> bool:
        kind, subject = event["type"], event["object"]
        if kind == "ERROR":
            raise WatchExpired("expired") if subject.get("code") == 410 else KubeRefused(str(subject.get("message")))
        self._version = subject["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return False
        before = self.endpoints.get(subject["metadata"]["uid"])
        if kind == "DELETED":
            self.endpoints.pop(subject["metadata"]["uid"], None)
            return before is not None
        return _take(self.endpoints, subject) != before


def _take(endpoints: dict[str, Endpoint], pod: dict[str, Any]) -> Endpoint | None:
    endpoint, uid = endpoint_of(pod), pod["metadata"]["uid"]
    if endpoint is None:
        endpoints.pop(uid, None)
    else:
        endpoints[uid] = endpoint
    return endpoint
