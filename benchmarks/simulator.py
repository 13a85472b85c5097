"""One simulated engine on one core: short chats a second without latency, and the pace of a thousand open streams."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror"]

CONNECTIONS = 16
REQUEST_SECONDS = 6
STREAMS = 1000
TOKENS = 200
INTER_TOKEN_SECONDS = 0.05

TARGETS = {
    "plain chats of 16 tokens a second": "at least 1,500",
    "error of the time between tokens, milliseconds, p99": "below 20",
    "tokens a second while all streams are open": "20,000",
}


def figures() -> Iterator[Figure]:
    """Requests a second, and milliseconds by which the time between two tokens is off."""
    with tempfile.TemporaryDirectory(prefix="brixflow-bench-") as folder:
        client = Path(folder) / "client"
        source = str(ROOT / "benchmarks" / "simulator_client.c")
        subprocess.run(["gcc", *FLAGS, source, "-lm", "-o", str(client)], check=True)
        with engine("--itl-seconds", "0") as port:
            yield from printed(client, "requests", port, CONNECTIONS, REQUEST_SECONDS)
        with engine("--itl-seconds", str(INTER_TOKEN_SECONDS), "--max-num-seqs", str(STREAMS)) as port:
            yield from printed(client, "streams", port, STREAMS, TOKENS, INTER_TOKEN_SECONDS)


def printed(client: Path, *arguments: object) -> Iterator[Figure]:
    """Run the client and yield what it prints."""
    done = subprocess.run([client, *map(str, arguments)], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        name, value = line.split("\t")
        unit = "ms" if "milliseconds" in name else "/s"
        yield Figure(name, float(value), unit, TARGETS.get(name, ""))


@contextmanager
def engine(*flags: str) -> Iterator[int]:
    """A simulated engine with the constant model, alone on the last core; its port."""
    command = [
        sys.executable,
        "-m",
        "simulator",
        "--port",
        "0",
        "--model",
        "bench",
        "--latency-model",
        "constant",
        *flags,
    ]
    core = max(os.sched_getaffinity(0))
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: settle(core)
    ) as process:
        assert process.stderr is not None
        try:
            yield next(int(line.split(" port=")[1].split()[0]) for line in process.stderr if "event=listening" in line)
        finally:
            process.kill()


def settle(core: int) -> None:
    """Keep to one core, and allow as many connections as the kernel does."""
    os.sched_setaffinity(0, {core})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
