"""The simulator is asked all that a real vLLM 0.32.0 was asked, in the same order, and answers in the same forms."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.simulator.kv_reader import decode
from tests.simulator.recorded import recorded_batches, recorded_frames, recorded_replay

READ_HEADERS = ("content-type", "allow", "transfer-encoding")
"""Headers that clients act on; a content-length follows from the body."""
OURS = {"metrics"}
"""Fields that the simulator fills and the real engine leaves null."""
FIXED = {
    "object", "role", "finish_reason", "stop_reason", "owned_by", "root", "parent", "type", "param", "code",
    "max_model_len", "completion_tokens", "is_sleeping", "success", "server_load", "model", "version", "index",
    "detail",
}  # fmt: skip
"""Fields whose value does not depend on the vocabulary: it must be the recorded one."""
ARGUMENTS = (
    "--model", "./tiny", "--served-model-name", "tiny", "--max-model-len", "1024", "--block-size", "32",
    "--num-gpu-blocks", "120", "--max-loras", "2", "--task", "generate",
)  # fmt: skip


@pytest.fixture
async def tiny(start_engine, instant, tmp_socket):
    """An engine with the names and sizes of the recorded one."""
    events = {
        "enable_kv_cache_events": True, "publisher": "zmq", "topic": "kv@127.0.0.1@tiny",
        "endpoint": tmp_socket("events"), "replay_endpoint": tmp_socket("replay"),
    }  # fmt: skip
    return await start_engine(*ARGUMENTS, "--kv-events-config", json.dumps(events), model="tiny", **instant)


async def replay(engine, recording) -> tuple[int, dict[str, str], str]:
    request = recording["request"]
    options = {"data": request["body"], "headers": request["headers"]}
    async with engine.session.request(request["method"], engine.url + request["path"], **options) as reply:
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return reply.status, headers, await reply.text()


def shape(value: Any, key: str = "") -> Any:
    """Keys in order, kinds of values, and the values themselves where they are fixed; lists by their items."""
    if isinstance(value, dict):
        return {name: shape(item, name) for name, item in value.items() if name not in OURS}
    if isinstance(value, list):
        return [type(item).__name__ for item in value[:1]] if key == "tokens" else [shape(item) for item in value]
    return value if key in FIXED else type(value).__name__


def parsed(text: str, content_type: str) -> Any:
    """The body as its parts: JSON, the events of a stream, or the text itself."""
    if content_type.startswith("application/json"):
        return json.loads(text)
    if content_type.startswith("text/event-stream"):
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]
    return text


async def test_every_recorded_request_is_answered_in_the_recorded_form(tiny, recordings):
    assert len(recordings) == 46
    for name, recording in recordings.items():
        status, headers, text = await replay(tiny, recording)
        recorded = recording["response"]
        content_type = recorded["headers"].get("content-type", "")
        assert (name, status) == (name, recorded["status"])
        assert headers.get("content-type", "") == content_type, name
        for header in READ_HEADERS:
            assert headers.get(header) == recorded["headers"].get(header), (name, header)
        ours, theirs = parsed(text, content_type), parsed(recorded["body"], content_type)
        assert json.dumps(shape(ours)) == json.dumps(shape(theirs)), name
        if status >= 400 or not content_type:
            assert text == recorded["body"], name


async def test_the_recorded_prefix_hit_is_one_here_too(tiny, recordings):
    cached = []
    for name in ("completion-long", "completion-long-again-prefix-hit"):
        _, _, text = await replay(tiny, recordings[name])
        cached.append(json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached[0] == 0
    assert cached[1] > 0
    assert cached[1] % 32 == 0


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


def event_shape(event: Any) -> Any:
    """Names of fields in order with the kinds of their values and of the items of lists."""
    return [(name, type(value).__name__, kinds(value)) for name, value in event.items()]


def kinds(value: Any) -> set[str]:
    return {type(item).__name__ for item in value} if isinstance(value, list) else set()


async def test_event_frames_decode_like_the_recorded_ones_field_for_field(tiny, tmp_socket, open_reader):
    reader = await open_reader(tmp_socket("events"), tiny)
    chain = [event["token_ids"] for _, batch in recorded_batches() for event in batch[1] if "token_ids" in event]
    for number, tokens in enumerate(chain):
        lora = number == 1
        if lora:
            await tiny.session.post(tiny.url + "/v1/load_lora_adapter", json={"lora_name": "lora1", "lora_path": "x"})
        model = "lora1" if lora else "tiny"
        body = {"model": model, "prompt": [*tokens, 1], "max_tokens": 2}
        assert (await tiny.post("/v1/completions", body))[0] == 200
    ours = await reader.until(len(chain))
    theirs = [frames for _, frames in recorded_frames()]
    assert [len(frames) for frames in ours] == [3] * len(theirs)
    for mine, recorded in zip(ours, theirs, strict=True):
        assert mine[0] == recorded[0]
        (my_number, my_time, my_events, my_rank), (number, time, events, rank) = decode(mine), decode(recorded)
        assert (type(my_time), my_rank) == (type(time), rank)
        assert my_number == number
        for event in events:
            twins = [other for other in my_events if other["type"] == event["type"]]
            assert twins or event["type"] == "BlockRemoved"
            for twin in twins:
                assert event_shape(twin) == event_shape(event)
        stored = [event for event in my_events if event["type"] == "BlockStored"]
        assert [event["token_ids"] for event in stored] == [e["token_ids"] for e in events if "token_ids" in e]
        for event, other in zip(stored, (e for e in events if "token_ids" in e), strict=True):
            for name in ("block_size", "medium", "lora_name", "extra_keys", "group_idx", "kv_cache_spec_kind"):
                assert event[name] == other[name]


async def test_a_replay_answer_has_the_recorded_frames(tiny, tmp_socket, open_reader):
    for number in range(3):
        await tiny.complete(list(range(number, number + 64)), max_tokens=1)
    reader = await open_reader(tmp_socket("events"))
    ours = await reader.replay(tmp_socket("replay"), 0)
    theirs = recorded_replay()
    theirs = theirs[: [frames[-2] for frames in theirs].index(b"\xff" * 8) + 1]
    assert {len(frames) for frames in ours} == {len(frames) for frames in theirs} == {4}
    assert [int.from_bytes(frames[2], "big", signed=True) for frames in ours] == [0, 1, 2, -1]
    assert ours[-1] == theirs[-1]
    assert ours[0][:2] == theirs[0][:2]
