"""The simulator answers what a real vLLM 0.32.0 was recorded to answer: status, shape, and error texts."""

from __future__ import annotations

import json
import re
from typing import Any

import aiohttp
import pytest

REPLIES = (
    "completion", "completion-long", "completion-batch-prompts", "completion-token-ids", "chat",
    "chat-multipart-content", "get-v1-models", "get-version", "get-load",
)  # fmt: skip
STREAMS = ("completion-stream", "completion-stream-usage", "completion-stream-continuous-usage", "chat-stream-usage")
ERRORS = (
    "err-unknown-model", "err-invalid-json", "err-missing-prompt", "err-too-long", "err-bad-param", "err-404-path",
    "err-method", "lora-completion-after-unload",
)  # fmt: skip
EMPTY = ("get-health", "get-ping")

OURS = {"metrics"}
"""Fields that the simulator fills and the real engine leaves null."""


@pytest.fixture
async def tiny(start_engine, instant):
    """An engine with the names and sizes of the recorded one."""
    arguments = ("--model", "./tiny", "--served-model-name", "tiny", "--max-model-len", "1024", "--task", "generate")
    return await start_engine(*arguments, model="tiny", **instant)


async def replay(engine, recording) -> tuple[int, dict[str, str], str]:
    request = recording["request"]
    options = {"data": request["body"], "headers": request["headers"]}
    async with engine.session.request(request["method"], engine.url + request["path"], **options) as reply:
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return reply.status, headers, await reply.text()


def shape(value: Any) -> Any:
    """Keys in order and kinds of values; lists by their items."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key not in OURS}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def masked(name: str, body: str) -> Any:
    """The error; token counts, which depend on the vocabulary, as zeros."""
    return json.loads(re.sub(r"\d+", "0", body) if name == "err-too-long" else body)


async def test_plain_replies_have_the_recorded_shape(tiny, recordings):
    for name in REPLIES:
        status, headers, text = await replay(tiny, recordings[name])
        recorded = recordings[name]["response"]
        assert (name, status) == (name, recorded["status"])
        assert headers["content-type"] == recorded["headers"]["content-type"]
        ours, theirs = shape(json.loads(text)), shape(json.loads(recorded["body"]))
        assert ours == theirs, name
        assert list(ours) == list(theirs), name


async def test_streams_have_the_recorded_events_in_order(tiny, recordings):
    for name in STREAMS:
        status, headers, text = await replay(tiny, recordings[name])
        recorded = recordings[name]["response"]
        assert (name, status) == (name, 200)
        assert headers["content-type"] == recorded["headers"]["content-type"]
        assert [shape(event) for event in events(text)] == [shape(event) for event in events(recorded["body"])], name


async def test_errors_have_the_recorded_status_and_text(tiny, recordings):
    for name in ERRORS:
        status, headers, text = await replay(tiny, recordings[name])
        recorded = recordings[name]["response"]
        assert (name, status) == (name, recorded["status"])
        assert headers["content-type"] == recorded["headers"]["content-type"]
        assert headers.get("allow") == recorded["headers"].get("allow")
        assert masked(name, text) == masked(name, recorded["body"])


async def test_health_and_ping_are_200_and_empty(tiny, recordings):
    for name in EMPTY:
        status, _, text = await replay(tiny, recordings[name])
        assert (status, text) == (200, "")


async def test_usage_of_token_ids_is_exact(tiny, recordings):
    _, _, text = await replay(tiny, recordings["completion-token-ids"])
    recorded = json.loads(recordings["completion-token-ids"]["response"]["body"])
    assert json.loads(text)["usage"] == recorded["usage"]


async def test_an_error_keeps_the_connection(tiny):
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(3):
            async with session.post(tiny.url + "/v1/completions", data="{") as reply:
                assert reply.status == 400
                assert reply.headers.get("connection") != "close"
