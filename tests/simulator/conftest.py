"""Real engine processes for the tests, on ports that the kernel chooses, each ended with its test."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest

from tests.simulator.kv_reader import KVReader

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDINGS = REPOSITORY / "tests" / "data" / "recordings" / "vllm-0.32" / "http.json"

START_DEADLINE_SECONDS = 20
POLL_SECONDS = 0.02
POLL_DEADLINE_SECONDS = 10
SUBSCRIBE_SECONDS = 0.2
"""A subscription takes a moment to arrive."""

INSTANT = {
    "MOCK_BASE_LATENCY_SECONDS": "0",
    "MOCK_TTFT_BASE_SECONDS": "0",
    "MOCK_PREFILL_SECONDS_PER_1K_TOKENS": "0",
    "MOCK_DECODE_SECONDS_PER_TOKEN": "0",
    "MOCK_OVERLOAD_PENALTY_SECONDS": "0",
    "MOCK_LATENCY_JITTER_SECONDS": "0",
    "VLLM_SERVER_DEV_MODE": "1",
}


@dataclass(kw_only=True)
class EngineClient:
    """What a client can do with a running engine."""

    port: int
    session: aiohttp.ClientSession
    model: str = "llama2-7b"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        async with self.session.get(self.url + path, **options) as reply:
            return reply.status, await reply.text()

    async def post(self, path: str, body: object, **options: Any) -> tuple[int, Any]:
        async with self.session.post(self.url + path, json=body, **options) as reply:
            return reply.status, await reply.json()

    async def chat(self, text: str = "hello", **fields: Any) -> Any:
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], **fields}
        status, reply = await self.post("/v1/chat/completions", body)
        assert status == 200, reply
        return reply

    async def complete(self, prompt: Any = "hello", **fields: Any) -> Any:
        status, reply = await self.post("/v1/completions", {"model": self.model, "prompt": prompt, **fields})
        assert status == 200, reply
        return reply

    async def stream(self, path: str, body: Mapping[str, Any]) -> list[Any]:
        """Return the events of a stream, the last one being the text [DONE]."""
        async with self.session.post(self.url + path, json={**body, "model": self.model, "stream": True}) as reply:
            assert reply.status == 200, await reply.text()
            text = await reply.text()
        events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
        return [event if event == "[DONE]" else json.loads(event) for event in events]

    async def metrics(self) -> dict[str, float]:
        """Return every sample of the metrics page by its name with labels."""
        status, text = await self.get("/metrics")
        assert status == 200
        samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in samples}

    async def metric(self, name: str, **labels: str) -> float:
        pairs = sorted({"engine": "0", "model_name": self.model, **labels}.items())
        text = ",".join(f'{key}="{value}"' for key, value in pairs)
        return (await self.metrics())[f"{name}{{{text}}}"]


@dataclass(kw_only=True)
class EngineProcess(EngineClient):
    """An engine that belongs to one test."""

    process: asyncio.subprocess.Process

    @property
    def cpu_ticks(self) -> int:
        """Processor time used so far, in hundredths of a second."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    @property
    def resident_kilobytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    async def terminate(self) -> None:
        """Send SIGTERM and wait until the process has noticed it."""
        self.process.terminate()
        await poll(self._is_draining)

    async def _is_draining(self) -> bool:
        return (await self.get("/ready"))[0] == 503


async def poll(is_met: Callable[[], Awaitable[bool]]) -> None:
    """Ask until the answer is yes, for at most `POLL_DEADLINE_SECONDS`."""
    deadline = asyncio.get_running_loop().time() + POLL_DEADLINE_SECONDS
    while not await is_met():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(POLL_SECONDS)


StartEngine = Callable[..., Awaitable[EngineProcess]]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "SERVER_PORT": "0", "POD_NAME": "pod-a", **extra}


async def spawn(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "simulator", *arguments)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, env=environment(variables), cwd=REPOSITORY, stderr=pipe)


async def listening_port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    while line := (await asyncio.wait_for(process.stderr.readline(), START_DEADLINE_SECONDS)).decode():
        if "event=listening" in line:
            return port_in(line)
    raise AssertionError("the engine ended before it listened")


def port_in(line: str) -> int:
    return int(line.split(" port=")[1].split()[0])


@pytest.fixture
async def start_engine() -> AsyncIterator[StartEngine]:
    """Start engines with flags and environment variables; all are gone when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(*arguments: str, model: str = "llama2-7b", **variables: str) -> EngineProcess:
            process = await spawn(*arguments, **variables)
            stack.push_async_callback(end, process)
            port = await listening_port(process)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return EngineProcess(process=process, port=port, session=session, model=model)

        yield start


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.fixture
def spawn_engine() -> Callable[..., Awaitable[asyncio.subprocess.Process]]:
    """Start a process that is expected to end by itself."""
    return spawn


@pytest.fixture(scope="session")
def shared_port() -> Iterator[int]:
    """The port of one engine without latency that tests share when its history does not matter."""
    command = (sys.executable, "-m", "simulator")
    with subprocess.Popen(
        command, env=environment(INSTANT), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        yield port_in(process.stderr.readline())
        process.kill()


@pytest.fixture
async def shared_engine(shared_port: int) -> AsyncIterator[EngineClient]:
    async with aiohttp.ClientSession() as session:
        yield EngineClient(port=shared_port, session=session)


@pytest.fixture
async def engine(start_engine: StartEngine) -> EngineProcess:
    """An engine without latency."""
    return await start_engine(**INSTANT)


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Wait until a metric of an engine satisfies a condition."""

    async def wait(engine: EngineClient, name: str, is_met: Callable[[float], bool]) -> None:
        async def met() -> bool:
            return is_met(await engine.metric(name))

        await poll(met)

    return wait


@pytest.fixture
def instant() -> dict[str, str]:
    """Environment of an engine without latency."""
    return dict(INSTANT)


@pytest.fixture
def tmp_socket() -> Iterator[Callable[[str], str]]:
    """Addresses of sockets in a folder of their own; its path is short, as such addresses must be."""
    with TemporaryDirectory(prefix="kv") as folder:
        yield lambda name: f"ipc://{folder}/{name}"


OpenReader = Callable[..., Awaitable[KVReader]]


@pytest.fixture
async def open_reader() -> AsyncIterator[OpenReader]:
    """Open readers of KV events; given an engine, one that gets everything from then on."""
    readers: list[KVReader] = []

    async def open_one(endpoint: str, engine: EngineClient | None = None) -> KVReader:
        readers.append(KVReader(endpoint))
        if engine is not None:
            await asyncio.sleep(SUBSCRIBE_SECONDS)
            await engine.get("/health")
        return readers[-1]

    yield open_one
    for reader in readers:
        reader.close()


@pytest.fixture(scope="session")
def recordings() -> dict[str, Any]:
    """Request and response pairs of a real vLLM 0.32.0 by name."""
    return {pair["name"]: pair for pair in json.loads(RECORDINGS.read_text())}
