"""The families of SGLang, TensorRT-LLM and xLLM, from the same counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from simulator.engine import Engine
from simulator.exposition import Labels, Samples, counter, gauge, histogram
from simulator.metrics_vllm import finished, hit_rate
from simulator.service import Service

Ranks: TypeAlias = list[tuple[Labels, Engine]]


def sglang(service: Service) -> Iterator[str]:
    """Yield SGLang's families, label `model_name`."""
    ranks, pinned = _ranks(service), service.overrides
    values = [(labels, engine, engine.statistics) for labels, engine in ranks]
    gauges: tuple[tuple[str, str, Samples], ...] = (
        ("num_running_reqs", "Running requests.", [(at, pinned.number("running", e.running)) for at, e, _ in values]),
        ("num_queue_reqs", "Waiting requests.", [(at, pinned.number("waiting", e.waiting)) for at, e, _ in values]),
        ("num_retracted_reqs", "Retracted requests.", [(at, s.preemptions) for at, _, s in values]),
        (
            "token_usage", "KV usage, 0 to 1.",
            [(at, pinned.number("kv_cache_usage_perc", e.cache_usage)) for at, e, _ in values],
        ),
        (
            "gen_throughput", "Generated tokens per second.",
            [(at, pinned.number("avg_generation_throughput", e.generation_throughput())) for at, e, _ in values],
        ),
        ("cache_hit_rate", "Prefix cache hit rate.", [(at, hit_rate(e)) for at, e, _ in values]),
        ("num_prefill_prealloc_queue_reqs", "Prefills that await their pair.", [(at, 0) for at, _, _ in values]),
        ("num_decode_prealloc_queue_reqs", "Decodes that await a transfer.", [(at, e.deferred) for at, e, _ in values]),
    )  # fmt: skip
    for name, explanation, samples in gauges:
        yield from gauge(f"sglang:{name}", explanation, samples)
    yield from counter("sglang:num_requests_total", "Finished requests.", _successes(service, ranks))
    prompt = [(at, pinned.number("prompt_tokens_total", s.prompt_tokens)) for at, _, s in values]
    yield from counter("sglang:prompt_tokens_total", "Prefill tokens processed.", prompt)
    generated = [(at, pinned.number("generation_tokens_total", s.generation_tokens)) for at, _, s in values]
    yield from counter("sglang:generation_tokens_total", "Tokens generated.", generated)
    for name, explanation, field in (
        ("time_to_first_token_seconds", "Time to first token.", "time_to_first_token"),
        ("inter_token_latency_seconds", "Time between tokens.", "inter_token_latency"),
        ("e2e_request_latency_seconds", "Arrival to last token.", "end_to_end"),
    ):
        yield from histogram(f"sglang:{name}", explanation, [(at, getattr(s, field)) for at, _, s in values])
    stages = [
        (tuple(sorted((*at, ("stage", stage)))), getattr(s, field))
        for at, _, s in values
        for stage, field in (("prefill_waiting", "queue_time"), ("prefill_forward", "prefill_time"))
    ]
    yield from histogram("sglang:per_stage_req_latency_seconds", "Time of a request by stage.", stages)


def trtllm(service: Service) -> Iterator[str]:
    """Yield TensorRT-LLM's families, and with the aliases switched on the same without their prefix."""
    prefixes = ("trtllm_", "") if service.settings.metric_aliases else ("trtllm_",)
    ranks = _ranks(service)
    usage = [(labels, service.overrides.number("kv_cache_usage_perc", engine.cache_usage)) for labels, engine in ranks]
    for prefix in prefixes:
        successes = _successes(service, ranks)
        yield from counter(f"{prefix}request_success_total", "Finished requests.", successes)
        for name, explanation, field in (
            ("e2e_request_latency_seconds", "Arrival to last token.", "end_to_end"),
            ("request_queue_time_seconds", "Time in the waiting queue.", "queue_time"),
            ("time_to_first_token_seconds", "Time to first token.", "time_to_first_token"),
            ("time_per_output_token_seconds", "Mean time per token.", "time_per_output_token"),
        ):
            series = [(labels, getattr(engine.statistics, field)) for labels, engine in ranks]
            yield from histogram(f"{prefix}{name}", explanation, series)
        yield from gauge(f"{prefix}kv_cache_utilization", "KV usage, 0 to 1.", usage)
        rates = [(labels, hit_rate(engine)) for labels, engine in ranks]
        yield from gauge(f"{prefix}kv_cache_hit_rate", "Prefix cache hit rate.", rates)


def xllm(service: Service) -> Iterator[str]:
    """Yield the two gauges that xLLM is asked for."""
    ranks = _ranks(service)
    usage = [(labels, service.overrides.number("kv_cache_usage_perc", engine.cache_usage)) for labels, engine in ranks]
    yield from gauge("kv_cache_utilization", "KV usage, 0 to 1.", usage)
    busy = [(labels, engine.running / engine.limits.max_num_seqs) for labels, engine in ranks]
    yield from gauge("engine_utilization", "Share of the slots that run, 0 to 1.", busy)


def _successes(service: Service, ranks: Ranks) -> list[tuple[Labels, float]]:
    return [(labels, float(sum(count for _, count in finished(engine, service)))) for labels, engine in ranks]


def _ranks(service: Service) -> Ranks:
    """Return the engines with their labels; the rank is one only where there are several."""
    model = ("model_name", service.overrides.text("model_name", service.settings.served_names[0]))
    if len(service.engines) == 1:
        return [((model,), service.engines[0])]
    return [((("dp_rank", str(rank)), model), engine) for rank, engine in enumerate(service.engines)]
