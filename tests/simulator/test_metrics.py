"""The metrics page moves with the traffic, never falls, and obeys overrides."""

from __future__ import annotations

import asyncio
import json

import pytest

RECORDED_NAMES = (
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:engine_sleep_state",
    "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total",
    "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds", "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds", "vllm:request_prefill_time_seconds", "vllm:request_decode_time_seconds",
    "vllm:request_prompt_tokens", "vllm:prefix_cache_queries_total", "vllm:num_preemptions_total",
    "vllm:cache_config_info", "http_requests_total", "http_request_duration_seconds",
)  # fmt: skip


async def slow(start_engine, instant, *arguments: str, **variables: str):
    """An engine whose requests take very long unless told otherwise."""
    instant |= {"MOCK_TTFT_BASE_SECONDS": "0.05", "MOCK_DECODE_SECONDS_PER_TOKEN": "1"}
    return await start_engine(*arguments, **{**instant, **variables})


async def leave_mid_stream(engine, **fields) -> None:
    body = {"model": engine.model, "prompt": "hi", "max_tokens": 60, "stream": True, **fields}
    async with engine.session.post(engine.url + "/v1/completions", json=body) as reply:
        await reply.content.readline()
        reply.close()


async def test_counters_follow_the_traffic_exactly(engine):
    prompt = list(range(100))
    for _ in range(10):
        await engine.complete(prompt, max_tokens=50)
    assert await engine.metric("vllm:prompt_tokens_total") == 1000
    assert await engine.metric("vllm:generation_tokens_total") == 500
    assert await engine.metric("vllm:request_success_total", finished_reason="length") == 10
    assert await engine.metric("vllm:time_to_first_token_seconds_count") == 10
    assert await engine.metric("vllm:inter_token_latency_seconds_count") == 490
    assert await engine.metric("vllm:e2e_request_latency_seconds_bucket", le="+Inf") == 10


async def test_the_page_has_the_recorded_names(shared_engine):
    await shared_engine.chat(max_tokens=2)
    _, page = await shared_engine.get("/metrics")
    families = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    assert families >= set(RECORDED_NAMES)


async def test_running_and_cache_usage_rise_and_fall_with_a_request(start_engine, instant, eventually):
    engine = await slow(start_engine, instant)
    request = asyncio.create_task(engine.complete("a b c", max_tokens=400))
    await eventually(engine, "vllm:num_requests_running", lambda value: value == 1)
    assert await engine.metric("vllm:kv_cache_usage_perc") > 0
    assert json.loads((await engine.get("/load"))[1]) == {"server_load": 1}
    request.cancel()
    await eventually(engine, "vllm:num_requests_running", lambda value: value == 0)
    assert await engine.metric("vllm:kv_cache_usage_perc") == 0


async def test_a_client_that_leaves_frees_its_slot_and_is_counted(start_engine, instant):
    engine = await slow(start_engine, instant, "--max-num-seqs", "1")
    await leave_mid_stream(engine)
    reply = await asyncio.wait_for(engine.complete(max_tokens=1), 5)
    assert reply["usage"]["completion_tokens"] == 1
    assert await engine.metric("vllm:request_success_total", finished_reason="abort") == 1
    assert await engine.metric("vllm:num_requests_running") == 0


async def test_sequences_beyond_the_slots_wait_and_a_full_queue_refuses(start_engine, instant, eventually):
    engine = await slow(start_engine, instant, "--max-num-seqs", "2", "--max-waiting", "3")
    tasks = [asyncio.create_task(engine.complete(max_tokens=500)) for _ in range(5)]
    await eventually(engine, "vllm:num_requests_waiting", lambda value: value == 3)
    assert await engine.metric("vllm:num_requests_running") == 2
    status, body = await engine.post("/v1/completions", {"model": engine.model, "prompt": "x", "max_tokens": 1})
    assert (status, body["error"]["code"]) == (503, 503)
    for task in tasks:
        task.cancel()


async def test_a_full_engine_serves_everybody_in_turn(start_engine, instant):
    instant |= {"MOCK_BASE_LATENCY_SECONDS": "0.05"}
    engine = await start_engine("--max-num-seqs", "16", **instant)
    await asyncio.gather(*(engine.complete(max_tokens=2) for _ in range(90)))
    assert await engine.metric("vllm:request_success_total", finished_reason="length") == 90
    assert await engine.metric("vllm:request_queue_time_seconds_sum") > 0


async def test_tokens_count_while_a_plain_request_still_runs(start_engine, instant, eventually):
    engine = await slow(start_engine, instant, MOCK_DECODE_SECONDS_PER_TOKEN="0.02")
    request = asyncio.create_task(engine.complete(max_tokens=40))
    await eventually(engine, "vllm:generation_tokens_total", lambda value: 0 < value < 40)
    await request
    assert await engine.metric("vllm:generation_tokens_total") == 40


async def test_counters_and_buckets_never_fall_under_mixed_traffic(start_engine, instant):
    instant |= {"MOCK_BASE_LATENCY_SECONDS": "0.02", "MOCK_LATENCY_JITTER_SECONDS": "0.02"}
    engine = await start_engine(**instant)

    async def traffic() -> None:
        for _ in range(8):
            await asyncio.gather(engine.chat(max_tokens=9), engine.complete(max_tokens=5), leave_mid_stream(engine))

    task, before = asyncio.create_task(traffic()), {}
    while not task.done():
        after = await engine.metrics()
        grows = {
            name: value for name, value in after.items() if any(end in name for end in ("_total", "_bucket", "_count"))
        }
        fallen = [name for name, value in before.items() if grows[name] < value]
        assert not fallen
        before = grows
        await asyncio.sleep(0.01)
    await task


async def test_buckets_are_cumulative_and_end_at_the_count(engine):
    await engine.chat(max_tokens=5)
    _, page = await engine.get("/metrics")
    series: dict[str, list[float]] = {}
    for line in page.splitlines():
        if line.startswith("vllm:") and "_bucket{" in line:
            series.setdefault(line.split("_bucket")[0], []).append(float(line.rsplit(" ", 1)[1]))
    samples = await engine.metrics()
    assert series
    for name, values in series.items():
        assert values == sorted(values)
        assert values[-1] == samples[f'{name}_count{{engine="0",model_name="llama2-7b"}}']


async def test_http_requests_are_counted_by_handler_and_status(engine):
    await engine.chat(max_tokens=1)
    await engine.get("/nothing")
    samples = await engine.metrics()
    assert samples['http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"}'] == 1
    assert samples['http_requests_total{handler="none",method="GET",status="4xx"}'] == 1


async def test_overrides_from_the_environment_pin_values(start_engine, instant):
    engine = await start_engine(**instant, METRICS_OVERRIDES='{"success_total": 1, "running": 1}')
    for _ in range(3):
        await engine.complete(max_tokens=1)
        assert await engine.metric("vllm:num_requests_running") == 1
        samples = await engine.metrics()
        assert sum(value for name, value in samples.items() if name.startswith("vllm:request_success_total")) == 1


async def test_set_metrics_pins_and_null_releases(engine):
    status, body = await engine.post("/set_metrics", {"waiting": 7, "kv_cache_usage_perc": 0.5, "colour": 3})
    assert (status, body["status"], body["ignored"]) == (200, "success", ["colour"])
    assert await engine.metric("vllm:num_requests_waiting") == 7
    assert await engine.metric("vllm:kv_cache_usage_perc") == 0.5
    await engine.post("/set_metrics", {"waiting": None})
    assert await engine.metric("vllm:num_requests_waiting") == 0
    assert await engine.metric("vllm:kv_cache_usage_perc") == 0.5


@pytest.mark.parametrize("body", [{}, [1], "x", {"waiting": 3, "running": "many"}, {"waiting": True}])
async def test_set_metrics_refuses_and_changes_nothing(shared_engine, body):
    status, _ = await shared_engine.post("/set_metrics", body)
    assert status == 400
    assert await shared_engine.metric("vllm:num_requests_waiting") == 0


async def test_the_model_name_label_can_be_overridden(engine):
    await engine.post("/set_metrics", {"model_name": 'a"b'})
    assert '{engine="0",model_name="a\\"b"} 0.0' in (await engine.get("/metrics"))[1]


async def test_the_page_parses_with_a_prometheus_client(shared_engine):
    from prometheus_client.parser import text_string_to_metric_families

    await shared_engine.chat(max_tokens=3)
    families = list(text_string_to_metric_families((await shared_engine.get("/metrics"))[1]))
    assert {"vllm:prompt_tokens", "vllm:e2e_request_latency_seconds"} <= {family.name for family in families}


async def test_an_idle_engine_uses_no_cpu(engine):
    await engine.get("/health")
    before = engine.cpu_ticks
    await asyncio.sleep(1)
    assert engine.cpu_ticks <= before + 1
