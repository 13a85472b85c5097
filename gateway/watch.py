"""The pods that have to do with models, and the adapters loaded into them, kept up to date by list and watch.

While the API server is away the last known objects stay. After a lost connection the watch goes on from the last
version; only a version that the server has forgotten costs a new list. A watch lasts at most `WATCH_SECONDS`, so that
a dead connection that nobody closed is noticed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import aiohttp

from crds import labels
from gateway.claims import ModelPod, WarmPod, model_pod_of
from gateway.kube import KubeClient, KubeError, KubeRefused, WatchExpired
from gateway.topology import Adapter, Endpoint, Json, adapter_of

PODS = "/api/v1/pods"
ADAPTERS = f"/apis/{labels.MODEL_GROUP}/{labels.VERSION}/modeladapters"
PAGE = "500"
WATCH_SECONDS = 60
WATCH_GRACE_SECONDS = 10
LIST_SECONDS = 60
FIRST_BACK_OFF_SECONDS = 0.1
LAST_BACK_OFF_SECONDS = 3.0

log = logging.getLogger(__name__)
Value = TypeVar("Value")


class ObjectWatch(Generic[Value]):
    """What `take` makes of each object of one kind, by uid. `changed` is called after each batch of changes."""

    def __init__(
        self, client: KubeClient, path: str, selector: str, take: Callable[[Json], Value | None],
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.values: dict[str, Value] = {}
        self.is_synced = False
        self.has_failed = False
        """The server gave an error, or nothing, before the first list."""
        self._client = client
        self._path = path
        self._query = {"labelSelector": selector} if selector else {}
        self._take = take
        self._changed = changed
        self._version = ""
        self._back_off = FIRST_BACK_OFF_SECONDS

    async def run(self) -> None:
        """Follow the objects until cancelled; every failure is retried."""
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
        known = len(self.values)
        log.warning("event=watch_failed path=%s known=%d retry_seconds=%.1f error=%r", self._path, known, pause, error)
        if not self.is_synced and not self.has_failed:
            self.has_failed = True
            self._changed()
        self._back_off = min(self._back_off * 2, LAST_BACK_OFF_SECONDS)
        await asyncio.sleep(pause)

    async def _list(self) -> None:
        found: dict[str, Value] = {}
        query = self._query | {"limit": PAGE}
        while True:
            page = await self._client.get(self._path, query, LIST_SECONDS)
            for each in page["items"]:
                self._put(found, each)
            following = page["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        self.values, self._version, self.is_synced = found, page["metadata"]["resourceVersion"], True
        log.info("event=listed path=%s known=%d version=%s", self._path, len(found), self._version)
        self._changed()

    async def _watch(self) -> None:
        query = self._query | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async for events in self._client.watch(self._path, query, WATCH_SECONDS + WATCH_GRACE_SECONDS):
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
        before = self.values.get(subject["metadata"]["uid"])
        if kind == "DELETED":
            self.values.pop(subject["metadata"]["uid"], None)
            return before is not None
        return self._put(self.values, subject) != before

    def _put(self, values: dict[str, Value], subject: Json) -> Value | None:
        value, uid = self._take(subject), subject["metadata"]["uid"]
        if value is None:
            values.pop(uid, None)
        else:
            values[uid] = value
        return value


class PodWatch(ObjectWatch[ModelPod]):
    """All pods of the cluster that name a model or that claims are bound to.

    Annotations may do both, and no selector sees those: all pods pass here, and a slim record is kept of a few.
    """

    def __init__(self, client: KubeClient, changed: Callable[[], None], selector: str = "") -> None:
        super().__init__(client, PODS, selector, model_pod_of, changed)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """Those that name a model, by uid."""
        return {uid: each.endpoint for uid, each in self.values.items() if each.endpoint}

    @property
    def warm_pods(self) -> list[WarmPod]:
        """Those that claims are bound to."""
        return [each.warm for each in self.values.values() if each.warm]


class AdapterWatch(ObjectWatch[Adapter]):
    """All adapters of the cluster."""

    def __init__(self, client: KubeClient, changed: Callable[[], None]) -> None:
        super().__init__(client, ADAPTERS, "", adapter_of, changed)

    @property
    def is_settled(self) -> bool:
        """They are known, or cannot be: a cluster need not have the kind."""
        return self.is_synced or self.has_failed
