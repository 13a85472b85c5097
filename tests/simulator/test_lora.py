"""Adapters over HTTP: loading, naming, unloading, failures, slots, and their metrics."""

from __future__ import annotations

import asyncio
import json

import pytest

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
MOCK = ("--lora-replies", "mock")


async def call(engine, path: str, **body) -> tuple[int, str]:
    async with engine.session.post(engine.url + path, json=body) as reply:
        return reply.status, await reply.text()


async def names(engine) -> list[str]:
    return [model["id"] for model in json.loads((await engine.get("/v1/models"))[1])["data"]]


async def test_a_loaded_adapter_is_listed_and_answers_until_it_is_unloaded(engine):
    assert await call(engine, LOAD, lora_name="a", lora_path="org/a") == (
        200, "Success: LoRA adapter 'a' added successfully.",
    )  # fmt: skip
    assert await names(engine) == ["llama2-7b", "a"]
    entry = json.loads((await engine.get("/v1/models"))[1])["data"][1]
    assert (entry["root"], entry["parent"], entry["object"]) == ("org/a", "llama2-7b", "model")
    status, reply = await engine.post("/v1/completions", {"model": "a", "prompt": "x", "max_tokens": 9})
    assert (status, reply["model"], "serves a:" in reply["choices"][0]["text"]) == (200, "a", True)
    assert (await call(engine, UNLOAD, lora_name="a"))[0] == 200
    assert await names(engine) == ["llama2-7b"]
    assert (await engine.post("/v1/completions", {"model": "a", "prompt": "x"}))[0] == 404


@pytest.mark.parametrize("replies", [(), MOCK])
async def test_a_second_load_is_refused_with_the_known_words(start_engine, instant, replies):
    engine = await start_engine(*replies, **instant)
    await call(engine, LOAD, lora_name="a", lora_path="org/a")
    status, text = await call(engine, LOAD, lora_name="a", lora_path="org/a")
    error = json.loads(text)["error"]
    assert (status, error["type"], error["code"]) == (400, "InvalidUserInput", 400)
    assert "has already been loaded." in error["message"]
    assert error["message"].endswith("has already been loaded.") == bool(replies)
    again = await call(engine, LOAD, lora_name="a", lora_path="org/b", load_inplace=True)
    assert again[0] == 200


@pytest.mark.parametrize("path", ["/nonexistent/path", "hub/NonExistent", "/INVALID/x", "./nowhere"])
async def test_a_path_with_nothing_at_it_is_not_found(shared_engine, path):
    status, text = await call(shared_engine, LOAD, lora_name="ghost", lora_path=path)
    assert (status, json.loads(text)["error"]["type"]) == (404, "NotFoundError")
    assert "ghost" not in await names(shared_engine)


INCOMPLETE = (
    {}, {"lora_name": "a"}, {"lora_path": "p"}, {"lora_name": "", "lora_path": "p"}, {"lora_name": 5, "lora_path": "p"},
)  # fmt: skip


@pytest.mark.parametrize("replies", [(), MOCK])
async def test_missing_fields_are_400(start_engine, instant, replies):
    engine = await start_engine(*replies, **instant)
    for body in INCOMPLETE:
        status, text = await call(engine, LOAD, **body)
        assert status == 400
        if replies:
            assert json.loads(text)["error"]["type"] == "InvalidUserInput"


async def test_unloading_the_unknown_is_404_and_400_in_the_mock_form(start_engine, instant, shared_engine):
    assert (await call(shared_engine, UNLOAD, lora_name="ghost"))[0] == 404
    mock = await start_engine(*MOCK, **instant)
    status, text = await call(mock, UNLOAD, lora_name="ghost")
    assert (status, json.loads(text)["error"]["type"]) == (400, "NotFoundError")
    assert (await call(mock, UNLOAD))[0] == 400
    status, text = await call(mock, LOAD, lora_name="a", lora_path="b")
    assert json.loads(text)["status"] == "success"


async def test_a_rank_above_the_limit_is_refused(start_engine, instant, tmp_path):
    engine = await start_engine("--max-lora-rank", "16", **instant)
    (tmp_path / "adapter_config.json").write_text('{"r": 32}')
    assert (await call(engine, LOAD, lora_name="a", lora_path=str(tmp_path)))[0] == 400
    assert (await call(engine, LOAD, lora_name="a", lora_path="org/name-r64"))[0] == 400
    assert (await call(engine, LOAD, lora_name="a", lora_path="org/name-r16"))[0] == 200


async def test_concurrent_loads_of_one_name_succeed_once(start_engine, instant):
    engine = await start_engine("--lora-load-seconds", "0.05", **instant)
    replies = await asyncio.gather(*(call(engine, LOAD, lora_name="a", lora_path="p") for _ in range(5)))
    assert sorted(status for status, _ in replies) == [200, 400, 400, 400, 400]


async def test_only_as_many_pinned_adapters_as_slots(start_engine, instant):
    engine = await start_engine("--max-loras", "1", **instant)
    assert (await call(engine, LOAD, lora_name="a", lora_path="p", pinned=True))[0] == 200
    assert (await call(engine, LOAD, lora_name="b", lora_path="p", pinned=True))[0] == 400


async def test_metrics_name_the_adapters_that_run_and_wait(start_engine, instant, eventually):
    instant |= {"MOCK_BASE_LATENCY_SECONDS": "20"}
    engine = await start_engine("--max-loras", "1", "--lora-modules", "a=p", "b=p", **instant)
    tasks = [asyncio.create_task(engine.complete("x", max_tokens=1, model=name)) for name in ("a", "b")]
    await eventually(engine, "vllm:num_requests_waiting", lambda value: value == 1)
    _, page = await engine.get("/metrics")
    [line] = [line for line in page.splitlines() if line.startswith("vllm:lora_requests_info{")]
    assert {'max_lora="1"', 'running_lora_adapters="a"', 'waiting_lora_adapters="b"'} <= set(
        line[line.index("{") + 1 : line.index("}")].split(",")
    )
    assert await engine.metric("vllm:num_requests_waiting_by_reason", reason="deferred") == 1
    for task in tasks:
        task.cancel()


async def test_without_lora_its_paths_do_not_exist(start_engine, instant):
    engine = await start_engine("--enable-lora", "false", **instant)
    assert (await call(engine, LOAD, lora_name="a", lora_path="p"))[0] == 404
