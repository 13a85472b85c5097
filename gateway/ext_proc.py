"""The ext_proc service: one gRPC stream an HTTP request, one kernel call a message, bytes in and bytes out.

All four phases are asked for (request headers and body, response headers and body): the answer's headers are contract,
and only its body's last message tells a complete answer from one that broke off. For an answer that is not streamed
they cost one message more than the headers alone (measured: 5 % of the gateway's requests/s), so no phase is dropped
by a mode override.

Envoy closes the stream once nothing more is asked for, so the service never ends one by itself: it reads until Envoy
closes, and the kernel tells from the last phase seen whether that was a completion. Exactly one finish belongs to each
stream, whatever ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import grpc.aio
import uvloop

from csrc.binding import End, LimitReached, MessageUnreadable, SegmentMissing, SegmentReader
from gateway.asking import Collector
from gateway.lifetime import end_with_parent, ending, log_to_stderr
from gateway.settings import GatewaySettings, collector_socket

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
KNOWN_SERVICES = frozenset({b"", b"\x0a\x0egateway-plugin", b"\x0a\x2cenvoy.service.ext_proc.v3.ExternalProcessor"})

MESSAGE_OVERHEAD_BYTES = 256 * 1024
"""What an ext_proc message holds besides a body of the largest size."""

LARGE_MESSAGE_BYTES = 64 * 1024
"""Above it a message is not read on the event loop: counting 300,000 tokens takes a thread some 50 ms."""

LARGE_AT_ONCE = 2
SEGMENT_RETRY_SECONDS = 0.1
CUT_SECONDS = 2.0
"""How long streams that were cut at the drain deadline get to close their books."""

log = logging.getLogger("gateway.ext_proc")


class Health:
    """gRPC's health protocol: SERVING between `open` and `shut`, told at once to those who watch."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self.answer = NOT_SERVING

    async def say(self, answer: bytes) -> None:
        """Change the answer."""
        async with self._changed:
            self.answer = answer
            self._changed.notify_all()

    async def check(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Health/Check."""
        if request not in KNOWN_SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self.answer

    async def watch(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """Health/Watch."""
        if request not in KNOWN_SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        while True:
            answer = self.answer
            await context.write(answer)
            async with self._changed:
                await self._changed.wait_for(partial(self._differs, answer))

    def _differs(self, answer: bytes) -> bool:
        return self.answer != answer


class Processor:
    """Answers ext_proc streams out of one segment."""

    def __init__(self, reader: SegmentReader, collector: Collector) -> None:
        self._begin = reader.begin
        self._ask = collector.ask
        self._aside = ThreadPoolExecutor(LARGE_AT_ONCE, "large-message")
        self.end = End.STREAM

    async def process(self, _unused: Any, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """ExternalProcessor/Process."""
        try:
            flow = self._begin()
        except LimitReached:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests in flight")
        read, write, answer, over = context.read, context.write, flow.process, grpc.aio.EOF
        try:
            while (message := await read()) is not over:
                large = len(message) > LARGE_MESSAGE_BYTES
                reply = await self._read_aside(answer, message) if large else answer(message)
                if flow.question is not None:
                    reply = flow.answer(await self._ask(flow.question))
                await write(reply)
        except MessageUnreadable as unreadable:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(unreadable))
        finally:
            flow.close(self.end)

    async def _read_aside(self, answer: Callable[[bytes], bytes], message: bytes) -> bytes:
        """On a thread, so that other streams go on. It is waited for in any case: a flow is not closed under it."""
        work = asyncio.get_running_loop().run_in_executor(self._aside, answer, message)
        try:
            return await asyncio.shield(work)
        finally:
            while not work.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([work])

    def close(self) -> None:
        """Wait for the threads, before the segment is left."""
        self._aside.shutdown()


class _Services(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no annotations
    """Which handler answers which path; messages stay bytes."""

    def __init__(self, processor: Processor, health: Health) -> None:
        self._handlers = {
            PROCESS: grpc.stream_stream_rpc_method_handler(processor.process),
            HEALTH_CHECK: grpc.unary_unary_rpc_method_handler(health.check),
            HEALTH_WATCH: grpc.unary_stream_rpc_method_handler(health.watch),
        }

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The handler for a call, None when there is none."""
        return self._handlers.get(details.method)


def spreading(settings: GatewaySettings) -> tuple[tuple[str, int], ...]:
    """Options that make many short-lived connections of few long ones: processes that share a port then share load."""
    options = []
    if settings.connection_streams:
        options.append(("grpc.max_concurrent_streams", settings.connection_streams))
    if settings.connection_age:
        options.append(("grpc.max_connection_age_ms", round(settings.connection_age.total_seconds() * 1000)))
    return tuple(options)


def make_server(
    processor: Processor, health: Health, addresses: tuple[str, ...], settings: GatewaySettings
) -> grpc.aio.Server:
    """A server on all `addresses`; raises RuntimeError when one of them is taken."""
    limit = settings.message_limit_bytes + MESSAGE_OVERHEAD_BYTES
    options = (
        *spreading(settings),
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.so_reuseport", 1),
        # Envoy pings idle connections; it shall not be told to calm down.
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
    )
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((_Services(processor, health),))
    for address in addresses:
        server.add_insecure_port(address)
    return server


async def open_reader(settings: GatewaySettings) -> SegmentReader:
    """The segment, once the collector has published it. Each process bounds its share of Envoy's bodies."""
    path, held, limit = settings.segment_path, settings.held_bytes // settings.processes, settings.message_limit_bytes
    waited = False
    while True:
        try:
            return SegmentReader.open(path, settings.max_requests, held, limit, reads_answers=settings.reads_answers)
        except SegmentMissing:
            if not waited:
                log.info("event=waiting_for_segment path=%s", path)
            waited = True
            await asyncio.sleep(SEGMENT_RETRY_SECONDS)


async def drain(server: grpc.aio.Server, processor: Processor, health: Health, seconds: float) -> None:
    """Take no new streams, let running ones finish for `seconds`, then cut them."""
    await health.say(NOT_SERVING)
    stopping: Awaitable[None] = asyncio.ensure_future(server.stop(seconds + CUT_SECONDS))
    try:
        async with asyncio.timeout(seconds):
            await asyncio.shield(stopping)
    except TimeoutError:
        log.warning("event=drain_deadline seconds=%.0f", seconds)
        processor.end = End.SHUTDOWN
        await server.stop(0)


async def _until(wanted: Callable[[], Awaitable[Any]], over: asyncio.Event) -> Any:
    """What `wanted` gives, or None when the process shall end first."""
    work, waiting = asyncio.ensure_future(wanted()), asyncio.ensure_future(over.wait())
    await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        return work.result()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return None


async def _run(settings: GatewaySettings, index: int) -> None:
    over, health = ending(), Health()
    end_with_parent(over)
    reader = await _until(lambda: open_reader(settings), over)
    if reader is None:
        return
    collector = Collector(collector_socket(settings.segment_path), settings.ask_within)
    processor = Processor(reader, collector)
    addresses = (settings.sockets[index], settings.ext_proc_address)
    server = make_server(processor, health, addresses, settings)
    await server.start()
    await health.say(SERVING)
    log.info("event=ext_proc_serving socket=%s address=%s", *addresses)
    gc.collect()
    gc.freeze()
    await over.wait()
    log.info("event=draining seconds=%.0f", settings.drain.total_seconds())
    await drain(server, processor, health, settings.drain.total_seconds())
    await collector.close()
    processor.close()
    reader.close()
    log.info("event=drained")


def main() -> None:
    """Run ext_proc process number `argv[1]` until SIGTERM or the parent's end."""
    log_to_stderr()
    uvloop.run(_run(GatewaySettings.from_environment(), int(sys.argv[1])))


if __name__ == "__main__":
    main()
