"""Start, authentication, drain and stop of a real process."""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp
import pytest

from tests.simulator.conftest import EngineClient, listening_port

CHAT = "/v1/chat/completions"
BODY = {"model": "llama2-7b", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 12}


async def test_defaults_serve_the_model_of_the_environment(start_engine, instant):
    engine = await start_engine(**instant, MODEL_NAME="my-model", POD_NAME="pod-b")
    _, models = await engine.get("/v1/models")
    assert [model["id"] for model in json.loads(models)["data"]] == ["my-model"]
    status, reply = await engine.post(CHAT, {**BODY, "model": "my-model"})
    assert (status, reply["choices"][0]["message"]["content"][:5]) == (200, "pod-b")


async def test_flags_win_over_the_environment_and_unknown_ones_are_ignored(start_engine, instant):
    flags = ("--served_model_name", "a", "b", "--gpu-memory-utilization", "0.9", "--model=base")
    engine = await start_engine(*flags, **instant, MODEL_NAME="other")
    _, models = await engine.get("/v1/models")
    assert [(model["id"], model["root"]) for model in json.loads(models)["data"]] == [("a", "base"), ("b", "base")]


async def test_an_app_py_starts_the_engine_through_main(tmp_path, instant, start_engine):
    app = tmp_path / "app.py"
    app.write_text("import sys\nfrom simulator.__main__ import main\nsys.exit(main(sys.argv[1:]))\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "app.py", "--api_key", "k", cwd=tmp_path, env={**instant, "SERVER_PORT": "0"},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    line = await asyncio.wait_for(process.stderr.readline(), 20)
    assert b"event=listening" in line
    process.kill()
    await process.wait()


@pytest.mark.parametrize("flag", ["--api_key", "--api-key"])
async def test_a_key_guards_the_api_but_not_health(start_engine, instant, flag):
    engine = await start_engine(flag, "k", **instant)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "k"}):
        status, reply = await engine.post(CHAT, BODY, headers=headers)
        assert (status, reply["error"]["code"], reply["error"]["type"]) == (
            401,
            "invalid_api_key",
            "authentication_error",
        )
    status, reply = await engine.post(CHAT, BODY, headers={"Authorization": "Bearer k"})
    assert (status, bool(reply["choices"][0]["message"]["content"])) == (200, True)
    assert (await engine.get("/v1/models"))[0] == 401
    for path in ("/health", "/ready", "/version", "/load", "/ping", "/metrics"):
        assert (await engine.get(path))[0] == 200, path


async def test_without_a_key_any_header_passes(shared_engine):
    assert (await shared_engine.post(CHAT, BODY, headers={"Authorization": "Bearer x"}))[0] == 200


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ((), {"METRICS_OVERRIDES": "[1]"}),
        ((), {"METRICS_OVERRIDES": "{"}),
        ((), {"METRICS_OVERRIDES": '{"running": "x"}'}),
        ((), {"SERVER_PORT": "http"}),
        ((), {"MOCK_BASE_LATENCY_SECONDS": "-1"}),
        (("--num-gpu-blocks", "3"), {}),
    ],
)
async def test_an_unusable_setting_ends_the_start(spawn_engine, arguments, variables):
    process = await spawn_engine(*arguments, **variables)
    _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert b"Traceback" not in log


async def test_a_taken_port_is_one_line(shared_engine, spawn_engine):
    process = await spawn_engine("--port", str(shared_engine.port))
    _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert log.count(b"\n") == 1


async def test_sigterm_finishes_running_requests_and_exits_with_0(start_engine, instant):
    instant |= {"MOCK_BASE_LATENCY_SECONDS": "1.2", "SIMULATOR_LINGER_SECONDS": "0.5"}
    engine = await start_engine(**instant)
    running = asyncio.create_task(engine.chat(max_tokens=8))
    await asyncio.sleep(0.2)
    await engine.terminate()
    assert (await engine.get("/health"))[0] == 503
    assert (await engine.get("/ready"))[0] == 503
    late = await engine.complete(max_tokens=3)
    assert late["usage"]["completion_tokens"] == 3
    assert (await running)["usage"]["completion_tokens"] == 8
    assert await asyncio.wait_for(engine.process.wait(), 5) == 0


async def test_answers_during_the_drain_ask_to_reconnect(start_engine, instant):
    engine = await start_engine(**instant)
    await engine.terminate()
    async with engine.session.get(engine.url + "/version") as reply:
        assert reply.headers["connection"] == "close"


async def test_a_request_beyond_the_drain_limit_is_aborted(start_engine, instant):
    instant |= {"MOCK_BASE_LATENCY_SECONDS": "60", "SIMULATOR_LINGER_SECONDS": "0", "SIMULATOR_DRAIN_SECONDS": "0.3"}
    engine = await start_engine(**instant)
    running = asyncio.create_task(engine.chat(max_tokens=8))
    await asyncio.sleep(0.2)
    engine.process.terminate()
    assert await asyncio.wait_for(engine.process.wait(), 5) == 0
    with pytest.raises(aiohttp.ClientError):
        await running
    assert b"event=stopped clean=false aborted=1" in await engine.process.stderr.read()


async def test_a_second_signal_ends_at_once(start_engine, instant):
    engine = await start_engine(**instant, SIMULATOR_LINGER_SECONDS="60")
    await engine.terminate()
    engine.process.terminate()
    assert await asyncio.wait_for(engine.process.wait(), 5) == 0


async def test_start_up_is_cheap(engine):
    assert engine.resident_kilobytes < 45_000
    assert engine.cpu_ticks <= 35


async def test_several_engines_in_one_process_are_pods_of_their_own(start_engine, instant):
    first = await start_engine("--engines", "3", **instant)
    ports = [first.port, await listening_port(first.process), await listening_port(first.process)]
    texts = []
    for port in ports:
        engine = EngineClient(port=port, session=first.session)
        texts.append((await engine.chat(max_tokens=20))["choices"][0]["message"]["content"].split(" ")[0])
        assert await engine.metric("vllm:request_success_total", finished_reason="length") == 1
    assert texts == ["pod-a-0", "pod-a-1", "pod-a-2"]
    first.process.terminate()
    assert await asyncio.wait_for(first.process.wait(), 10) == 0
