"""SGLang, TensorRT-LLM and xLLM: their own paths and metrics."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

SGLANG = {
    "num_running_reqs", "num_queue_reqs", "num_retracted_reqs", "token_usage", "gen_throughput", "cache_hit_rate",
    "num_requests", "prompt_tokens", "generation_tokens", "time_to_first_token_seconds", "inter_token_latency_seconds",
    "e2e_request_latency_seconds", "per_stage_req_latency_seconds", "num_prefill_prealloc_queue_reqs",
    "num_decode_prealloc_queue_reqs",
}  # fmt: skip
TRTLLM = {
    "request_success", "e2e_request_latency_seconds", "request_queue_time_seconds", "time_to_first_token_seconds",
    "time_per_output_token_seconds", "kv_cache_utilization", "kv_cache_hit_rate",
}  # fmt: skip


async def start(start_engine, instant, flavour: str, *arguments: str):
    return await start_engine(*arguments, **instant, LLM_ENGINE=flavour)


async def page(engine, path: str = "/metrics"):
    """Return the families of a page by name."""
    status, text = await engine.get(path)
    assert status == 200
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(family) -> float:
    return family.samples[0].value


async def test_sglang_speaks_of_itself_and_moves_with_traffic(start_engine, instant):
    engine = await start(start_engine, instant, "sglang")
    for _ in range(2):
        await engine.complete(list(range(64)), max_tokens=5)
    families = await page(engine)
    assert {name.removeprefix("sglang:") for name in families if name.startswith("sglang:")} == SGLANG
    assert not any(name.startswith("vllm:") for name in families)
    assert all(
        sample.labels["model_name"] == "llama2-7b"
        for name, family in families.items()
        for sample in family.samples
        if name.startswith("sglang:")
    )
    assert value(families["sglang:num_requests"]) == 2
    assert value(families["sglang:generation_tokens"]) == 10
    assert value(families["sglang:cache_hit_rate"]) == pytest.approx(48 / 128)


async def test_sglang_loads_adapters_without_the_version_in_the_path(start_engine, instant):
    engine = await start(start_engine, instant, "sglang")
    for path, expected in (("/v1/load_lora_adapter", 404), ("/load_lora_adapter", 200)):
        async with engine.session.post(engine.url + path, json={"lora_name": "a", "lora_path": "p"}) as reply:
            assert reply.status == expected
    assert [entry["id"] for entry in json.loads((await engine.get("/v1/models"))[1])["data"]] == ["llama2-7b", "a"]
    assert (await engine.get("/health_generate"))[0] == 200
    assert (await engine.get("/flush_cache"))[0] == 200
    assert json.loads((await engine.get("/get_model_info"))[1])["model_path"] == "llama2-7b"


@pytest.mark.parametrize(("aliases", "prefixes"), [((), {"trtllm_"}), (("--metric-aliases",), {"trtllm_", ""})])
async def test_tensorrt_llm_has_its_metrics_at_a_path_of_its_own(start_engine, instant, aliases, prefixes):
    engine = await start(start_engine, instant, "tensorrt-llm", *aliases)
    await engine.chat(max_tokens=3)
    assert (await engine.get("/metrics"))[0] == 404
    families = await page(engine, "/prometheus/metrics")
    for prefix in prefixes:
        assert {prefix + name for name in TRTLLM} <= families.keys()
    assert value(families["trtllm_request_success"]) == 1
    assert ("kv_cache_utilization" in families) == bool(aliases)


async def test_xllm_has_its_two_gauges(start_engine, instant):
    families = await page(await start(start_engine, instant, "xllm"))
    assert {"kv_cache_utilization", "engine_utilization"} <= families.keys()


async def test_overrides_reach_every_flavour(start_engine, instant):
    engine = await start(start_engine, {**instant, "METRICS_OVERRIDES": '{"running": 9}'}, "sglang")
    assert value((await page(engine))["sglang:num_running_reqs"]) == 9


async def test_an_unknown_flavour_ends_the_start(spawn_engine):
    process = await spawn_engine(LLM_ENGINE="abacus")
    await process.communicate()
    assert process.returncode == 2


async def test_aliases_of_vllm_are_there_when_asked_for(start_engine, instant):
    engine = await start_engine("--metric-aliases", **instant)
    await engine.chat(max_tokens=2)
    assert await engine.metric("vllm:num_requests_success_total") == 1
    assert await engine.metric("vllm:http_requests_total") == 1


async def test_the_old_mode_divides_a_total_by_the_replicas(start_engine, instant):
    instant |= {"MOCK_METRICS_MODE": "replicas", "DEFAULT_REPLICAS": "4", "METRICS_OVERRIDES": '{"total": 200}'}
    engine = await start_engine(**instant)
    assert await engine.metric("vllm:avg_prompt_throughput_toks_per_s") == 50
    assert await engine.metric("vllm:request_success_total", finished_reason="stop") == 50
