"""KV events of a real process over ZeroMQ: what is sent when, both encodings, replay, ranks."""

from __future__ import annotations

import asyncio
import json

import msgpack
import pytest

from simulator.kv_events import AdapterKey, AllBlocksCleared, BlockRemoved, BlocksStored, payload
from simulator.kv_publisher import shifted
from tests.simulator.kv_reader import decode

EVENTS = (
    BlocksStored((b"\1" * 32, b"\2" * 32), b"\3" * 32, (1, 2, 3, 4), 2, AdapterKey(7, "a"), "salt"),
    BlockRemoved(b"\4" * 32),
    AllBlocksCleared(),
)


def flags(tmp_socket, *more: str) -> tuple[str, ...]:
    """Flags in the form that AIBrix's manifests use."""
    return (
        "--enable-kv-cache-events", "--kv-events-publisher=zmq", f"--kv-events-endpoint={tmp_socket('events')}",
        f"--kv-events-replay-endpoint={tmp_socket('replay')}", "--kv-events-buffer-steps=4", *more,
    )  # fmt: skip


async def test_a_repeated_prompt_is_announced_once(start_engine, instant, tmp_socket, open_reader):
    engine = await start_engine(*flags(tmp_socket), **instant)
    reader = await open_reader(tmp_socket("events"), engine)
    for expected in (0, 4080):
        reply = await engine.complete(list(range(4096)), max_tokens=1)
        assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == expected
    hashes = [
        hash_ for frames in await reader.until(1) for event in decode(frames)[2] for hash_ in event["block_hashes"]
    ]
    assert len(hashes) == 256
    assert await reader.silent()


async def test_a_reset_is_told_and_the_next_prompt_misses(start_engine, instant, tmp_socket, open_reader):
    engine = await start_engine(*flags(tmp_socket), **instant)
    reader = await open_reader(tmp_socket("events"), engine)
    await engine.complete(list(range(64)), max_tokens=1)
    assert await engine.post("/reset_prefix_cache", None) == (200, {"success": True})
    reply = await engine.complete(list(range(64)), max_tokens=1)
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    kinds = [event["type"] for frames in await reader.until(3) for event in decode(frames)[2]]
    assert kinds == ["BlockStored", "AllBlocksCleared", "BlockStored"]


async def test_removals_come_before_the_stores_that_need_their_room(start_engine, instant, tmp_socket, open_reader):
    sizes = ("--num-gpu-blocks", "16", "--max-model-len", "256")
    engine = await start_engine(*flags(tmp_socket, *sizes), **instant)
    reader = await open_reader(tmp_socket("events"), engine)
    for number in range(3):
        await engine.complete([number] * 160, max_tokens=1)
    batches = [decode(frames) for frames in await reader.until(3)]
    assert [number for number, *_ in batches] == [0, 1, 2]
    kinds = [event["type"] for event in batches[1][2]]
    assert kinds == [*["BlockRemoved"] * 4, "BlockStored"]
    first = batches[0][2][0]["block_hashes"]
    assert [event["block_hashes"][0] for event in batches[1][2][:-1]] == first[:-5:-1]


async def test_replay_gives_what_is_retained_from_a_number_on(start_engine, instant, tmp_socket, open_reader):
    engine = await start_engine(*flags(tmp_socket), **instant)
    for number in range(6):
        await engine.complete([number] * 32, max_tokens=1)
    reader = await open_reader(tmp_socket("events"))
    for start, expected in ((0, [2, 3, 4, 5, -1]), (4, [4, 5, -1]), (9, [-1])):
        answer = await reader.replay(tmp_socket("replay"), start)
        assert [int.from_bytes(frames[2], "big", signed=True) for frames in answer] == expected


async def test_the_older_encoding_sends_tagged_arrays_without_a_topic_in_replays(
    start_engine, instant, tmp_socket, open_reader
):
    arguments = flags(tmp_socket, "--kv-events-encoding", "array", "--kv-events-hash-form", "bytes")
    engine = await start_engine(*arguments, **instant)
    await engine.complete(list(range(32)), max_tokens=1)
    reader = await open_reader(tmp_socket("events"))
    (empty, number, packed), end = await reader.replay(tmp_socket("replay"), 0)
    at, [event], rank = msgpack.unpackb(packed)
    assert (empty, number, rank, type(at)) == (b"", bytes(8), 0, float)
    tag, hashes, parent, tokens, size, lora, medium, lora_name = event
    assert (tag, parent, tokens, size, lora, medium, lora_name) == (
        "BlockStored", None, list(range(32)), 16, None, "GPU", None,
    )  # fmt: skip
    assert [len(hash_) for hash_ in hashes] == [32, 32]
    assert end == [b"", b"\xff" * 8, b""]


async def test_each_rank_has_its_own_cache_and_publisher(start_engine, instant, tmp_socket, open_reader):
    engine = await start_engine(*flags(tmp_socket, "--data-parallel-size", "2"), **instant)
    readers = [await open_reader(tmp_socket(name)) for name in ("events", "events_1")]
    for rank in (1, 1, 0):
        body = {"model": engine.model, "prompt": [rank] * 48, "max_tokens": 1}
        await engine.post("/v1/completions", body, headers={"X-data-parallel-rank": str(rank)})
    for rank, name in enumerate(("replay", "replay_1")):
        (*_, packed), _ = await readers[rank].replay(tmp_socket(name), 0)
        _, [event], told = msgpack.unpackb(packed)
        assert (told, event["token_ids"]) == (rank, [rank] * 48)
    samples = await engine.metrics()
    hits = [samples[f'vllm:prefix_cache_hits_total{{engine="{rank}",model_name="llama2-7b"}}'] for rank in (0, 1)]
    assert hits == [0, 32]


async def test_a_process_with_a_subscriber_ends_in_time(start_engine, instant, tmp_socket, open_reader):
    engine = await start_engine(*flags(tmp_socket), **instant, SIMULATOR_LINGER_SECONDS="0")
    await open_reader(tmp_socket("events"), engine)
    await engine.complete(list(range(320)), max_tokens=1)
    engine.process.terminate()
    assert await asyncio.wait_for(engine.process.wait(), 5) == 0


async def test_without_events_zeromq_is_not_loaded(start_engine, instant):
    engine = await start_engine(**instant)
    with open(f"/proc/{engine.process.pid}/maps") as maps:  # noqa: ASYNC230, PTH123
        assert "zmq" not in maps.read()


@pytest.mark.parametrize(
    "arguments",
    [("--kv-events-config", "{"), ("--kv-events-config", '{"enable_kv_cache_events":true,"endpoint":"nowhere"}')],
)
async def test_unusable_event_settings_end_the_start(spawn_engine, arguments):
    process = await spawn_engine(*arguments)
    _, log = await process.communicate()
    assert process.returncode == 2
    assert b"Traceback" not in log


def test_both_encodings_hold_the_same():
    maps = payload(1.0, EVENTS, 3, "map", "int")
    arrays = payload(1.0, EVENTS, 3, "array", "bytes")
    assert maps[0::2] == arrays[0::2] == [1.0, 3]
    stored, removed, cleared = maps[1]
    assert stored["block_hashes"] == [int.from_bytes(b"\1" * 8, "big"), int.from_bytes(b"\2" * 8, "big")]
    assert (stored["lora_id"], stored["lora_name"], stored["extra_keys"]) == (7, "a", [["a"], ["a"]])
    assert removed == {"type": "BlockRemoved", "block_hashes": [0x0404040404040404], "medium": "GPU", "group_idx": 0}
    assert cleared == {"type": "AllBlocksCleared"}
    assert arrays[1] == [
        ["BlockStored", [b"\1" * 32, b"\2" * 32], b"\3" * 32, [1, 2, 3, 4], 2, 7, "GPU", "a"],
        ["BlockRemoved", [b"\4" * 32], "GPU"],
        ["AllBlocksCleared"],
    ]
    assert json.loads(json.dumps(maps)) == maps


def test_a_salt_is_an_extra_key_of_the_first_block():
    event = BlocksStored((b"a", b"b"), None, (1, 2), 1, None, "salt")
    assert event.extra_keys == [["salt"], None]


@pytest.mark.parametrize(
    ("endpoint", "rank", "expected"),
    [("tcp://*:5557", 0, "tcp://*:5557"), ("tcp://*:5557", 3, "tcp://*:5560"), ("ipc:///a/b", 2, "ipc:///a/b_2")],
)
def test_each_rank_adds_its_number_to_the_port(endpoint, rank, expected):
    assert shifted(endpoint, rank) == expected
