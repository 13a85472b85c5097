"""Keeps one store equal to the API server: a list, then a watch from the list's resourceVersion, for ever.

    list ──► watch ──(server ends it after 5-10 min)──► watch from the last version
      ▲        ├──(connection lost)──► back off, watch from the last version
      │        └──(410, or silent for longer than bookmarks are apart)──┐
      └─────────────────────────────────────────────────────────────────┘

A list is read in pages from one consistent version; what it lacks was deleted while nobody watched.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

import aiohttp

from activities.errors import KubeAmbiguous, KubeError, KubeExpired, KubeForbidden, KubeNotFound, error_from
from activities.kube import KubeClient, path_of, trimmed, version_number
from activities.store import Store
from planning.planner import Json

log = logging.getLogger(__name__)

WATCH_SECONDS = (300, 600)
SILENCE_SECONDS = 150.0
"""Bookmarks come once a minute: two missing ones mean that the connection is dead."""
SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner is not asked for again without a pause."""
PAGE = 500
LIST_SECONDS = 60.0
BACK_OFF_SECONDS = (0.2, 20.0)
ABSENT_SECONDS = 5.0
"""How often an optional kind is asked for that the API server does not serve."""


class WatchSilent(KubeAmbiguous):
    """Not even a bookmark came: events may be lost, so list again."""


class Informer:
    """Runs until cancelled; `store.synced` is set after the first list."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        *,
        namespace: str | None = None,
        silence_seconds: float = SILENCE_SECONDS,
        metadata_only: bool = False,
        relisted: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`metadata_only`: objects without spec and status, for kinds with many large ones."""
        self._client = client
        self._store = store
        self._path = path_of(store.resource, namespace)
        self._silence_seconds = silence_seconds
        self._relisted = relisted
        self._version = ""
        self._metadata_only = metadata_only

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                began = time.monotonic()
                await self._watch()
                failures = 0
                if time.monotonic() - began < SHORT_WATCH_SECONDS:
                    await asyncio.sleep(back_off(1))
            except (KubeExpired, WatchSilent) as error:
                log.info("relist resource=%s why=%s", self._store.resource.key, error)
                self._version = ""
            except (KubeNotFound, KubeForbidden) as error:
                self._version = ""
                failures = await self._refused(error, failures)
            except KubeError as error:
                failures = await self._failed(error, failures)

    async def _refused(self, error: KubeError, failures: int) -> int:
        """No such kind, or no right to it: for an optional one that is an answer."""
        if not self._store.resource.optional:
            return await self._failed(error, failures)
        if self._store.served or not self._store.synced.is_set():
            log.info("absent resource=%s why=%s", self._store.resource.key, error)
        self._store.absent()
        await asyncio.sleep(ABSENT_SECONDS)
        return 0

    async def _failed(self, error: KubeError, failures: int) -> int:
        pause = back_off(failures + 1)
        log.warning("watch-failed resource=%s pause=%.1f error=%s", self._store.resource.key, pause, error)
        await asyncio.sleep(pause)
        return failures + 1

    async def _list(self) -> None:
        params = {"limit": str(PAGE)}
        objects: list[Json] = []
        while True:
            page = await self._client.call(
                "GET", self._path, params=params, deadline=LIST_SECONDS, accept=self._form("List")
            )
            objects.extend(self._completed(item) for item in page.get("items") or [])
            following = page["metadata"].get("continue")
            if not following:
                break
            params = {"limit": str(PAGE), "continue": following}
        self._store.replace(objects, version_number(page))
        self._version = page["metadata"]["resourceVersion"]
        self._relisted(self._store.resource.key)

    def _completed(self, item: Json) -> Json:
        """Items of a list carry neither apiVersion nor kind; metadata alone carries its own."""
        item["apiVersion"] = self._store.resource.api_version
        item["kind"] = self._store.resource.kind
        return trimmed(item)

    def _form(self, suffix: str = "") -> str:
        """What to ask for: whole objects, or their metadata alone."""
        return f"application/json;as=PartialObjectMetadata{suffix};g=meta.k8s.io;v=v1" if self._metadata_only else ""

    async def _watch(self) -> None:
        params = {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311 - spreads load, no secret
        }
        try:
            async for event in self._client.watch(self._path, params, self._silence_seconds, self._form()):
                self._take(event)
        except KubeAmbiguous as error:
            if isinstance(error.__cause__, aiohttp.SocketTimeoutError):
                raise WatchSilent(f"silent for {self._silence_seconds:.0f} s") from error
            raise

    def _take(self, event: Json) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            raise error_from(int(obj.get("code", 500)), str(obj.get("message", "")).encode())
        if kind in ("ADDED", "MODIFIED"):
            self._store.put(self._completed(obj))
        elif kind == "DELETED":
            self._store.remove(obj)
        self._version = obj["metadata"]["resourceVersion"]
        self._store.seen = version_number(obj)


def back_off(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, capped, spread by a half."""
    least, most = BACK_OFF_SECONDS
    longest: float = min(least * 2.0 ** min(failures, 10), most)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
