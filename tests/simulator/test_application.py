"""The application in this process: whatever the body, no 5xx and nothing left in the engine."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.app import Application
from simulator.service import Service
from simulator.settings import read_settings
from simulator.wire import Request, Response, Stream

PATHS = ("/v1/chat/completions", "/v1/completions", "/set_metrics")
VALID = {"model": "llama2-7b", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "max_tokens": 3}

values = (
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=4) | st.lists(st.text(), max_size=3)
)
changes = st.dictionaries(
    st.sampled_from(["model", "messages", "prompt", "n", "stop", "stream", "max_tokens", "seed", "running"]),
    values,
    max_size=3,
)


async def answer(service: Service, path: str, body: bytes) -> int:
    """Return the status after reading the whole answer."""
    reply = await Application(service)(Request("POST", path, {}, body, True))
    if isinstance(reply, Stream):
        text = b"".join([piece async for piece in reply.pieces])
        assert text.endswith(b"data: [DONE]\n\n")
    return reply.status


def engine_without_latency(instant: dict[str, str]) -> Service:
    return Service(read_settings([], instant), asyncio.get_running_loop())


def test_no_body_gives_a_server_error_or_leaves_a_sequence(instant):
    @settings(max_examples=250, deadline=None)
    @given(st.sampled_from(PATHS), changes | st.binary(max_size=40))
    def check(path, change):
        body = change if isinstance(change, bytes) else json.dumps({**VALID, **change}).encode()
        asyncio.run(run(path, body))

    async def run(path: str, body: bytes) -> None:
        service = engine_without_latency(instant)
        assert await answer(service, path, body) < 500
        assert (service.running, service.waiting) == (0, 0)

    check()


async def test_a_failing_handler_is_a_500_without_detail(instant, monkeypatch):
    service = engine_without_latency(instant)

    def fail(_text: str) -> list[int]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service.tokenizer, "encode", fail, raising=True)
    reply = await Application(service)(Request("POST", PATHS[0], {}, json.dumps(VALID).encode(), True))
    assert isinstance(reply, Response)
    assert (reply.status, json.loads(reply.body)["error"]["type"]) == (500, "api_error")
    assert b"secret" not in reply.body


async def test_a_stream_closed_before_its_end_is_aborted(instant):
    service = engine_without_latency(
        {**instant, "MOCK_TTFT_BASE_SECONDS": "0.01", "MOCK_DECODE_SECONDS_PER_TOKEN": "9"}
    )
    body = json.dumps({**VALID, "stream": True}).encode()
    reply = await Application(service)(Request("POST", PATHS[0], {}, body, True))
    assert isinstance(reply, Stream)
    await anext(reply.pieces)
    assert service.running == 1
    await reply.pieces.aclose()
    assert service.running == 0
    assert service.engines[0].statistics.finished["abort"] == 1
