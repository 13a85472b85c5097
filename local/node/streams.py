"""exec and attach over WebSocket, subprotocols v4 and v5 of channel.k8s.io.

A binary message is one byte of channel and the rest data: 0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 the
terminal's size as JSON; in v5, 255 closes the channel in its second byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from dataclasses import dataclass

import orjson
from aiohttp import WSMsgType, web

from local.node.files import Json
from local.node.logs import LogQuery, read_log
from local.node.pod_state import PodState
from local.node.shim import Command, Execution, Shim, ShimError

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_FLAGS = ("input", "output", "error", "tty")
CHUNK = 32 * 1024


@dataclass(frozen=True)
class ExecOptions:
    """The query string of exec and attach."""

    argv: list[str]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, request: web.Request) -> ExecOptions:
        """Reads `command`, `input`, `output`, `error` and `tty`."""
        argv = request.query.getall("command", [])
        stdin, stdout, stderr, tty = (request.query.get(name) in ("1", "true") for name in _FLAGS)
        return cls(argv, stdin, stdout, stderr, tty)


def exit_status(code: int) -> Json:
    """The Status that tells an exec's client how the command ended."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    cause = {"reason": "ExitCode", "message": str(code)}
    message = f"command terminated with non-zero exit code: exit status {code}"
    details = {"causes": [cause]}
    return {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": message, "details": details}


def _failure(message: str) -> Json:
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500}


async def _open(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=PROTOCOLS, heartbeat=20, max_msg_size=0)
    if not socket.can_prepare(request).ok:
        raise web.HTTPBadRequest(text="this node speaks WebSocket only; upgrade to v5.channel.k8s.io")
    await socket.prepare(request)
    return socket


async def serve_exec(request: web.Request, state: PodState, container: str) -> web.StreamResponse:
    """Runs a command in a container and joins its files with the client's channels."""
    options = ExecOptions.of(request)
    socket = await _open(request)
    try:
        code = await _run(socket, state, container, options)
        status = exit_status(code)
    except ShimError as error:
        status = _failure(str(error))
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(bytes([STATUS]) + orjson.dumps(status))
    await socket.close()
    return socket


async def _run(socket: web.WebSocketResponse, state: PodState, container: str, options: ExecOptions) -> int:
    command = Command(container, options.argv, options={"tty": "1" if options.tty else "0"})
    if options.tty:
        execution = await Shim(state.directory).exec(command)
        return await _join_terminal(socket, execution)
    inner, outer = _pipes()
    try:
        execution = await Shim(state.directory).exec(command, inner)
    except BaseException:
        _close_all(outer)
        raise
    finally:
        _close_all(inner)
    if not options.stdin:
        os.close(outer[0])
    writer = outer[0] if options.stdin else None
    return await _join(socket, execution, writer, {outer[1]: STDOUT, outer[2]: STDERR})


def _pipes() -> tuple[list[int], list[int]]:
    """The command's ends and ours of stdin, stdout and stderr."""
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    return [stdin[0], stdout[1], stderr[1]], [stdin[1], stdout[0], stderr[0]]


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


async def _join_terminal(socket: web.WebSocketResponse, execution: Execution) -> int:
    terminal = execution.terminal
    if terminal is None:
        raise ShimError("the shim gave no terminal")
    return await _join(socket, execution, os.dup(terminal), {terminal: STDOUT})


async def _join(
    socket: web.WebSocketResponse, execution: Execution, writer: int | None, readers: dict[int, int]
) -> int:
    """Copies both ways until the command has ended and its output is sent; a client that leaves ends the command."""
    outputs = [asyncio.create_task(_send(socket, descriptor, channel)) for descriptor, channel in readers.items()]
    inputs = asyncio.create_task(_receive(socket, writer))
    ended = asyncio.create_task(execution.wait())
    try:
        await asyncio.wait([inputs, ended], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            execution.close()
            return 137
        await asyncio.wait(outputs, timeout=5)
        return ended.result()
    finally:
        for task in (inputs, ended, *outputs):
            task.cancel()
        await asyncio.gather(inputs, ended, *outputs, return_exceptions=True)
        execution.close()


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def _send(socket: web.WebSocketResponse, descriptor: int, channel: int) -> None:
    os.set_blocking(descriptor, False)
    try:
        while True:
            await _readable(descriptor)
            try:
                data = os.read(descriptor, CHUNK)
            except OSError:  # a terminal whose other end is closed
                return
            if not data:
                return
            await socket.send_bytes(bytes([channel]) + data)
    finally:
        os.close(descriptor)


async def _receive(socket: web.WebSocketResponse, writer: int | None) -> None:
    """The client's messages, until it leaves."""
    try:
        async for message in socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == CLOSE and data[:1] == bytes([STDIN]) and writer is not None:
                os.close(writer)
                writer = None
            elif channel == STDIN and writer is not None:
                writer = await _write(writer, data)
            elif channel == RESIZE and writer is not None:
                _resize(writer, orjson.loads(data))
    finally:
        if writer is not None:
            os.close(writer)


async def _write(descriptor: int, data: bytes) -> int | None:
    try:
        await asyncio.to_thread(_write_all, descriptor, data)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _resize(terminal: int, size: Json) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size["Height"], size["Width"], 0, 0))


async def serve_attach(request: web.Request, state: PodState, container: str) -> web.StreamResponse:
    """The container's output from now on. Its input is not connected, as for a container without `stdin`."""
    socket = await _open(request)
    record = state.records[container]
    attempt = record.attempt
    is_over = lambda: record.attempt != attempt or not record.is_running or socket.closed  # noqa: E731
    leave = asyncio.create_task(_receive(socket, None))
    path = state.directory / state.log_path(container, attempt)
    with contextlib.suppress(ConnectionError, OSError):
        async for piece in read_log(path, LogQuery(follow=True, tail=0), is_over):
            if piece:
                await socket.send_bytes(bytes([STDOUT]) + piece)
        await socket.send_bytes(bytes([STATUS]) + orjson.dumps(exit_status(0)))
    leave.cancel()
    await socket.close()
    return socket
