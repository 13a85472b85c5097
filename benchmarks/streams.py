"""Thousands of streams open at once, a chunk a second each: do all arrive whole, and how evenly.

    python -m benchmarks --only streams

Engine and client are small programs in C (load_engine.c, load_client.c), so that Envoy and the gateway are what is
measured. The error of the pace is the time between two chunks of a stream beside one second.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.gateway import MODEL, envoy_values, free_port, pods, run, run_envoy, wait_for
from benchmarks.gateway import answers as is_open
from csrc.binding import SegmentWriter, Settings
from gateway.envoy import environment_for, render
from gateway.settings import GatewaySettings, Host

ROOT = Path(__file__).resolve().parent
ENGINES = 4
STREAMS, CHUNKS, GAP_SECONDS = 4000, 15, 1.0
FILES = 32768


def build(folder: Path, name: str) -> Path:
    """A program of this folder."""
    command = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", str(ROOT / f"{name}.c")]
    subprocess.run([*command, "-o", str(folder / name), "-lm"], check=True)
    return folder / name


def figures() -> Iterator[Figure]:
    """For each host: streams that failed, and the error of their pace."""
    allow_files()
    for host in Host:
        with tempfile.TemporaryDirectory(prefix="brixbench-") as folder, serving(Path(folder), host) as port:
            client = build(Path(folder), "load_client")
            command = [client, "streams", str(port), MODEL, str(STREAMS), str(CHUNKS), str(GAP_SECONDS)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = dict(line.split("\t") for line in told.splitlines())
        yield Figure(f"{host}: of {STREAMS:,} streams failed", float(found["failed"]), "", "0")
        for part in ("p50", "p99"):
            yield Figure(f"{host}: error of the pace, {part}", float(found[f"error of the pace, {part}"]), "ms")


def allow_files() -> None:
    """As many open files as the streams take, here and in the processes that are started."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))


@contextlib.contextmanager
def serving(folder: Path, host: Host) -> Iterator[int]:
    """Engines, segment, gateway and Envoy; the port to ask."""
    engines = [free_port() for _ in range(ENGINES)]
    given = {
        "BRIXFLOW_SEGMENT_PATH": str(folder / "segment"),
        "BRIXFLOW_GATEWAY_HOST": host,
        "BRIXFLOW_EXT_PROC_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    settings = GatewaySettings.from_environment(given)
    engine = build(folder, "load_engine")
    with contextlib.ExitStack() as stack, SegmentWriter.open(settings.segment_path) as writer:
        writer.publish({MODEL: pods(engines)}, Settings(default_strategy="least-request"))
        for port in engines:
            run(stack, folder, f"engine-{port}", str(engine), "127.0.0.1", str(port))
        for index in range(len(settings.sockets)):
            command = (sys.executable, "-m", "gateway.ext_proc", str(index))
            run(stack, folder, f"ext_proc-{index}", *command, env=os.environ | given)
        values = envoy_values(folder, settings, host)
        run_envoy(stack, folder, host, render(values), environment_for(values))
        wait_for(lambda: all(Path(each.removeprefix("unix:")).exists() for each in settings.sockets))
        wait_for(lambda: is_open(values.listen_port))
        yield values.listen_port
