"""HTTP/1.1 requests out of bytes, responses into bytes.

A parser of our own instead of a web framework: it saves most of a process's start-up time and half of its memory, and
hundreds of engines share one machine. It reads what proxies and clients send (fixed and chunked bodies, keep-alive,
pipelining, Expect) and refuses the rest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias

HEAD_LIMIT_BYTES = 64 * 1024
BODY_LIMIT_BYTES = 64 * 1024 * 1024

_HEAD_END = b"\r\n\r\n"
_CONTROLS = frozenset("\r\n\0")
"""What no header may hold, since some headers are echoed."""
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class WireError(Exception):
    """The bytes are not a request that we read; the connection ends after this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


SendNow: TypeAlias = Callable[[Callable[[], bytes]], bool]
"""Sends what a function makes, unless the client is slow to read: then it makes nothing and returns False."""


class Cut(Exception):  # noqa: N818 - an order, not an error
    """Raised by an answer that shall end with its connection broken."""


@dataclass(frozen=True, slots=True)
class Request:
    """One complete request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool
    chunks_allowed: bool = True
    query: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose body comes piece by piece; closing the generator early means that nobody reads it.

    With `direct`, the answer is given a way to send at once; what it sends that way the generator leaves out. That
    spares a task switch per piece.
    """

    pieces: AsyncGenerator[bytes, None]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    direct: Callable[[SendNow], None] | None = None


@dataclass(slots=True)
class _Head:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    keep_alive: bool
    chunks_allowed: bool
    body_start: int
    length: int | None


class RequestParser:
    """Collects bytes and hands out complete requests in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._scanned = 0
        self._chunks = _ChunkedBody()
        self._continue_due = False

    def feed(self, data: bytes) -> None:
        """Add bytes. Raises WireError when more than one largest request is pending."""
        self._buffer += data
        if len(self._buffer) > HEAD_LIMIT_BYTES + 2 * BODY_LIMIT_BYTES:
            raise WireError(413, "Too much data is pending")

    def take_continue(self) -> bool:
        """Return, once per request, whether the client waits for `100 Continue`."""
        due, self._continue_due = self._continue_due, False
        return due

    def next_request(self) -> Request | None:
        """Return the next complete request, or None until more bytes come. Raises WireError."""
        if self._head is None:
            self._head = self._read_head()
        head = self._head
        if head is None:
            return None
        body = self._read_body(head)
        if body is None:
            return None
        self._head, self._scanned, self._continue_due = None, 0, False
        return Request(head.method, head.path, head.headers, body, head.keep_alive, head.chunks_allowed, head.query)

    def _read_head(self) -> _Head | None:
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(_HEAD_END, max(self._scanned - 3, 0), HEAD_LIMIT_BYTES)
        if end < 0:
            if len(self._buffer) >= HEAD_LIMIT_BYTES:
                raise WireError(431, "The request head is too large")
            self._scanned = len(self._buffer)
            return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        head = parse_head(lines, end + len(_HEAD_END))
        self._chunks = _ChunkedBody(head.body_start)
        self._continue_due = head.headers.get("expect", "").lower() == "100-continue"
        return head

    def _read_body(self, head: _Head) -> bytes | None:
        if head.length is None:
            return self._chunks.read(self._buffer)
        end = head.body_start + head.length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[head.body_start : end])
        del self._buffer[:end]
        return body


class _ChunkedBody:
    """A chunked body as it arrives; each chunk is copied once."""

    def __init__(self, start: int = 0) -> None:
        self._position = start
        self._parts: list[bytes] = []
        self._size = 0
        self._trailers = False

    def read(self, buffer: bytearray) -> bytes | None:
        """Return the whole body and drop it from `buffer`, or None until it is complete."""
        while not self._trailers:
            if not self._read_chunk(buffer):
                return None
        return self._read_trailers(buffer)

    def _read_chunk(self, buffer: bytearray) -> bool:
        line_end = buffer.find(b"\r\n", self._position)
        if line_end < 0:
            return False
        size = _chunk_size(bytes(buffer[self._position : line_end]))
        start, end = line_end + 2, line_end + 2 + size
        if size == 0:
            self._position, self._trailers = start, True
            return True
        self._size_within_limit(size)
        if len(buffer) < end + 2:
            return False
        if buffer[end : end + 2] != b"\r\n":
            raise WireError(400, "A chunk does not end where it says")
        self._parts.append(bytes(buffer[start:end]))
        self._size += size
        self._position = end + 2
        return True

    def _size_within_limit(self, size: int) -> None:
        if self._size + size > BODY_LIMIT_BYTES:
            raise WireError(413, "The request body is too large")

    def _read_trailers(self, buffer: bytearray) -> bytes | None:
        while (line_end := buffer.find(b"\r\n", self._position)) >= 0:
            empty = line_end == self._position
            self._position = line_end + 2
            if empty:
                del buffer[: self._position]
                return b"".join(self._parts)
        return None


def parse_head(lines: list[str], body_start: int) -> _Head:
    """Return the parsed request line and headers. Raises WireError."""
    parts = lines[0].split(" ")
    if len(parts) != 3 or parts[2] not in {"HTTP/1.1", "HTTP/1.0"} or not parts[0].isalpha():
        raise WireError(400, "The request line is malformed")
    headers = _parse_headers(lines[1:])
    modern = parts[2] == "HTTP/1.1"
    keep_alive = modern and "close" not in headers.get("connection", "").lower()
    path, _, query = parts[1].partition("?")
    return _Head(parts[0], path, query, headers, keep_alive, modern, body_start, _body_length(headers))


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or _CONTROLS.intersection(line):
            raise WireError(400, "A header line is malformed")
        name, value = name.lower(), value.strip()
        if name in headers:
            if name == "content-length":
                raise WireError(400, "content-length comes twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _body_length(headers: Mapping[str, str]) -> int | None:
    """Return the length in bytes, or None for a chunked body."""
    encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if encoding is not None:
        if encoding.lower() != "chunked" or length is not None:
            raise WireError(400, "The body's length is ambiguous or its encoding unknown")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()):
        raise WireError(400, "content-length is not a number")
    if len(length) > 12 or int(length) > BODY_LIMIT_BYTES:
        raise WireError(413, "The request body is too large")
    return int(length)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 12 or digits.strip(b"0123456789abcdefABCDEF"):
        raise WireError(400, "A chunk size is malformed")
    return int(digits, 16)


def response_head(status: int, headers: Mapping[str, str], *, keep_alive: bool) -> bytes:
    """Return the status line and headers with the blank line that ends them."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if not keep_alive:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def framed(piece: bytes) -> bytes:
    """Return `piece` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"
