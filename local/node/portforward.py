"""kubectl port-forward: SPDY/3.1 frames inside WebSocket messages, one pair of streams a connection.

Only what the portforward.k8s.io protocol uses is spoken: the client opens an error and a data stream with the same
`requestID`, each with the header `port`; the node answers on them and half-closes when the pod does.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import zlib
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from local.node.pod_state import PodState
from local.node.spdy_dictionary import DICTIONARY

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 0x01
CHUNK = 16 * 1024


@dataclass(frozen=True)
class Frame:
    """A SPDY frame; `kind` is None for data."""

    kind: int | None
    flags: int
    stream: int
    payload: bytes


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Adds bytes; returns the frames that are complete."""
        self._rest += data
        frames = []
        while len(self._rest) >= 8:
            size = int.from_bytes(self._rest[5:8], "big")
            if len(self._rest) < 8 + size:
                break
            frames.append(_parse(self._rest[:8], self._rest[8 : 8 + size]))
            self._rest = self._rest[8 + size :]
        return frames


def _parse(head: bytes, payload: bytes) -> Frame:
    first = int.from_bytes(head[:4], "big")
    if first >> 31:
        stream = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF if len(payload) >= 4 else 0
        return Frame(first & 0xFFFF, head[4], stream, payload)
    return Frame(None, head[4], first, payload)


def control_frame(kind: int, flags: int, payload: bytes) -> bytes:
    """A control frame of SPDY version 3."""
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload


def data_frame(stream: int, data: bytes, flags: int = 0) -> bytes:
    """A data frame."""
    return struct.pack(">II", stream, flags << 24 | len(data)) + data


class HeaderCodec:
    """Header blocks, compressed with the protocol's dictionary over the whole connection."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def decode(self, block: bytes) -> dict[str, str]:
        """The headers of a block, names in lower case."""
        plain = self._inflate.decompress(block)
        words, at = [], 4
        for _ in range(2 * int.from_bytes(plain[:4], "big")):
            size = int.from_bytes(plain[at : at + 4], "big")
            words.append(plain[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=True)}

    def encode_empty(self) -> bytes:
        """A block without headers."""
        return self._deflate.compress(b"\0\0\0\0") + self._deflate.flush(zlib.Z_SYNC_FLUSH)


@dataclass
class _Forward:
    port: int
    error_stream: int = 0
    data_stream: int = 0
    incoming: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(maxsize=64))


class PortForwarder:
    """One client's connection."""

    def __init__(self, socket: web.WebSocketResponse, address: str) -> None:
        self._socket = socket
        self._address = address
        self._codec = HeaderCodec()
        self._requests: dict[str, _Forward] = {}
        self._streams: dict[int, _Forward] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serves until the client leaves."""
        reader = FrameReader()
        try:
            async for message in self._socket:
                if message.type is WSMsgType.BINARY:
                    for frame in reader.feed(message.data):
                        await self._handle(frame)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, frame: Frame) -> None:
        if frame.kind == SYN_STREAM:
            await self._opened(frame)
        elif frame.kind == PING:
            await self._socket.send_bytes(control_frame(PING, 0, frame.payload))
        elif frame.kind == RST_STREAM and frame.stream in self._streams:
            await self._streams[frame.stream].incoming.put(b"")
        elif frame.kind is None and frame.stream in self._streams:
            await self._data(self._streams[frame.stream], frame)

    async def _data(self, forward: _Forward, frame: Frame) -> None:
        if frame.stream != forward.data_stream:
            return
        if frame.payload:
            await forward.incoming.put(frame.payload)
        if frame.flags & FIN:
            await forward.incoming.put(b"")

    async def _opened(self, frame: Frame) -> None:
        headers = self._codec.decode(frame.payload[10:])
        reply = struct.pack(">I", frame.stream) + self._codec.encode_empty()
        await self._socket.send_bytes(control_frame(SYN_REPLY, 0, reply))
        forward = self._requests.setdefault(headers.get("requestid", ""), _Forward(int(headers["port"])))
        self._streams[frame.stream] = forward
        if headers.get("streamtype") == "error":
            forward.error_stream = frame.stream
            return
        forward.data_stream = frame.stream
        task = asyncio.create_task(self._connect(forward))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, forward: _Forward) -> None:
        problem = b""
        try:
            reader, writer = await asyncio.open_connection(self._address, forward.port)
        except OSError as error:
            problem = f"error forwarding port {forward.port} to pod: {error}".encode()
        else:
            await self._copy(forward, reader, writer)
        with contextlib.suppress(ConnectionError):
            await self._socket.send_bytes(data_frame(forward.error_stream, problem, FIN))
            await self._socket.send_bytes(data_frame(forward.data_stream, b"", FIN))
        self._streams.pop(forward.data_stream, None)
        self._streams.pop(forward.error_stream, None)

    async def _copy(self, forward: _Forward, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sending = asyncio.create_task(_to_pod(forward, writer))
        try:
            while data := await reader.read(CHUNK):
                await self._socket.send_bytes(data_frame(forward.data_stream, data))
        except ConnectionError:
            pass
        finally:
            sending.cancel()
            writer.close()


async def _to_pod(forward: _Forward, writer: asyncio.StreamWriter) -> None:
    while data := await forward.incoming.get():
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def serve_port_forward(request: web.Request, state: PodState) -> web.StreamResponse:
    """Upgrades to the tunnel and forwards to the pod's address."""
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0)
    if not socket.can_prepare(request).ok:
        raise web.HTTPBadRequest(text=f"this node speaks WebSocket only; upgrade to {PROTOCOL}")
    await socket.prepare(request)
    await PortForwarder(socket, state.address).run()
    await socket.close()
    return socket
