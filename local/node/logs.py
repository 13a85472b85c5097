"""Reads container logs in the CRI format, for `kubectl logs`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

POLL_SECONDS = 0.25
BLOCK = 64 * 1024


@dataclass(frozen=True)
class LogQuery:
    """What the API server asks for."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit_bytes: int | None = None
    stream: str = "All"

    @classmethod
    def from_parameters(cls, values: Mapping[str, str], now: datetime) -> LogQuery:
        """Reads the query string of /containerLogs. Raises ValueError."""
        since = datetime.fromisoformat(values["sinceTime"]) if values.get("sinceTime") else None
        if values.get("sinceSeconds"):
            since = now - timedelta(seconds=int(values["sinceSeconds"]))
        return cls(
            follow=values.get("follow") == "true",
            previous=values.get("previous") == "true",
            timestamps=values.get("timestamps") == "true",
            tail=int(values["tailLines"]) if values.get("tailLines") else None,
            since=since,
            limit_bytes=int(values["limitBytes"]) if values.get("limitBytes") else None,
            stream=values.get("stream") or "All",
        )


async def read_log(path: Path, query: LogQuery, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log's text in pieces; with `follow` until `is_over()` says that no more will come."""
    left = query.limit_bytes
    async for piece in _pieces(path, query, is_over):
        kept = piece if left is None else piece[:left]
        if kept:
            yield kept
        if left is not None:
            left -= len(kept)
            if left <= 0:
                return


async def _pieces(path: Path, query: LogQuery, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    older = path.with_name(path.name + ".1")
    with path.open("rb") as stream:
        lines = list(_existing(older, stream, query))
        yield b"".join(_render(line, query) for line in lines)
        if not query.follow:
            return
        async for piece in _follow(path, stream, is_over):
            yield b"".join(_render(line, query) for line in piece.splitlines(keepends=True))


def _existing(older: Path, stream: BinaryIO, query: LogQuery) -> Iterator[bytes]:
    if query.tail is not None:
        wanted = _tail(stream, query.tail)
    else:
        wanted = (older.read_bytes().splitlines(keepends=True) if older.exists() else []) + stream.readlines()
    for line in wanted:
        if query.since is None or _time(line) >= query.since:
            yield line


def _tail(stream: BinaryIO, count: int) -> list[bytes]:
    """The last `count` lines, read from the end; leaves the stream at its end."""
    end = stream.seek(0, os.SEEK_END)
    at, data = end, b""
    while at > 0 and data.count(b"\n") <= count:
        at = max(0, at - BLOCK)
        stream.seek(at)
        data = stream.read(end - at)
    stream.seek(end)
    return data.splitlines(keepends=True)[-count:] if count else []


def _time(line: bytes) -> datetime:
    """The line's time, cut to microseconds."""
    text = line.split(b" ", 1)[0].decode(errors="replace")
    try:
        return datetime.fromisoformat(text[:26]).replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _render(line: bytes, query: LogQuery) -> bytes:
    parts = line.split(b" ", 3)
    if len(parts) < 4 or (query.stream != "All" and parts[1].decode() != query.stream.lower()):
        return b""
    text = parts[3] if parts[2] == b"F" else parts[3].rstrip(b"\n")
    return parts[0] + b" " + text if query.timestamps else text


async def _follow(path: Path, stream: BinaryIO, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    rest = b""
    while True:
        over = is_over()
        chunk = stream.read()
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield whole + newline
            continue
        if _is_rotated(path, stream):
            stream.close()
            stream = path.open("rb")
            continue
        if over:
            return
        await asyncio.sleep(POLL_SECONDS)


def _is_rotated(path: Path, stream: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(stream.fileno()).st_ino
    except FileNotFoundError:
        return False
