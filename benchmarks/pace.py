"""How evenly 200 streams go on while Envoy takes in what is large: the p99 time between two tokens, and its rise.

Windows with and without a 300,000-token embedding request and a 30 MiB body alternate; what one does to the streams is
the difference of the medians. Client, engines and Envoy share the machine, so most of the rise may be theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop

from benchmarks import chunks
from benchmarks.figure import Figure
from benchmarks.gateway import BARE, MODEL, fronts
from gateway.settings import Host

STREAMS = 200
PAUSE_SECONDS = 0.04
WINDOW_SECONDS = 2.0
ROUNDS = 3
INPUTS, TOKENS = 60, 4_999
"""Of the embedding request: texts, and tokens of each, just below the limits of 8,192 an input and 300,000 in all."""

BODY_BYTES = 30 * 1024 * 1024
FRONTS = (BARE, *Host)


class Stream(asyncio.Protocol):
    """One request whose answer never ends; notes when its tokens come."""

    def __init__(self, gaps: list[float]) -> None:
        self._gaps, self._last = gaps, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast("asyncio.Transport", transport)
        body = json.dumps({"model": chunks.MODEL, "stream": True, "messages": [{"role": "user", "content": "go on"}]})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\n{chunks.HEADER}: 1\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())

    def data_received(self, data: bytes) -> None:
        """A token, or a few at once."""
        del data
        now = time.perf_counter()
        if self._last:
            self._gaps.append(now - self._last)
        self._last = now


def heavy(folder: Path) -> list[tuple[str, Path]]:
    """Path and body of what is large."""
    embedding, chat = folder / "embedding.json", folder / "chat.json"
    embedding.write_text(json.dumps({"model": MODEL, "input": ["token " * TOKENS] * INPUTS}))
    words = {"model": MODEL, "messages": [{"role": "user", "content": "x" * BODY_BYTES}]}
    chat.write_text(json.dumps(words))
    return [("/v1/embeddings", embedding), ("/v1/chat/completions", chat)]


async def post(url: str, body: Path) -> None:
    """From a process of its own: this one must go on reading tokens."""
    wanted = ("-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "content-type: application/json", "-H", "expect:")
    asked = await asyncio.create_subprocess_exec(
        "curl", *wanted, "--data-binary", f"@{body}", url, stdout=asyncio.subprocess.PIPE
    )
    status, _ = await asked.communicate()
    assert status == b"200", f"{url}: {status.decode()}"


async def p99_ms(gaps: list[float], port: int, bodies: list[tuple[str, Path]]) -> float:
    """Of one window, with these bodies on their way one after the other."""
    gaps.clear()
    end = time.monotonic() + WINDOW_SECONDS
    for path, body in bodies:
        await post(f"http://127.0.0.1:{port}{path}", body)
    await asyncio.sleep(max(0, end - time.monotonic()))
    return statistics.quantiles(gaps, n=100)[98] * 1000


async def measure(port: int, folder: Path) -> tuple[float, float]:
    """Medians of the p99 without and with what is large."""
    loop, gaps, large = asyncio.get_running_loop(), list[float](), heavy(folder)
    made = [await loop.create_connection(lambda: Stream(gaps), "127.0.0.1", port) for _ in range(STREAMS)]
    await asyncio.sleep(WINDOW_SECONDS)
    quiet, beside = [], []
    for _ in range(ROUNDS):
        quiet.append(await p99_ms(gaps, port, []))
        beside.append(await p99_ms(gaps, port, large))
    for transport, _ in made:
        transport.close()
    return statistics.median(quiet), statistics.median(beside)


def figures() -> Iterator[Figure]:
    """The p99 between two tokens of each front, alone and beside what is large, in milliseconds."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="brixbench-")))
        ports = stack.enter_context(fronts(folder, "1000000", str(PAUSE_SECONDS)))
        for front in FRONTS:
            quiet, beside = uvloop.run(measure(ports[front], folder))
            yield Figure(f"{front}: p99 between tokens, 200 streams", quiet, "ms")
            target = "" if front == BARE else "below 3"
            yield Figure(f"{front}: rise of it beside 300,000 tokens and 30 MiB", beside - quiet, "ms", target)
