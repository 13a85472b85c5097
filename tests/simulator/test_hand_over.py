"""Prefill and decode on two engines: each protocol, strict and lenient, and what goes wrong in between."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

TEXT = "/v1/completions"
PROBE = {
    "do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None,
    "remote_host": None, "remote_port": None,
}  # fmt: skip
CLAIM = {
    "do_remote_decode": False, "do_remote_prefill": True, "remote_engine_id": "e", "remote_block_ids": [1],
    "remote_host": "127.0.0.1", "remote_port": 1,
}  # fmt: skip
STRICT = ("--transfer-check", "strict")
LARGE_ID = 2**61 + 7


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def body(engine, tokens: int = 100, **more):
    return {"model": engine.model, "prompt": list(range(tokens)), "max_tokens": 3, **more}


async def prefill(engine, **more):
    status, reply = await engine.post(TEXT, body(engine, **{**more, "max_tokens": 1}))
    assert status == 200, reply
    return reply


def as_the_gateway_sends(reply, host: str = "127.0.0.1"):
    return {**reply["kv_transfer_params"], "remote_host": host}


@pytest.fixture
async def pair(start_engine, instant):
    """A strict prefill engine and a strict decode engine of vLLM."""
    port = str(free_port())
    first = await start_engine(*STRICT, "--kv-transfer-port", port, **instant)
    role = '{"kv_connector":"SharedStorageConnector","kv_role":"kv_consumer"}'
    second = await start_engine(*STRICT, "--kv-transfer-config", role, **instant)
    return first, second


async def test_a_prefill_says_where_its_blocks_are(shared_engine):
    params = (await prefill(shared_engine, kv_transfer_params=PROBE))["kv_transfer_params"]
    assert (params["do_remote_prefill"], params["do_remote_decode"]) == (True, False)
    assert (params["remote_host"], params["remote_port"]) == (None, 8200)
    assert len(params["remote_block_ids"]) == 7
    assert params["remote_engine_id"]
    assert (await shared_engine.complete("x", max_tokens=1))["kv_transfer_params"] is None


async def test_a_decode_takes_its_prefill_once(pair):
    first, second = pair
    params = as_the_gateway_sends(await prefill(first, kv_transfer_params=PROBE))
    status, reply = await second.post(TEXT, body(second, kv_transfer_params=params))
    assert (status, reply["usage"]["completion_tokens"]) == (200, 3)
    assert await second.metric("vllm:prompt_tokens_by_source_total", source="external_kv_transfer") == 99
    assert await second.metric("vllm:nixl_bytes_transferred_count") == 1
    status, reply = await second.post(TEXT, body(second, kv_transfer_params=params))
    assert (status, "once" in reply["error"]["message"]) == (400, True)


NOT_A_PREFILL = (
    {"remote_block_ids": None}, {"remote_host": None}, {"remote_port": "x"}, {"remote_engine_id": 5},
    {"remote_request_id": "unknown"}, {"remote_port": 1},
)  # fmt: skip


async def test_a_decode_without_its_prefill_is_an_error(pair):
    first, second = pair
    params = as_the_gateway_sends(await prefill(first, kv_transfer_params=PROBE))
    wrong = [
        {},
        {"kv_transfer_params": {}},
        *({"kv_transfer_params": {**params, **change}} for change in NOT_A_PREFILL),
    ]
    for more in wrong:
        status, reply = await second.post(TEXT, body(second, **more))
        assert (status, reply["error"]["param"]) == (400, "kv_transfer_params"), more
    assert (await second.post(TEXT, body(second, kv_transfer_params=params)))[0] == 200


async def test_any_engine_refuses_a_decode_that_does_not_say_where_its_prefill_is(shared_engine):
    status, reply = await shared_engine.post(TEXT, body(shared_engine, kv_transfer_params={"do_remote_prefill": True}))
    assert (status, reply["error"]["param"]) == (400, "kv_transfer_params")


async def test_an_engine_with_a_connector_asks_for_the_prefill_unbidden(start_engine, instant):
    role = '{"kv_connector":"SharedStorageConnector","kv_role":"kv_consumer"}'
    engine = await start_engine("--kv-transfer-config", role, **instant)
    status, _ = await engine.post(TEXT, body(engine, kv_transfer_params=CLAIM))
    assert status == 400


async def test_a_lenient_decode_goes_without(shared_engine, start_engine, instant):
    lenient = await start_engine("--transfer-check", "lenient", **instant)
    reply = await lenient.complete("x y", max_tokens=2, kv_transfer_params={"do_remote_prefill": True})
    assert reply["usage"]["completion_tokens"] == 2
    status, _ = await shared_engine.post(TEXT, body(shared_engine, kv_transfer_params="text"))
    assert status == 400


async def test_nixl_carries_the_whole_reply(start_engine, instant):
    port = str(free_port())
    kinds = ("kv_producer", "kv_consumer")
    roles = (json.dumps({"kv_connector": "NixlConnector", "kv_role": kind}) for kind in kinds)
    first = await start_engine(*STRICT, "--kv-transfer-port", port, "--kv-transfer-config", next(roles), **instant)
    second = await start_engine(*STRICT, "--kv-transfer-config", next(roles), **instant)
    reply = await prefill(first)
    assert (await second.post(TEXT, body(second, disagg_prefill_resp=reply)))[0] == 200
    assert (await second.post(TEXT, body(second, disagg_prefill_resp={"id": "x"})))[0] == 400
    assert (await second.post(TEXT, body(second)))[0] == 400


async def test_the_decode_waits_for_the_transfer_and_skips_the_prefill(start_engine, instant):
    slow = ("--latency-model", "per-token", "--prefill-per-token", "0.01", "--itl-seconds", "0")
    engine = await start_engine(*slow, "--transfer-latency", "0.2", **instant)
    params = CLAIM
    reply = await engine.complete(list(range(1000)), max_tokens=1, kv_transfer_params=params)
    assert 0.2 <= reply["metrics"]["time_to_first_token_seconds"] < 0.4


async def test_a_failed_transfer_is_an_error_and_is_counted(start_engine, instant):
    engine = await start_engine("--failures", '{"transfer_rate": 100}', **instant)
    params = CLAIM
    status, reply = await engine.post(TEXT, body(engine, kv_transfer_params=params))
    assert (status, reply["error"]["type"]) == (500, "InternalServerError")
    assert await engine.metric("vllm:nixl_num_failed_transfers") == 1


async def test_a_prefill_can_be_refused_on_purpose(start_engine, instant):
    engine = await start_engine("--failures", '{"prefill_status": 429}', **instant)
    assert (await engine.post(TEXT, body(engine, kv_transfer_params=PROBE)))[0] == 429
    assert (await engine.post(TEXT, body(engine)))[0] == 200


async def sglang_pair(start_engine, instant, timeout: str = "5"):
    port = free_port()
    common = (*STRICT, "--transfer-timeout", timeout, "--disaggregation-bootstrap-port", str(port))
    instant |= {"LLM_ENGINE": "sglang"}
    first = await start_engine(*common, "--disaggregation-mode", "prefill", **instant)
    second = await start_engine(*common, "--disaggregation-mode", "decode", **instant)
    return first, second, {"bootstrap_host": "127.0.0.1", "bootstrap_port": port}


@pytest.mark.parametrize("decode_first", [True, False])
async def test_the_halves_of_a_room_meet_in_any_order(start_engine, instant, decode_first):
    first, second, address = await sglang_pair(start_engine, instant)
    room = {**address, "bootstrap_room": LARGE_ID}
    halves = [
        lambda: second.post(TEXT, body(second, **room)),
        lambda: first.post(TEXT, body(first, max_tokens=1, **room)),
    ]
    tasks = []
    for half in halves if decode_first else reversed(halves):
        tasks.append(asyncio.create_task(half()))
        await asyncio.sleep(0.1)
    assert [status for status, _ in await asyncio.gather(*tasks)] == [200, 200]


async def test_halves_of_different_rooms_time_out(start_engine, instant):
    first, second, address = await sglang_pair(start_engine, instant, timeout="0.3")
    decode = second.post(TEXT, body(second, **address, bootstrap_room=1))
    prefilled = first.post(TEXT, body(first, max_tokens=1, **address, bootstrap_room=2))
    assert [status for status, _ in await asyncio.gather(decode, prefilled)] == [504, 504]
    for engine in (first, second):
        assert (await engine.post(TEXT, body(engine)))[0] == 400


async def test_tensorrt_llm_returns_its_ids_unchanged(start_engine, instant):
    instant |= {"LLM_ENGINE": "trtllm"}
    first = await start_engine(*STRICT, "--kv-transfer-port", str(free_port()), **instant)
    second = await start_engine(*STRICT, "--disaggregation-mode", "decode", **instant)
    asked = {"request_type": "context_only", "disagg_request_id": LARGE_ID}
    reply = await prefill(first, disaggregated_params=asked)
    given = reply["disaggregated_params"]
    assert (given["disagg_request_id"], len(given["first_gen_tokens"])) == (LARGE_ID, 1)
    assert reply["prompt_token_ids"] == list(range(100))
    decode = {**given, "request_type": "generation_only"}
    chat = {"model": "llama2-7b", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    asked_chat = {**chat, "prompt_token_ids": reply["prompt_token_ids"], "disaggregated_params": decode}
    status, answer = await second.post("/v1/chat/completions", asked_chat)
    assert (status, answer["usage"]["prompt_tokens"]) == (200, 100)
    for wrong in (decode, {**decode, "opaque_state": "?"}, {**decode, "disagg_request_id": None}):
        assert (await second.post(TEXT, body(second, disaggregated_params=wrong)))[0] == 400
    assert (await second.post(TEXT, body(second)))[0] == 400
