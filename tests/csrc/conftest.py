"""A segment on tmpfs for each test, with its one writer and a reader."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csrc.binding import Limits, SegmentReader, SegmentWriter, Settings
from tests.csrc.messages import Request, pod

LIMITS = Limits(models=16, pods=32, members=64, text_bytes=1 << 16, readers=8)


@pytest.fixture
def segment_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="brixflow-test-") as folder:
        yield Path(folder) / "segment"


@pytest.fixture
def writer(segment_path: Path) -> Iterator[SegmentWriter]:
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        models = {
            "llama2-7b": [pod(1), pod(2)],
            "unready": [pod(3, ready=False)],
            "single": [pod(4), pod(5, ready=False)],
        }
        writer.publish(models, Settings())
        yield writer


@pytest.fixture
def reader(segment_path: Path, writer: SegmentWriter) -> Iterator[SegmentReader]:
    with SegmentReader.open(segment_path, flows=256) as reader:
        yield reader


@pytest.fixture
def start(reader: SegmentReader) -> Iterator[Callable[..., Request]]:
    """Begins requests and closes them after the test."""
    begun: list[Request] = []

    def begin(trace_id: str = "") -> Request:
        begun.append(Request(reader, trace_id))
        return begun[-1]

    yield begin
    for request in begun:
        request.close()
