"""Connections: read requests, run the application, write its answers, notice when a client goes away.

One connection answers one request at a time; a client that closes cancels the handler of its request at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from simulator.wire import LAST_CHUNK, Cut, Request, RequestParser, Response, Stream, WireError, framed, response_head

logger = logging.getLogger("simulator")

Application = Callable[[Request], Awaitable[Response | Stream]]

LISTEN_BACKLOG = 1024


class Server:
    """A listening socket with its connections."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.closing = False
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = 0

    async def listen(self, host: str, port: int) -> int:
        """Start to accept connections and return the port; raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), host, port, backlog=LISTEN_BACKLOG)
        return int(self._listener.sockets[0].getsockname()[1])

    def announce_close(self) -> None:
        """Ask every client to use another connection, with its next answer."""
        self.closing = True

    def stop_accepting(self) -> None:
        """Close the listening socket and the connections that wait for a request."""
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self._connections):
            connection.close_when_idle()

    async def drained(self, limit_seconds: float) -> bool:
        """Wait until no request runs; return False when the limit passes first."""
        try:
            await asyncio.wait_for(self._idle.wait(), limit_seconds)
        except TimeoutError:
            return False
        return True

    async def abort(self) -> None:
        """Cut every connection, and wait until their handlers have ended."""
        for connection in tuple(self._connections):
            connection.abort()
        await self._idle.wait()

    def connected(self, connection: Connection) -> None:
        self._connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def began(self) -> None:
        self._busy += 1
        self._idle.clear()

    def ended(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._idle.set()


class Connection(asyncio.Protocol):
    """One client connection."""

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = RequestParser()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connected(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server.disconnected(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        try:
            self._parser.feed(data)
            if self._task is None:
                self._start(self._parser.next_request())
                if self._parser.take_continue():
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except WireError as error:
            self._refuse(error)

    def close_when_idle(self) -> None:
        self._last = True
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _start(self, request: Request | None) -> None:
        if request is None or self._transport.is_closing():
            return
        self._server.began()
        self._task = asyncio.get_running_loop().create_task(self._answer(request))
        self._task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._server.ended()
        if task.cancelled():
            self._transport.abort()
            return
        error = task.exception()
        if isinstance(error, Cut):
            self._transport.abort()
            return
        if error is not None:
            logger.error("event=connection_failed error=%s", type(error).__name__, exc_info=error)
            self._transport.abort()
            return
        self.data_received(b"")

    async def _answer(self, request: Request) -> None:
        answer = await self._server.application(request)
        keep_alive = request.keep_alive and not self._server.closing and not self._last
        if isinstance(answer, Response):
            self._write_whole(answer, keep_alive=keep_alive, with_body=request.method != "HEAD")
        else:
            keep_alive = keep_alive and request.chunks_allowed
            await self._write_stream(answer, keep_alive=keep_alive, chunked=request.chunks_allowed)
        if not keep_alive or self._last:
            self._transport.close()

    def _write_whole(self, answer: Response, *, keep_alive: bool, with_body: bool) -> None:
        headers = {**answer.headers, "content-length": str(len(answer.body))}
        body = answer.body if with_body else b""
        self._transport.write(response_head(answer.status, headers, keep_alive=keep_alive) + body)

    async def _write_stream(self, answer: Stream, *, keep_alive: bool, chunked: bool) -> None:
        headers = {**answer.headers, "transfer-encoding": "chunked"} if chunked else answer.headers
        async with aclosing(answer.pieces) as pieces:
            self._transport.write(response_head(answer.status, headers, keep_alive=keep_alive))
            if answer.direct is not None and chunked:
                answer.direct(self._send_chunk)
            async for piece in pieces:
                self._transport.write(framed(piece) if chunked else piece)
                await self._writable.wait()
        if chunked:
            self._transport.write(LAST_CHUNK)

    def _send_chunk(self, make: Callable[[], bytes]) -> bool:
        if not self._writable.is_set():
            return False
        if piece := make():
            self._transport.write(framed(piece))
        return True

    def _refuse(self, error: WireError) -> None:
        if self._task is not None:
            self._transport.abort()
            return
        body = b'{"detail":"%b"}' % str(error).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        self._transport.write(response_head(error.status, headers, keep_alive=False) + body)
        self._transport.close()
