"""One operator: cache, activities, workers and starter, put together, and when each of them may run.

informers ──────────────────────────────── always
connect to Temporal ─► set it up ─► acquire the Lease ─► cache synced ─► workers and starter
         ▲                                                                     │
         └────────────── the Lease is lost, or a worker ends ◄─────────────────┘
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError

from activities.credentials import Credentials
from activities.decisions import Decisions
from activities.drains import Drains
from activities.edits import Edits
from activities.events import EventRecorder
from activities.informer import Informer
from activities.kube import KubeClient
from activities.metrics import Metrics
from activities.model_routes import ModelRoutes
from activities.polls import Polls
from activities.steps import Steps
from activities.store import Cache
from activities.warm_ups import WarmUps
from planning.planner import Planner
from planning.registry import PLANNERS
from workflows import temporal_setup
from workflows.admission import Admission
from workflows.health import HealthServer, free_loopback_port
from workflows.leases import Lease
from workflows.settings import OperatorSettings
from workflows.starter import Starter
from workflows.timing import timing
from workflows.workers import ActivitySet, make_worker, run_worker

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
HEALTH_CHECK_SECONDS = 5.0
FLUSH_SECONDS = 1.0


class Operator:
    """Runs until `stop` is set. `waiting_for` says what keeps it from its work, empty when nothing does."""

    def __init__(self, settings: OperatorSettings, planners: Mapping[str, Planner] = PLANNERS) -> None:
        self._settings = settings
        self._planners = planners
        credentials = Credentials(settings.kubeconfig)
        self._lease_client = KubeClient(credentials)
        self._lease = Lease(
            self._lease_client, settings.namespace, settings.identity, supervised=settings.identity_is_supervised
        )
        self._kube = KubeClient(credentials, may_write=lambda: self._lease.held)
        self.metrics = Metrics()
        self._admission = self._make_admission()
        resources = {each.key: each for planner in planners.values() for each in (planner.resource, *planner.owns)}
        self.cache = Cache(resources.values())
        self._polls = Polls(self.cache)
        self._recorder = EventRecorder(self._kube)
        self._activities = self._make_activities()
        self._temporal_waits = f"Temporal at {settings.temporal.address}"
        self.acting = False
        self._sdk_port = free_loopback_port()
        self._runtime = Runtime(
            telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=f"127.0.0.1:{self._sdk_port}"))
        )
        self._health = HealthServer(self.metrics, self.waiting_for, self._sdk_port)
        timing.heartbeat = settings.heartbeat
        self._describe_gauges()

    def waiting_for(self) -> str:
        if self.cache.unsynced:
            return f"waiting for the first list of {', '.join(self.cache.unsynced)}"
        waits = (self._admission and self._admission.waiting_for()) or self._temporal_waits
        return f"waiting for {waits}" if waits else ""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve health and metrics, watch, act while holding the Lease; release it at the end."""
        await self._health.start(self._settings.health_address, self._settings.metrics_address)
        if self._admission is not None:
            await self._admission.start()
        background: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._informer(key).run()) for key in self.cache.stores
        ]
        background.append(asyncio.create_task(self._recorder.run()))
        if self._admission is not None:
            background.append(asyncio.create_task(self._admission.run()))
        stopped = asyncio.create_task(stop.wait())
        acting = asyncio.create_task(self._act_for_ever(stop))
        try:
            await asyncio.wait([stopped, acting, *background], return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            await acting
            await self._recorder.flush(FLUSH_SECONDS)
        finally:
            await self._end([stopped, acting, *background])

    async def _end(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._lease.release()
        if self._admission is not None:
            await self._admission.stop()
        await self._health.stop()
        await self._kube.close()
        await self._lease_client.close()

    # --- acting -----------------------------------------------------------------------------------------------------

    async def _act_for_ever(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                client = await self._connected(stop)
                if client is not None and await until(stop, self._lease.acquire()):
                    await self._act(client, stop)
            except (RuntimeError, RPCError) as error:
                log.warning("acting-failed error=%s", error)
                await until(stop, asyncio.sleep(RETRY_SECONDS))

    async def _connected(self, stop: asyncio.Event) -> Client | None:
        settings = self._settings.temporal
        while not stop.is_set():
            try:
                client = await temporal_setup.connect(settings, self._runtime)
                self._searchable(await temporal_setup.set_up(client, settings))
            except (RuntimeError, RPCError) as error:
                self._temporal_waits = f"Temporal at {settings.address}: {str(error)[:200]}"
                log.warning("temporal-away address=%s error=%s", settings.address, str(error)[:200])
                await until(stop, asyncio.sleep(RETRY_SECONDS))
            else:
                self._temporal_waits = ""
                return client
        return None

    def _searchable(self, registered: bool) -> None:
        self._activities.decisions.searchable = registered

    async def _act(self, client: Client, stop: asyncio.Event) -> None:
        """Run workers and starter until told to stop, the Lease is lost, or one of them ends."""
        self.metrics.leader.set(1)
        over = asyncio.Event()
        guards = [
            asyncio.create_task(_set_after(over, stop.wait())),
            asyncio.create_task(_set_after(over, self._lease.keep())),
            asyncio.create_task(self._check_temporal(client)),
        ]
        try:
            if not await until(over, self.cache.wait_synced()):
                return
            self.acting = True
            log.info("acting identity=%s namespace=%s", self._settings.identity, self._settings.temporal.namespace)
            decisions = self._activities.decisions

            async def set_up() -> bool:
                self._searchable(await temporal_setup.set_up(client, self._settings.temporal))
                return decisions.searchable

            starter = Starter(
                client,
                self.cache,
                self._planners,
                self._polls,
                self.metrics,
                decisions.opening,
                set_up,
                decisions.needs,
            )
            starter.searchable = self._activities.decisions.searchable
            routes = ModelRoutes(self._kube, self._recorder, self._settings.route_timeout)
            beside = (starter, routes, Drains(self._kube, self.cache))
            guards += [asyncio.create_task(each.run()) for each in beside]
            await run_worker(make_worker(client, self._settings, self._activities), self._polls, over)
        finally:
            self.acting = False
            self.metrics.leader.set(0)
            for guard in guards:
                guard.cancel()
            await asyncio.gather(*guards, return_exceptions=True)

    async def _check_temporal(self, client: Client) -> None:
        """Keep readiness honest: workers reconnect by themselves and say nothing meanwhile."""
        while True:
            await asyncio.sleep(HEALTH_CHECK_SECONDS)
            try:
                healthy = await client.service_client.check_health()
                why = "" if healthy else "it says that it is not serving"
            except RPCError as error:
                why = str(error)[:200]
            self._temporal_waits = f"Temporal at {self._settings.temporal.address}: {why}" if why else ""

    # --- parts ------------------------------------------------------------------------------------------------------

    def _make_admission(self) -> Admission | None:
        settings = self._settings
        if settings.webhook_address is None:
            return None
        return Admission(
            self._lease_client, settings.webhook_address, settings.namespace, settings.runtime_image, self.metrics
        )

    def _make_activities(self) -> ActivitySet:
        shared = (self._recorder, self.metrics, self._polls)
        return ActivitySet(
            decisions=Decisions(self._kube, self.cache, self._planners, *shared),
            steps=Steps(self._kube, self.cache, *shared),
            edits=Edits(self._kube, self._planners, self._recorder, self.metrics),
            warm_ups=WarmUps(self._kube, self.cache),
        )

    def _informer(self, key: str) -> Informer:
        return Informer(
            self._kube, self.cache.stores[key], relisted=lambda name: self.metrics.relists.labels(name).inc()
        )

    def _describe_gauges(self) -> None:
        for key, store in self.cache.stores.items():
            self.metrics.cache_objects.labels(key).set_function(store.__len__)


async def until(stop: asyncio.Event, work: Awaitable[Any]) -> bool:
    """Await `work` unless `stop` comes first; True when it ran to its end."""
    doing = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([doing, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            return False
        await doing
        return True
    finally:
        for task in (doing, stopping):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _set_after(over: asyncio.Event, work: Awaitable[Any]) -> None:
    try:
        await work
    finally:
        over.set()
