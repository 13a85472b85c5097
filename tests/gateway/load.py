"""Load that costs little: the engines and the client in C of `benchmarks/load_*.c`."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gateway.parts import ENGINE_PORT, Engine, eventually, free_host

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Programs:
    """The two programs, built."""

    engine: Path
    client: Path

    @classmethod
    def built(cls, folder: Path) -> Programs:
        programs = []
        for name in ("load_engine", "load_client"):
            command = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
            command += [str(ROOT / "benchmarks" / f"{name}.c"), "-o", str(folder / name), "-lm"]
            subprocess.run(command, check=True)
            programs.append(folder / name)
        return cls(*programs)

    async def start_engine(self) -> Engine:
        engine = self.launch(free_host())
        await eventually(engine.answers)
        return engine

    def launch(self, host: str) -> Engine:
        return Engine(host, subprocess.Popen([self.engine, host, str(ENGINE_PORT)]))

    async def ask(self, *arguments: object) -> dict[str, float]:
        """What the client counted; see the head of load_client.c for its arguments."""
        command = [self.client, *map(str, arguments)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return {name: float(value) for name, value in (line.split("\t") for line in out.decode().splitlines())}


@contextmanager
def ended_at_last(engines: list[Engine]) -> Iterator[list[Engine]]:
    try:
        yield engines
    finally:
        for engine in engines:
            engine.stop()


def resident(pid: int) -> int:
    """Bytes of the process in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
