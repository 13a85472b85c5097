"""What the rig is made of: processes with logs, engines, and the way to the API server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

HERE = Path(__file__).parent
ENGINE_PORT = 22801
_hosts = itertools.count(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_host() -> str:
    """A loopback address that no other engine of this session has."""
    return f"127.86.{os.getpid() % 250}.{next(_hosts)}"


async def eventually(check: Callable[[], Any], within: float = 30, every: float = 0.02) -> Any:
    """The first true answer of `check`, which may be a coroutine function."""
    last: Any = None
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            last = check()
            last = await last if asyncio.iscoroutine(last) else last
            if last:
                return last
        except (AssertionError, KeyError, OSError, aiohttp.ClientError) as error:
            last = error
        await asyncio.sleep(every)
    raise AssertionError(f"not within {within} s; last seen: {last!r}")


@dataclass
class Gate:
    """The way from the gateway to the API server, which a test may shut."""

    target: tuple[str, int] = ("", 0)
    port: int = field(default_factory=free_port)
    server: asyncio.Server | None = None
    streams: set[asyncio.StreamWriter] = field(default_factory=set)

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    def shut(self) -> None:
        if self.server is not None:
            self.server.close()
        for stream in list(self.streams):
            stream.transport.abort()

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """The API server cannot be reached while the block runs."""
        self.shut()
        try:
            yield
        finally:
            await self.open()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self.target)
        self.streams |= {writer, back}
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)
        self.streams -= {writer, back}


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@dataclass
class Engine:
    """One engine process on a loopback address of its own."""

    host: str
    process: subprocess.Popen[bytes]

    @classmethod
    async def start(cls, host: str = "") -> Engine:
        host = host or free_host()
        engine = cls.launch(host)
        await eventually(engine.answers)
        return engine

    @classmethod
    def launch(cls, host: str) -> Engine:
        return cls(host, subprocess.Popen([sys.executable, "-S", str(HERE / "engine.py"), f"{host}:{ENGINE_PORT}"]))

    @property
    def address(self) -> str:
        return f"{self.host}:{ENGINE_PORT}"

    def answers(self) -> bool:
        with socket.create_connection((self.host, ENGINE_PORT), timeout=1):
            return True

    async def seen(self) -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}/seen") as got:
            listed: list[dict[str, Any]] = await got.json()
            return listed

    async def say(self, page: str) -> None:
        """What the engine's metrics page says from here on."""
        async with aiohttp.ClientSession() as session, session.put(f"http://{self.address}/metrics", data=page) as got:
            assert got.status == 200

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Part:
    """A process of the rig with its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, name: str, home: Path, command: list[str], environment: Mapping[str, str] | None = None) -> Part:
        log = home / f"{name}.log"
        with log.open("ab") as out:
            return cls(subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=home), log)

    def stop(self, grace: float = 10) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
