"""Keeps the HTTPRoutes of models, and the grants that let them lead into other namespaces, as their objects ask.

    Deployments, fleets, adapters, LeaderWorkerSets ──┐ metadata only
    HTTPRoutes of the Gateway's namespace, grants ────┴─► plan (pure) ──► apply, delete

One pass looks at all of them: it keeps no memory, so whatever was missed is mended by the next one. Where the Gateway
API is not installed nothing is done, until it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from activities.errors import KubeError, KubeNotFound
from activities.events import EventRecorder
from activities.informer import Informer, back_off
from activities.kube import KubeClient
from activities.store import Store
from crds import labels
from planning.model_routes import HTTP_ROUTES, REFERENCE_GRANTS, SOURCES, RoutePlan, facts_of, plan
from planning.objects import name_of
from planning.planner import Json, Resource

log = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 0.1
RESYNC_SECONDS: Final = 300.0
RETRY_FAILURES: Final = 6
"""How many failures a fault of ours counts for: it comes back, most likely."""


class ModelRoutes:
    """`run` lasts until cancelled; `timeout` is how long a request through a model's route may take."""

    def __init__(self, client: KubeClient, recorder: EventRecorder, timeout: timedelta) -> None:
        self._client = client
        self._recorder = recorder
        self._timeout = timeout
        self._changed = asyncio.Event()
        self._sources = [self._store(resource) for resource in SOURCES]
        self._routes, self._grants = self._store(HTTP_ROUTES), self._store(REFERENCE_GRANTS)
        self._facts: dict[str, tuple[str | None, ...]] = {}
        self._refused: set[tuple[str, str]] = set()

    def _store(self, resource: Resource) -> Store:
        store = Store(resource, lambda uid: self._notice(store, uid))
        store.served_changed = self._changed.set
        return store

    def _notice(self, store: Store, uid: str) -> None:
        """Deployments change all the time: only what a route is made from asks for a pass."""
        if store.resource not in SOURCES:
            self._changed.set()
            return
        found = store.by_uid(uid)
        facts = facts_of(found) if found is not None else ()
        if facts != self._facts.get(uid, ()):
            self._facts[uid] = facts
            self._changed.set()
        if not facts:
            self._facts.pop(uid, None)

    async def run(self) -> None:
        """A fault of ours ends no more than the watches of the moment."""
        while True:
            try:
                await self._watch()
            except Exception:
                log.exception("model-routes-failed")
                await asyncio.sleep(back_off(RETRY_FAILURES))

    async def _watch(self) -> None:
        stores = [*self._sources, self._routes, self._grants]
        async with asyncio.TaskGroup() as tasks:
            for store in self._sources:
                tasks.create_task(Informer(self._client, store, metadata_only=True).run())
            own = Informer(self._client, self._routes, namespace=labels.SYSTEM_NAMESPACE)
            tasks.create_task(own.run())
            tasks.create_task(Informer(self._client, self._grants).run())
            for store in stores:
                await store.synced.wait()
            await self._keep()

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._changed.clear()
            if self._routes.served and self._grants.served:
                failures = 0 if await self._pass() else failures + 1
            seconds = back_off(failures) if failures else RESYNC_SECONDS
            try:
                await asyncio.wait_for(self._changed.wait(), seconds)
            except TimeoutError:
                continue
            await asyncio.sleep(SETTLE_SECONDS)

    async def _pass(self) -> bool:
        """Whether all that is wanted was written."""
        sources = [each for store in self._sources for each in store.objects()]
        found = plan(sources, self._routes.objects(), self._grants.objects(), self._timeout)
        self._tell(found)
        done = [await self._apply(body) for body in found.applies]
        done += [await self._delete(live) for live in found.deletes]
        return all(done)

    async def _apply(self, body: Json) -> bool:
        store, metadata = self._of(body), body["metadata"]
        try:
            store.put_own(await self._client.apply(store.resource, metadata["namespace"], body))
        except KubeError as error:
            log.warning("model-route-failed %s error=%s", _named(body), error)
            return False
        log.info("model-route-applied %s", _named(body))
        return True

    async def _delete(self, live: Json) -> bool:
        store, metadata = self._of(live), live["metadata"]
        try:
            await self._client.delete(
                store.resource, metadata["namespace"], metadata["name"], metadata["uid"], metadata["resourceVersion"]
            )
        except KubeNotFound:
            return True
        except KubeError as error:
            log.warning("model-route-failed %s error=%s", _named(live), error)
            return False
        log.info("model-route-deleted %s", _named(live))
        return True

    def _of(self, body: Json) -> Store:
        return self._routes if body["kind"] == HTTP_ROUTES.kind else self._grants

    def _tell(self, found: RoutePlan) -> None:
        """An Event for each object that gets no route, once."""
        said = {(source["metadata"]["uid"], why) for source, why in found.refused}
        fresh: Sequence[tuple[Json, str]] = [
            (source, why) for source, why in found.refused if (source["metadata"]["uid"], why) not in self._refused
        ]
        self._refused = said
        for source, why in fresh:
            self._recorder.record(source, "Warning", labels.EVENT_ROUTE_TAKEN, why)


def _named(body: Json) -> str:
    return f"kind={body['kind']} namespace={body['metadata']['namespace']} name={name_of(body)}"
