"""The life of one engine process: listen, serve, and leave without failing a request.

On SIGTERM or SIGINT `/health` turns to 503 and answers ask clients to reconnect elsewhere. New requests are still
served for the linger time, since a proxy learns of the change a moment later; then the socket closes, running requests
finish within the drain limit, and the process exits with 0. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from dataclasses import dataclass, replace

from simulator.app import Application
from simulator.server import Server
from simulator.service import Service
from simulator.settings import Settings

logger = logging.getLogger("simulator")

GC_THRESHOLDS = (50_000, 20, 100)
"""Collections are rare: a full one stops a thousand streams for longer than the time between two of their tokens."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One engine with what it listens on."""

    settings: Settings
    service: Service
    server: Server
    rendezvous: Server | None


async def serve(settings: Settings) -> int:
    """Run until a signal; return the exit code. Raises OSError when a port is taken."""
    loop = asyncio.get_running_loop()
    asked, pressed = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (pressed if asked.is_set() else asked).set())
    instances = [await _start(each) for each in replicas(settings)]
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    await asked.wait()
    await asyncio.gather(*(_leave(instance, pressed) for instance in instances))
    return 0


def replicas(settings: Settings) -> list[Settings]:
    """Return the settings of each engine of the process: pods of their own, on ports that follow each other."""
    if settings.engines == 1:
        return [settings]
    ports = (settings.port + number if settings.port else 0 for number in range(settings.engines))
    return [
        replace(settings, port=port, pod=f"{settings.pod}-{number}", seed=settings.seed + number)
        for number, port in enumerate(ports)
    ]


async def _start(settings: Settings) -> Instance:
    service = Service(settings, asyncio.get_running_loop())
    server = Server(Application(service))
    for publisher in service.publishers:
        publisher.open()
    rendezvous = await _rendezvous(service)
    port = await server.listen(settings.host, settings.port)
    logger.info(
        "event=listening address=%s port=%d model=%s pod=%s namespace=%s deployment=%s seed=%d",
        settings.host, port, settings.model, settings.pod, settings.namespace, settings.deployment, settings.seed,
    )  # fmt: skip
    return Instance(settings, service, server, rendezvous)


async def _rendezvous(service: Service) -> Server | None:
    """Listen for decode engines where strict hand-overs are made."""
    transfer = service.settings.transfer
    if not transfer.strict or transfer.role == "consumer":
        return None
    server = Server(service.offers.serve)
    await server.listen(service.settings.host, transfer.port)
    return server


async def _leave(instance: Instance, pressed: asyncio.Event) -> None:
    service, server = instance.service, instance.server
    aborted_before = _aborted(service)
    logger.info("event=draining running=%d waiting=%d", service.running, service.waiting)
    service.draining = True
    server.announce_close()
    drain = asyncio.ensure_future(_drain(server, instance.settings))
    hurry = asyncio.ensure_future(pressed.wait())
    await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
    clean = drain.done() and drain.result()
    for task in (drain, hurry):
        task.cancel()
    await server.abort()
    if instance.rendezvous is not None:
        await instance.rendezvous.abort()
    for publisher in service.publishers:
        publisher.close()
    aborted = _aborted(service) - aborted_before
    logger.info("event=stopped clean=%s aborted=%d", str(clean).lower(), aborted)


async def _drain(server: Server, settings: Settings) -> bool:
    """Return whether every request ended within the limit."""
    await asyncio.sleep(settings.linger_seconds)
    server.stop_accepting()
    return await server.drained(settings.drain_seconds)


def _aborted(service: Service) -> int:
    return sum(engine.statistics.finished["abort"] for engine in service.engines)
