"""Sleep, wake, failures on purpose, the live configuration, slow start and crash."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

CHAT = "/v1/chat/completions"
SLEEPY = ("--enable-sleep-mode",)


def chat(engine, **more):
    return engine.post(
        CHAT, {"model": engine.model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, **more}
    )


async def raw(engine, method: str, path: str, **options) -> tuple[int, str]:
    async with engine.session.request(method, engine.url + path, **options) as reply:
        return reply.status, await reply.text()


async def configure(engine, **sections):
    return await engine.post("/admin/config", sections)


@pytest.mark.parametrize(("level", "state"), [(1, "weights_offloaded"), (2, "discard_all")])
async def test_a_sleeping_engine_is_healthy_but_serves_nothing_until_woken(start_engine, instant, level, state):
    engine = await start_engine(*SLEEPY, **instant)
    assert (await chat(engine))[0] == 200
    assert await raw(engine, "POST", f"/sleep?level={level}") == (200, "")
    assert json.loads((await raw(engine, "GET", "/is_sleeping"))[1]) == {"is_sleeping": True}
    assert await engine.metric("vllm:engine_sleep_state", sleep_state=state) == 1
    assert await engine.metric("vllm:engine_sleep_state", sleep_state="awake") == 0
    assert (await chat(engine))[0] == 503
    assert (await engine.get("/health"))[0] == 200
    assert (await raw(engine, "POST", "/wake_up?tags=weights"))[0] == 200
    assert (await chat(engine))[0] == 503
    assert (await raw(engine, "POST", "/wake_up"))[0] == 200
    assert (await chat(engine))[0] == 200
    assert await engine.metric("vllm:engine_sleep_state", sleep_state="awake") == 1


@pytest.mark.parametrize(("mode", "reason"), [("abort", "abort"), ("wait", "length")])
async def test_sleep_ends_running_requests_or_waits_for_them(start_engine, instant, eventually, mode, reason):
    engine = await start_engine(*SLEEPY, **{**instant, "MOCK_BASE_LATENCY_SECONDS": "0.6"})
    running = asyncio.create_task(chat(engine, stream=False))
    await eventually(engine, "vllm:num_requests_running", lambda value: value == 1)
    assert (await raw(engine, "POST", f"/sleep?mode={mode}"))[0] == 200
    status, reply = await running
    assert (status, reply["choices"][0]["finish_reason"]) == (200, reason)


async def test_a_stream_that_is_put_to_sleep_ends_as_aborted(start_engine, instant):
    engine = await start_engine(*SLEEPY, **{**instant, "MOCK_DECODE_SECONDS_PER_TOKEN": "5"})
    body = {"model": engine.model, "prompt": "x", "max_tokens": 9, "stream": True}
    async with engine.session.post(engine.url + "/v1/completions", json=body) as reply:
        await reply.content.readline()
        await raw(engine, "POST", "/sleep")
        rest = (await reply.text()).strip().split("\n\n")
    assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "abort"
    assert rest[-1] == "data: [DONE]"


async def test_without_its_switches_sleep_does_not_exist(start_engine, instant):
    instant.pop("VLLM_SERVER_DEV_MODE")
    engine = await start_engine(*SLEEPY, **instant)
    for path in ("/sleep", "/wake_up", "/is_sleeping", "/reset_prefix_cache"):
        assert (await raw(engine, "POST", path))[0] == 404


async def test_odd_arguments_of_sleep_are_400(start_engine, instant):
    engine = await start_engine(*SLEEPY, **instant)
    for path in ("/sleep?level=7", "/sleep?mode=never", "/wake_up?tags=all"):
        assert (await raw(engine, "POST", path))[0] == 400


STATUSES = {
    "rate_limit": 429, "invalid_api_key": 401, "context_length": 400, "server_error": 503, "invalid_request": 400,
    "model_not_found": 404,
}  # fmt: skip


async def test_every_request_fails_with_the_chosen_error(engine):
    for kind, status in STATUSES.items():
        await configure(engine, failures={"rate": 100, "types": [kind]})
        assert [(await chat(engine))[0] for _ in range(3)] == [status] * 3
        assert (await engine.get("/v1/models"))[0] == 200
    await configure(engine, failures={"rate": 0})
    assert (await chat(engine))[0] == 200


async def test_failures_from_the_environment_hit_about_their_share(start_engine, instant):
    engine = await start_engine(**instant, SIMULATOR_FAILURES='{"rate": 30, "types": ["server_error"]}')
    statuses = [(await chat(engine))[0] for _ in range(100)]
    assert 10 <= statuses.count(503) <= 50
    assert statuses.count(200) == 100 - statuses.count(503)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["reset", "truncated"])
async def test_a_broken_answer_is_not_whole(engine, kind, stream):
    await configure(engine, failures={"rate": 100, "types": [kind]})
    body = {"model": engine.model, "prompt": "x", "max_tokens": 30, "stream": stream}

    async def read() -> str:
        async with engine.session.post(engine.url + "/v1/completions", json=body) as reply:
            return await reply.text()

    if kind == "reset":
        with pytest.raises(aiohttp.ClientError):
            await read()
    else:
        assert not (await read()).endswith(("[DONE]\n\n", "}"))
    assert (await engine.get("/health"))[0] == 200


async def test_a_hanging_engine_answers_nothing_but_its_probes(engine):
    await configure(engine, failures={"hang": True})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(chat(engine), 0.3)
    assert (await engine.get("/health"))[0] == 200


async def test_a_delay_comes_before_every_answer(engine):
    await configure(engine, failures={"delay_seconds": 0.3})
    started = time.monotonic()
    await chat(engine)
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    ("status", "expected"), [("503", 503), ("429", 429), ("abc", 400), ("200", 400), ("99999999999", 400)]
)
async def test_a_header_asks_for_one_error(shared_engine, status, expected):
    options = {"headers": {"X-Sim-Return-Error": status}}
    body = {"model": shared_engine.model, "prompt": "x", "max_tokens": 1}
    assert (await shared_engine.post("/v1/completions", body, **options))[0] == expected


async def test_the_configuration_is_read_and_patched_whole_or_not_at_all(engine):
    before = json.loads((await engine.get("/admin/config"))[1])
    good = {"failures": {"rate": 5}, "latency": {"base_latency_seconds": 0.5}, "metrics": {"waiting": 3}}
    for wrong in (
        {"colour": 1}, {"failures": {"colour": 1}}, {"latency": {"capacity": "many"}}, {"failures": {"rate": 101}},
        {"scale": {"speedup": 0}}, {"metrics": {"colour": 1}}, {"metrics": {"running": "sine:1"}}, {"latency": 5},
    ):  # fmt: skip
        for mixed in (wrong, {**good, **wrong}):
            assert (await configure(engine, **mixed))[0] == 400
    assert json.loads((await engine.get("/admin/config"))[1]) == before
    status, after = await configure(engine, **good)
    assert (status, after["failures"]["rate"], after["latency"]["base_latency_seconds"]) == (200, 5, 0.5)
    assert await engine.metric("vllm:num_requests_waiting") == 3


async def test_a_patched_latency_counts_from_the_next_request(engine):
    await configure(engine, latency={"base_latency_seconds": 0.4})
    assert (await engine.chat(max_tokens=1))["metrics"]["mock_latency_seconds"] == pytest.approx(0.4)
    await configure(engine, scale={"speedup": 10})
    assert (await engine.chat(max_tokens=1))["metrics"]["mock_latency_seconds"] == pytest.approx(0.04)


async def test_a_crash_ends_the_process_with_its_code(engine):
    assert (await engine.post("/admin/crash", {"code": 7}))[0] == 200
    assert await asyncio.wait_for(engine.process.wait(), 5) == 7


async def test_a_process_may_crash_after_so_many_requests(start_engine, instant):
    engine = await start_engine("--failures", '{"crash_after": 2, "crash_code": 3}', **instant)
    assert [(await chat(engine))[0] for _ in range(2)] == [200, 200]
    with pytest.raises(aiohttp.ClientError):
        await chat(engine)
    assert await asyncio.wait_for(engine.process.wait(), 5) == 3


async def test_a_slow_start_is_not_healthy_at_first(start_engine, instant):
    engine = await start_engine("--startup-seconds", "0.5", **instant)
    assert [(await engine.get(path))[0] for path in ("/health", "/ready")] == [503, 503]
    await asyncio.sleep(0.6)
    assert [(await engine.get(path))[0] for path in ("/health", "/ready")] == [200, 200]
