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

from simulator.app import Application
from simulator.server import Server
from simulator.service import Service
from simulator.settings import Settings

logger = logging.getLogger("simulator")

GC_THRESHOLDS = (50_000, 20, 100)
"""Collections are rare: a full one stops a thousand streams for longer than the time between two of their tokens."""


async def serve(settings: Settings) -> int:
    """Run until a signal; return the exit code. Raises OSError when the port is taken."""
    loop = asyncio.get_running_loop()
    service = Service(settings, loop)
    server = Server(Application(service))
    asked, pressed = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (pressed if asked.is_set() else asked).set())
    for publisher in service.publishers:
        publisher.open()
    await _open_rendezvous(service)
    port = await server.listen(settings.host, settings.port)
    logger.info(
        "event=listening address=%s port=%d model=%s pod=%s namespace=%s deployment=%s seed=%d",
        settings.host, port, settings.model, settings.pod, settings.namespace, settings.deployment, settings.seed,
    )  # fmt: skip
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    await asked.wait()
    await _leave(service, server, settings, pressed)
    return 0


async def _leave(service: Service, server: Server, settings: Settings, pressed: asyncio.Event) -> None:
    aborted_before = _aborted(service)
    logger.info("event=draining running=%d waiting=%d", service.running, service.waiting)
    service.draining = True
    server.announce_close()
    drain = asyncio.ensure_future(_drain(server, settings))
    hurry = asyncio.ensure_future(pressed.wait())
    await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
    clean = drain.done() and drain.result()
    for task in (drain, hurry):
        task.cancel()
    await server.abort()
    aborted = _aborted(service) - aborted_before
    logger.info("event=stopped clean=%s aborted=%d", str(clean).lower(), aborted)


async def _drain(server: Server, settings: Settings) -> bool:
    """Return whether every request ended within the limit."""
    await asyncio.sleep(settings.linger_seconds)
    server.stop_accepting()
    return await server.drained(settings.drain_seconds)


def _aborted(service: Service) -> int:
    return sum(engine.statistics.finished["abort"] for engine in service.engines)


async def _open_rendezvous(service: Service) -> None:
    """Listen for decode engines where strict hand-overs are made."""
    transfer = service.settings.transfer
    if transfer.strict and transfer.role != "consumer":
        await Server(service.offers.serve).listen(service.settings.host, transfer.port)
