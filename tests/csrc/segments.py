"""Processes that read and write a segment, and what a test asks of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csrc.binding import (
    LimitReached,
    Limits,
    Outcome,
    SegmentMissing,
    SegmentReader,
    SegmentWriter,
)

SMALL = Limits(models=2, pods=3, members=4, text_bytes=2048, readers=2)
CHECKOUT = Path(__file__).parents[2]

READER_PROCESS = """
import sys
from csrc.binding import SegmentReader
reader = SegmentReader.open(sys.argv[1], flows=64)
held = [reader.decide("llama2-7b", "least-request", random=n) for n in range(int(sys.argv[2]))]
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "finish":
        for decision in held:
            reader.finish(decision)
        print("finished", flush=True)
"""

WRITER_PROCESS = """
import sys
from csrc.binding import Limits, Pod, SegmentWriter, Settings
limits = Limits(models=16, pods=32, members=64, text_bytes=1 << 16, readers=8)
writer = SegmentWriter.open(sys.argv[1], limits)
print("ready", flush=True)
number = 0
while True:
    pods = [Pod(f"uid-{n}", "default", f"pod-{n}", f"10.86.0.{n}:8000", True) for n in range(1, 3 + number % 5)]
    writer.publish({"llama2-7b": pods, f"m{number % 3}": pods}, Settings(default_strategy="random"))
    writer.sweep()
    number += 1
"""


@contextmanager
def process(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()


@contextmanager
def small_segment(path: Path) -> Iterator[tuple[SegmentWriter, SegmentReader]]:
    with SegmentWriter.open(path, SMALL) as writer:
        writer.publish({})
        with SegmentReader.open(path, flows=8) as reader:
            yield writer, reader


def tell(child: subprocess.Popen[str], word: str) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(word + "\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def running(writer: SegmentWriter) -> dict[str, int]:
    return {pod.name: pod.running for pod in writer.totals().pods if pod.running}


def open_soon(path: Path) -> SegmentReader:
    """A reader, once the writer has swept a slot free."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return SegmentReader.open(path, flows=4)
        except (LimitReached, SegmentMissing):
            assert time.monotonic() < deadline
            time.sleep(0.001)


def endings_of(writer: SegmentWriter, name: str) -> dict[tuple[Outcome, int], int]:
    return dict(next(model for model in writer.totals().models if model.name == name).endings)
