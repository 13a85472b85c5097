"""A message that takes long to read holds up no other stream of an ext_proc process."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from csrc.binding import Outcome, Pod, SegmentReader, SegmentWriter, Settings
from gateway.asking import Collector
from gateway.ext_proc import Processor
from gateway.tokens import provide
from tests.csrc.messages import request_body, request_headers
from tests.gateway.parts import eventually

MODEL = "embedder"
COUNTED = {"model": MODEL, "input": ["token " * 4_999] * 59}
SHORT = {"model": MODEL, "input": "token"}


class Stream:
    """What a processor needs of a gRPC stream; messages are there at once, replies go into a journal."""

    def __init__(self, name: str, body: dict[str, Any], journal: list[str]) -> None:
        headers = {":method": "POST", ":path": "/v1/embeddings", "content-type": "application/json"}
        self._messages = [request_headers(dict(headers)), request_body(json.dumps(body).encode())]
        self._name, self._journal = name, journal

    async def read(self) -> object:
        await asyncio.sleep(0)
        return self._messages.pop(0) if self._messages else grpc.aio.EOF

    async def write(self, reply: bytes) -> None:
        assert reply
        self._journal.append(self._name)


@pytest.fixture
def segment() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="brixflow-test-") as folder:
        provide(Path(folder) / "segment")
        yield Path(folder) / "segment"


@pytest.fixture
def writer(segment: Path) -> Iterator[SegmentWriter]:
    pod = Pod(key="uid", namespace="default", name="engine", address="10.0.0.1:8000", ready=True)
    with SegmentWriter.open(segment) as writer:
        writer.publish({MODEL: [pod]}, Settings(default_strategy="random"))
        yield writer


@pytest.fixture
async def processor(segment: Path, writer: SegmentWriter) -> AsyncIterator[Processor]:
    collector = Collector(segment.with_name("nobody.sock"), timedelta(milliseconds=50))
    with SegmentReader.open(segment, flows=64) as reader:
        processor = Processor(reader, collector)
        yield processor
        processor.close()
    await collector.close()


async def test_other_streams_go_on_while_many_tokens_are_counted(processor: Processor) -> None:
    journal: list[str] = []
    large = asyncio.create_task(processor.process(None, Stream("large", COUNTED, journal)))
    await eventually(lambda: journal == ["large"], every=0)
    await asyncio.gather(*(processor.process(None, Stream("short", SHORT, journal)) for _ in range(20)))
    await large
    assert journal == ["large", *["short"] * 40, "large"]


async def test_a_stream_that_is_cut_meanwhile_is_accounted_once(processor: Processor, writer: SegmentWriter) -> None:
    journal: list[str] = []
    large = asyncio.create_task(processor.process(None, Stream("large", COUNTED, journal)))
    await eventually(lambda: any(thread.name.startswith("large-message") for thread in threading.enumerate()), every=0)
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    totals = writer.totals()
    assert (totals.in_flight, totals.anomalies) == (0, 0)
    (model,) = (model for model in totals.models if model.name == MODEL)
    assert {outcome for outcome, _ in model.endings} == {Outcome.CLIENT_CANCELLED}
    assert sum(model.endings.values()) == 1
