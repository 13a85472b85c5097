"""The collector: the one writer of the segment, and the gateway's HTTP side.

It tells the kernel which pods serve which model at every change and what their engines say of themselves, frees what
dead processes held, and answers for all of them. A restarted collector adopts the segment; until the API server has
answered, what is published stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import uvloop
from aiohttp import web

from csrc.binding import LimitReached, Limits, Origin, SegmentWriter, Settings, WriterBusy
from gateway import http
from gateway.kube import KubeClient
from gateway.lifetime import end_with_parent, ending, log_to_stderr
from gateway.metrics import Snapshot
from gateway.profiles import profiles_of
from gateway.scraping import Scraper
from gateway.settings import GatewaySettings, host_and_port
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

log = logging.getLogger("gateway.collector")


class Collector:
    """Owns the segment; also what the HTTP side shows."""

    def __init__(self, settings: GatewaySettings, writer: SegmentWriter, client: KubeClient | None) -> None:
        self._settings = settings
        self._writer = writer
        self._dirty = asyncio.Event()
        self._watch = self._source(client)
        self._adapters = AdapterWatch(client, self._dirty.set) if client else None
        self._scraper = Scraper(writer, settings.scrape_period)
        self._has_topology = writer.origin == Origin.ADOPTED

    def _source(self, client: KubeClient | None) -> PodWatch | StaticEndpoints:
        path = self._settings.endpoints_file
        if path is not None:
            return StaticEndpoints(path, self._dirty.set)
        assert client is not None
        return PodWatch(client, self._dirty.set)

    async def run(self) -> None:
        """Follow, publish, sweep, scrape and look at users until cancelled; the first failure ends them all."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch.run())
                if self._adapters:
                    tasks.create_task(self._adapters.run())
                tasks.create_task(self._publish_changes())
                tasks.create_task(self._sweep())
                tasks.create_task(self._look_at_users())
        finally:
            await self._scraper.close()

    async def _publish_changes(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self._publish()
            await asyncio.sleep(GATHER_SECONDS)

    def _served(self) -> list[Endpoint]:
        """What requests may name: the endpoints, and adapters loaded into them."""
        adapters = self._adapters.values.values() if self._adapters else ()
        return with_adapters(self._watch.endpoints.values(), adapters)

    def _is_known(self) -> bool:
        return self._watch.is_synced and (self._adapters is None or self._adapters.is_settled)

    def _publish(self) -> None:
        if not self._is_known():
            return
        served = self._served()
        models, profiles = models_of(served), profiles_of(served)
        try:
            self._writer.publish(models, self._kernel_settings(), profiles)
        except WriterBusy:
            asyncio.get_running_loop().call_later(BUSY_RETRY_SECONDS, self._dirty.set)
        except LimitReached:
            log.exception("event=topology_refused models=%d pods=%d", len(models), len(self._watch.endpoints))
        else:
            self._has_topology = True
            self._scraper.follow(targets_of(self._watch.endpoints.values()))
            ready = sum(pod.ready for pods in models.values() for pod in pods)
            log.info(
                "event=topology_published models=%d pods=%d ready=%d",
                len(models),
                sum(map(len, models.values())),
                ready,
            )

    def _kernel_settings(self) -> Settings:
        own = self._settings
        return Settings(own.default_strategy, own.api_key, own.hide_pod_address, own.fair, own.count_streams)

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
        endpoints = tuple(self._watch.endpoints.values())
        return Snapshot(totals, endpoints, self._watch.is_synced, gauges, users, self._served())

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
    client = None if settings.endpoints_file else await KubeClient.connect(settings.kubeconfig)
    collector = Collector(settings, writer, client)
    async with _serving(http.application(collector, settings.gateway_pod), settings.http_address):
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
