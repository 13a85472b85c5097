"""The collector: the one writer of the segment, and the gateway's HTTP side.

It tells the kernel which pods serve which model at every change and what their engines say of themselves, frees what
dead processes held, and answers for all of them. A restarted collector adopts the segment; until the API server has
answered, what is published stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import uvloop
from aiohttp import web

from csrc.binding import Claim, LimitReached, Limits, Origin, SegmentWriter, Settings, WriterBusy
from gateway import http, tokens
from gateway.claims import Wakes, WarmPod, waiting_of, with_claims
from gateway.engine_pages import EnginePages
from gateway.kube import KubeClient
from gateway.lifetime import end_with_parent, ending, log_to_stderr
from gateway.metrics import POD_LABELS, Snapshot, pod_labels
from gateway.profiles import profiles_of
from gateway.querying import Querying
from gateway.quotas import Quotas
from gateway.quotas import application as questions
from gateway.routes import RouteWatch
from gateway.scraping import Scraper
from gateway.settings import GatewaySettings, collector_socket, host_and_port
from gateway.shared_limits import SharedLimits
from gateway.static import StaticEndpoints
from gateway.topology import Endpoint, models_of, targets_of, with_adapters
from gateway.watch import AdapterWatch, PodWatch

SWEEP_SECONDS = 0.2
USERS_SECONDS = 0.1
LOCK_RETRY_SECONDS = 0.2
BUSY_RETRY_SECONDS = 0.01
GATHER_SECONDS = 0.005
TEXT_BYTES_PER_POD = 4096
MEMBERS_PER_POD = 16
SOCKET_MODE = 0o660
STORE_SHARE = 0.8
"""Of the time that a request waits for the whole answer."""

log = logging.getLogger("gateway.collector")


class Collector:
    """Owns the segment; also what the HTTP side shows."""

    def __init__(self, settings: GatewaySettings, writer: SegmentWriter, client: KubeClient | None) -> None:
        self._settings = settings
        self._writer = writer
        self._dirty = asyncio.Event()
        self._watch = self._source(client)
        self._adapters = AdapterWatch(client, self._dirty.set) if client else None
        by_route = client if not settings.default_strategy else None
        self._routes = RouteWatch(by_route, self._dirty.set) if by_route else None
        self._wakes = Wakes(writer.take_wanted, writer.count_wake)
        self._scraper = Scraper(writer, settings.scrape_period)
        self._has_topology = writer.origin == Origin.ADOPTED
        self._querying = Querying(settings.prometheus, client) if settings.prometheus else None
        self._shared = _shared_limits(settings)
        self.quotas = Quotas(writer, settings.users_file, self._shared, self._dirty.set)

    def _source(self, client: KubeClient | None) -> PodWatch | StaticEndpoints:
        path = self._settings.endpoints_file
        if path is not None:
            return StaticEndpoints(path, self._dirty.set)
        assert client is not None
        return PodWatch(client, self._dirty.set, self._settings.pod_selector)

    async def run(self) -> None:
        """Follow, publish, sweep, scrape and look at users until cancelled; the first failure ends them all."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch.run())
                if self._adapters:
                    tasks.create_task(self._adapters.run())
                if self._routes:
                    tasks.create_task(self._routes.run())
                tasks.create_task(self._wakes.run())
                tasks.create_task(self._publish_changes())
                tasks.create_task(self._sweep())
                tasks.create_task(self._look_at_users())
                tasks.create_task(self.quotas.run())
                if self._querying:
                    tasks.create_task(self._querying.run())
        finally:
            await self._scraper.close()
            if self._shared is not None:
                await self._shared.close()

    async def _publish_changes(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self._publish()
            await asyncio.sleep(GATHER_SECONDS)

    def _served(self) -> list[Endpoint]:
        """What requests may name: the endpoints, and adapters loaded into them."""
        adapters = self._adapters.values.values() if self._adapters else ()
        return with_claims(with_adapters(self._watch.endpoints.values(), adapters), self._warm_pods())

    def _warm_pods(self) -> Iterable[WarmPod]:
        return self._watch.warm_pods if isinstance(self._watch, PodWatch) else ()

    def _endpoints(self) -> list[Endpoint]:
        """Engines, each once."""
        return with_claims(self._watch.endpoints.values(), self._warm_pods())

    def _is_known(self) -> bool:
        optional = (self._adapters, self._routes)
        return self._watch.is_synced and all(each is None or each.is_settled for each in optional)

    def _publish(self) -> None:
        if not self._is_known():
            return
        served = self._served()
        models, profiles = models_of(served), profiles_of(served)
        waiting = waiting_of(self._warm_pods(), models, self._settings.max_models)
        claims = {model: Claim[each.state.name] for model, each in waiting.items()}
        problems = self._routes.problems(models) if self._routes else None
        try:
            self._writer.publish(models, self._kernel_settings(), profiles, problems, claims)
        except WriterBusy:
            asyncio.get_running_loop().call_later(BUSY_RETRY_SECONDS, self._dirty.set)
        except LimitReached:
            log.exception("event=topology_refused models=%d pods=%d", len(models), len(self._watch.endpoints))
        else:
            self._has_topology = True
            self._scraper.follow(targets_of(self._endpoints()))
            self._wakes.follow(waiting.values())
            ready = sum(pod.ready for pods in models.values() for pod in pods)
            log.info(
                "event=topology_published models=%d pods=%d ready=%d",
                len(models),
                sum(map(len, models.values())),
                ready,
            )

    def _kernel_settings(self) -> Settings:
        own = self._settings
        return Settings(
            default_strategy=own.default_strategy,
            api_key=own.api_key,
            hide_pod_address=own.hide_pod_address,
            fair=own.fair,
            count_streams=own.count_streams,
            users=self.quotas.rules,
            ask_within=own.ask_within,
            model_in_flight=own.model_in_flight,
            pod_in_flight=own.pod_in_flight,
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if self._has_topology:
                swept = self._writer.sweep()
                if swept.slots_freed:
                    log.info("event=slots_freed freed=%d live=%d", swept.slots_freed, swept.slots_live)

    async def _look_at_users(self) -> None:
        while True:
            await asyncio.sleep(USERS_SECONDS)
            if self._has_topology:
                self._writer.users(time.monotonic())

    def snapshot(self) -> Snapshot:
        """Counters and pods at this moment."""
        totals = self._writer.totals() if self._has_topology else None
        gauges = self._writer.gauges(time.monotonic()) if self._has_topology else {}
        users = self._writer.users(time.monotonic()) if self._has_topology else None
        endpoints = tuple(self._endpoints())
        return Snapshot(
            totals,
            endpoints,
            self._watch.is_synced,
            gauges,
            users,
            self._served(),
            querying=self._querying,
        )

    async def engines(self) -> str:
        """What engines say of themselves, read pod by pod: in between, others have their turn."""
        pages = EnginePages(POD_LABELS)
        for each in tuple(self._endpoints()) if self._settings.export_engines else ():
            own = [page for target in targets_of((each,)) if (page := self._scraper.page(target))]
            pages.add(each, pod_labels(self._settings.gateway_pod, each), own)
            await asyncio.sleep(0)
        return pages.text()

    def models(self) -> Iterable[str] | None:
        """Names of all known models, None before the first list."""
        return {each.model for each in self._served()} if self._is_known() else None

    async def waits_for(self) -> str:
        """What is missing until requests can be served; empty when nothing is."""
        if not self._has_topology:
            return str(self._settings.endpoints_file or "the API server")
        for address in self._settings.sockets:
            try:
                _, stream = await asyncio.open_unix_connection(address.removeprefix("unix:"))
            except OSError:
                return f"ext_proc at {address}"
            stream.close()
        return ""


@contextlib.asynccontextmanager
async def _serving(app: web.Application, address: str) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, port = host_and_port(address)
    await web.TCPSite(runner, host or None, port, reuse_address=True).start()
    try:
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _answering(app: web.Application, socket: Path) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    os.chmod(socket, SOCKET_MODE)  # noqa: PTH101 - a folder of ours, it takes no time
    try:
        yield
    finally:
        await runner.cleanup()


def _shared_limits(settings: GatewaySettings) -> SharedLimits | None:
    if not settings.redis_host:
        return None
    return SharedLimits.connect(
        settings.redis_host,
        settings.redis_port,
        settings.redis_password,
        within=settings.ask_within * STORE_SHARE,
        fails_closed=settings.limits_fail_closed,
    )


async def open_writer(path: Path, limits: Limits) -> SegmentWriter:
    """The segment's writer; waits while a collector before this one still holds the lock."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    waited = False
    while True:
        try:
            return SegmentWriter.open(path, limits)
        except WriterBusy:
            if not waited:
                log.warning("event=writer_busy path=%s", path)
            waited = True
            await asyncio.sleep(LOCK_RETRY_SECONDS)


async def _run(settings: GatewaySettings) -> None:
    over = ending()
    end_with_parent(over)
    limits = Limits(
        models=settings.max_models,
        pods=settings.max_pods,
        members=settings.max_pods * MEMBERS_PER_POD,
        text_bytes=settings.max_pods * TEXT_BYTES_PER_POD,
    )
    writer = await open_writer(settings.segment_path, limits)
    log.info("event=segment_open path=%s origin=%s", settings.segment_path, writer.origin.name)
    counting = asyncio.create_task(asyncio.to_thread(tokens.provide, settings.segment_path))
    client = None if settings.endpoints_file else await KubeClient.connect(settings.kubeconfig)
    await counting
    collector = Collector(settings, writer, client)
    socket = collector_socket(settings.segment_path)
    async with (
        _serving(http.application(collector, settings.gateway_pod), settings.http_address),
        _answering(questions(collector.quotas), socket),
    ):
        work = asyncio.create_task(collector.run())
        waiting = asyncio.create_task(over.wait())
        await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await work
    if client is not None:
        await client.close()
    writer.close()


def main() -> None:
    """Run the collector until SIGTERM or the parent's end."""
    log_to_stderr()
    uvloop.run(_run(GatewaySettings.from_environment()))


if __name__ == "__main__":
    main()
