"""What an injected sidecar answers (runtime cases 1 to 10, 12, 13, 16, 44 to 49, 51 to 53)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from runtime.engine import Engine, RefusedError
from runtime.settings import RuntimeSettings
from runtime.standard_names import with_standard_names

LOAD, UNLOAD = "/v1/lora_adapter/load", "/v1/lora_adapter/unload"
NOWHERE = "http://127.0.0.1:9"


async def test_probes_say_ready_without_asking_the_engine(beside):
    sidecar = await beside(RuntimeSettings(endpoint=NOWHERE, engine="sglang"))
    assert await sidecar.get("/healthz") == (200, '{"status": "ok"}')
    assert await sidecar.get("/ready") == (200, '{"status": "ready"}')


async def test_without_an_engines_address_it_is_not_ready(beside):
    sidecar = await beside(RuntimeSettings(endpoint=""))
    assert await sidecar.get("/ready") == (503, '{"status": "not ready"}')


async def test_metrics_have_the_engines_names_the_standard_ones_and_its_own(beside, start_engine):
    engine = await start_engine()
    await engine.chat()
    sidecar = await beside(RuntimeSettings(endpoint=engine.url))
    await sidecar.get("/ready")
    _, page = await sidecar.get("/metrics")
    lines = page.splitlines()

    def value(name: str) -> str:
        (found,) = [line for line in lines if line.startswith((name + "{", name + " "))]
        return found.rsplit(" ", 1)[1]

    assert value("vllm:num_requests_waiting") == value("aibrix:queue_size")
    assert value("vllm:prompt_tokens_total") == value("aibrix:prompt_tokens_total")
    assert value("vllm:e2e_request_latency_seconds_count") == value("aibrix:e2e_request_latency_seconds_count") == "1.0"
    assert value("vllm:num_requests_running")
    assert 'aibrix:api_request_total{endpoint="/ready",method="GET",status="200"} 1.0' in lines
    assert any(line.startswith("aibrix:info{") for line in lines)


@pytest.mark.parametrize("settings", [{"renames": False}, {"engine": "tgi"}])
async def test_raw_or_unknown_the_engines_page_is_passed_on(beside, start_engine, settings):
    engine = await start_engine()
    _, page = await engine.get("/metrics")
    sidecar = await beside(RuntimeSettings(endpoint=engine.url, **settings))
    _, shown = await sidecar.get("/metrics")
    assert "vllm:num_requests_waiting" in page
    assert "vllm:num_requests_waiting" in shown
    assert "aibrix:queue_size" not in shown


async def test_an_engine_that_is_down_leaves_the_sidecars_own_metrics(beside):
    status, page = await (await beside(RuntimeSettings(endpoint=NOWHERE))).get("/metrics")
    assert status == 200
    assert "aibrix:info" in page
    assert "vllm:" not in page


async def test_an_adapter_is_loaded_listed_and_unloaded_with_the_callers_key(beside, start_engine):
    engine = await start_engine("--enable-lora", "--api-key", "k")
    sidecar = await beside(RuntimeSettings(endpoint=engine.url))
    key = {"Authorization": "Bearer k"}
    body = {"lora_name": "sql.v1", "lora_path": "/adapters/sql"}
    said = "Success: LoRA adapter 'sql.v1' loaded successfully from '/adapters/sql'."
    assert (await sidecar.post(LOAD, body))[0] == 401
    assert await sidecar.post(LOAD, body, **key) == (200, said)
    _, models = await sidecar.get("/v1/models", **key)
    assert "sql.v1" in {model["id"] for model in json.loads(models)["data"]}
    assert (await sidecar.post(UNLOAD, {"lora_name": "sql.v1"}, **key))[0] == 200
    code, text = await sidecar.post(UNLOAD, {"lora_name": "sql.v1"}, **key)
    assert (code, json.loads(text)["type"]) == (404, "NotFoundError")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"lora_name": "a", "lora_path": "/p", "artifact_url": "s3://b/k"}, 422),
        ({"lora_name": "a"}, 422),
        ({"lora_name": "a", "lora_path": "/p", "unknown": 1}, 422),
        ({"lora_name": "a", "lora_path": 7}, 422),
        (["a"], 422),
        ({"lora_name": "", "lora_path": "/p"}, 400),
        ({"lora_name": "a" * 254, "lora_path": "/p"}, 400),
        ({"lora_name": "a b", "lora_path": "/p"}, 400),
        ({"lora_name": "../etc", "lora_path": "/p"}, 400),
        ({"lora_name": "a\n", "lora_path": "/p"}, 400),
        ({"lora_name": "a", "lora_path": " "}, 400),
        ({"lora_name": "a", "artifact_url": "s3://b/k"}, 501),
    ],
)
async def test_what_cannot_be_loaded_is_refused_before_the_engine_is_asked(beside, body, code):
    status, text = await (await beside(RuntimeSettings(endpoint=NOWHERE))).post(LOAD, body)
    assert (status, json.loads(text)["code"]) == (code, code), text


async def test_an_engine_that_takes_no_adapters_is_not_asked(beside):
    body = {"lora_name": "a", "lora_path": "/p"}
    assert (await (await beside(RuntimeSettings(endpoint=NOWHERE, engine="tgi"))).post(LOAD, body))[0] == 501


async def test_a_load_is_tried_again_after_a_fault_of_the_engine_and_not_after_its_word(monkeypatch):
    monkeypatch.setattr("runtime.engine.FIRST_PAUSE_SECONDS", 0.01)
    asked: list[int] = []
    answers = [500, 500, 200, 409]

    async def load(_: web.Request) -> web.Response:
        asked.append(answers[len(asked)])
        return web.Response(status=asked[-1], text="said")

    app = web.Application()
    app.add_routes([web.post("/v1/load_lora_adapter", load)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine = Engine(RuntimeSettings(endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}"))
    await engine.load("a", "/p", {})
    assert asked == [500, 500, 200]
    with pytest.raises(RefusedError, match="already exists") as refused:
        await engine.load("a", "/p", {})
    assert (refused.value.code, refused.value.kind, len(asked)) == (409, "ConflictError", 4)
    await engine.close()
    await runner.cleanup()


async def test_an_engine_that_nobody_serves_is_a_connection_error(monkeypatch):
    monkeypatch.setattr("runtime.engine.FIRST_PAUSE_SECONDS", 0.01)
    engine = Engine(RuntimeSettings(endpoint=NOWHERE))
    with pytest.raises(Exception, match="cannot be reached") as refused:
        await engine.unload("a", {})
    assert (refused.value.code, refused.value.kind) == (502, "ConnectionError")
    await engine.close()


def test_other_engines_pages_get_the_same_names():
    page = '# TYPE sglang:num_queue_reqs gauge\nsglang:num_queue_reqs{m="x"} 3 17'
    copies = with_standard_names(page, "sglang").splitlines()[2:]
    assert copies == ["# TYPE aibrix:queue_size gauge", 'aibrix:queue_size{m="x"} 3 17']
    shown = with_standard_names('time_to_first_token_seconds_bucket{le="1"} 2\nother 1\n', "trtllm")
    assert shown.endswith('other 1\naibrix:time_to_first_token_seconds_bucket{le="1"} 2\n')


def test_settings_are_read_as_the_injection_writes_them():
    read = RuntimeSettings.from_environment
    found = read({"INFERENCE_ENGINE": "SGLang", "INFERENCE_ENGINE_ENDPOINT": "http://localhost:9000/"})
    assert (found.engine, found.endpoint, found.renames) == ("sglang", "http://localhost:9000", True)
    assert not read({"METRICS_RAW_PASSTHROUGH_MODE": "yes"}).renames
    assert not read({"METRICS_ENABLE_TRANSFORMATION": "0"}).renames
    assert read({}).metrics_path == "/metrics"


def test_an_address_that_is_taken_ends_the_command_with_a_reason():
    command = [sys.executable, "-m", "runtime", "--host", "192.0.2.1", "--port", "1"]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "cannot listen" in ended.stderr
