"""The families of vLLM 0.32, and after them those that only older engines have.

The older ones (GPU and CPU cache usage, swapped, mean throughput, hit rates) stay on the page because dashboards and
autoscalers ask for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from simulator.engine import Engine
from simulator.exposition import Labels, counter, extended, gauge, histogram
from simulator.overrides import Overrides
from simulator.service import Service
from simulator.statistics import EngineStatistics, Histogram

SLEEP_EXPLANATION = (
    "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
    "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2."
)
CACHE_CONFIG = (
    ("_block_size_resolved", "True"), ("cache_dtype", "auto"), ("cache_hit_alignment_tokens", "None"),
    ("enable_mamba_shared_prefix_checkpoint", "False"), ("gpu_memory_utilization", "0.92"), ("hash_block_size", "None"),
    ("is_attention_free", "False"), ("kv_cache_dtype_skip_layers", "[]"), ("kv_cache_layout", "None"),
    ("kv_offloading_backend", "native"), ("kv_offloading_size", "None"), ("kv_sharing_fast_prefill", "False"),
    ("mamba_block_size", "None"), ("mamba_cache_dtype", "auto"), ("mamba_cache_mode", "none"),
    ("mamba_page_size_padded", "None"), ("mamba_ssm_cache_dtype", "float32"), ("num_cpu_blocks", "None"),
    ("prefix_cache_retention_interval", "0"), ("prefix_caching_hash_algo", "sha256"), ("prefix_match_unit", "None"),
    ("replayssm_buffer_len", "16"), ("skip_page_size_padded", "None"), ("sliding_window", "None"),
    ("swa_bounded_replay", "True"), ("use_kda_recoverssm", "False"), ("use_replayssm", "False"),
    ("user_specified_block_size", "True"),
)  # fmt: skip

Ranks: TypeAlias = list[tuple[Labels, Engine]]
Read: TypeAlias = Callable[[EngineStatistics], float]

COUNTERS: tuple[tuple[str, str, Read], ...] = (
    (
        "prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.",
        lambda statistics: statistics.lookup_tokens,
    ),
    (
        "prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.",
        lambda statistics: statistics.lookup_hits,
    ),
    (
        "external_prefix_cache_queries",
        "External prefix cache queries from KV connector cross-instance cache sharing, in terms of queried tokens.",
        lambda statistics: statistics.transferred_prompt_tokens,
    ),
    (
        "external_prefix_cache_hits",
        "External prefix cache hits from KV connector cross-instance cache sharing, in terms of cached tokens.",
        lambda statistics: statistics.transferred_prompt_tokens,
    ),
    ("mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items.", lambda _: 0),
    ("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items.", lambda _: 0),
    (
        "num_preemptions", "Cumulative number of preemption from the engine.",
        lambda statistics: statistics.preemptions,
    ),
    (
        "prompt_tokens_cached", "Number of cached prompt tokens (local + external).",
        lambda statistics: statistics.cached_prompt_tokens + statistics.transferred_prompt_tokens,
    ),
)  # fmt: skip

HISTOGRAMS: tuple[tuple[str, str, Callable[[EngineStatistics], Histogram]], ...] = (
    ("request_prompt_tokens", "Number of prefill tokens processed.", lambda s: s.request_prompt_tokens),
    ("request_generation_tokens", "Number of generation tokens processed.", lambda s: s.request_generation_tokens),
    ("iteration_tokens_total", "Histogram of number of tokens per engine_step.", lambda s: s.iteration_tokens),
    (
        "request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.",
        lambda s: s.request_max_generation_tokens,
    ),
    ("request_params_n", "Histogram of the n request parameter.", lambda s: s.request_choices),
    ("request_params_max_tokens", "Histogram of the max_tokens request parameter.", lambda s: s.request_max_tokens),
    ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", lambda s: s.time_to_first_token),
    ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", lambda s: s.inter_token_latency),
    (
        "request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request.",
        lambda s: s.time_per_output_token,
    ),
    ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", lambda s: s.end_to_end),
    ("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", lambda s: s.queue_time),
    (
        "request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.",
        lambda s: s.inference_time,
    ),
    ("request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", lambda s: s.prefill_time),
    ("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", lambda s: s.decode_time),
    (
        "request_num_preemptions", "Histogram of the number of times a request was preempted.",
        lambda s: s.request_preemptions,
    ),
    (
        "request_prefill_kv_computed_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
        lambda s: s.request_computed_tokens,
    ),
)  # fmt: skip


def lines(service: Service) -> Iterator[str]:
    """Yield the whole page, one series per data-parallel rank."""
    model = service.overrides.text("model_name", service.settings.served_names[0])
    ranks: Ranks = [
        ((("engine", str(rank)), ("model_name", model)), engine) for rank, engine in enumerate(service.engines)
    ]
    created = float(service.started)
    yield from _estimates(ranks, created)
    yield from _gauges(ranks, service.overrides)
    yield from _counters(ranks, service, created)
    for name, explanation, read in HISTOGRAMS:
        series = [(labels, read(engine.statistics)) for labels, engine in ranks]
        yield from histogram(f"vllm:{name}", explanation, series, created)
    if service.settings.enable_lora:
        yield from _lora(service)
    yield from _cache_config(ranks)
    yield from _older(ranks, service)
    if service.settings.transfer.connector == "nixl" or any(engine.statistics.transfers.any for _, engine in ranks):
        yield from _transfers(ranks, created)


def _estimates(ranks: Ranks, created: float) -> Iterator[str]:
    for name, what in (
        ("flops", "floating point operations per GPU"),
        ("read_bytes", "bytes read from memory per GPU"),
        ("write_bytes", "bytes written to memory per GPU"),
    ):
        explanation = f"Estimated number of {what} (for Model Flops Utilization calculations)."
        zeros = [(labels, 0.0) for labels, _ in ranks]
        yield from counter(f"vllm:estimated_{name}_per_gpu_total", explanation, zeros, created)


def _gauges(ranks: Ranks, pinned: Overrides) -> Iterator[str]:
    running = [(labels, pinned.number("running", engine.running)) for labels, engine in ranks]
    yield from gauge("vllm:num_requests_running", "Number of requests in model execution batches.", running)
    waiting = [(labels, pinned.number("waiting", engine.waiting)) for labels, engine in ranks]
    yield from gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", waiting)
    reasons = []
    for (labels, total), (_, engine) in zip(waiting, ranks, strict=True):
        deferred = min(engine.deferred, total)
        reasons.append((extended(labels, "reason", "capacity"), total - deferred))
        reasons.append((extended(labels, "reason", "deferred"), deferred))
    explanation = "Number of waiting requests by reason; the sum of all reasons equals vllm:num_requests_waiting."
    yield from gauge("vllm:num_requests_waiting_by_reason", explanation, reasons)
    states = [
        (extended(labels, "sleep_state", state), float(engine.sleep_state == state))
        for labels, engine in ranks
        for state in ("awake", "weights_offloaded", "discard_all")
    ]
    yield from gauge("vllm:engine_sleep_state", SLEEP_EXPLANATION, states)
    usage = [(labels, pinned.number("kv_cache_usage_perc", engine.cache_usage)) for labels, engine in ranks]
    yield from gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", usage)


def _counters(ranks: Ranks, service: Service, created: float) -> Iterator[str]:
    for name, explanation, read in COUNTERS:
        samples = [(labels, read(engine.statistics)) for labels, engine in ranks]
        yield from counter(f"vllm:{name}_total", explanation, samples, created)
    pinned = service.overrides
    for name, explanation in (
        ("prompt_tokens", "Number of prefill tokens processed."),
        ("generation_tokens", "Number of generation tokens processed."),
    ):
        tokens = [
            (labels, pinned.number(f"{name}_total", getattr(engine.statistics, name))) for labels, engine in ranks
        ]
        yield from counter(f"vllm:{name}_total", explanation, tokens, created)
    yield from _sources(ranks, created)
    yield from _finished(ranks, service, created)
    model = ranks[0][0][1]
    rejected = sum(engine.statistics.rejected for _, engine in ranks)
    samples = [
        ((model, ("reason", "max_num_queued_reqs")), rejected),
        ((model, ("reason", "max_num_queued_tokens")), 0),
    ]
    explanation = "Number of admission attempts rejected by a queue limit, by reason."
    yield from counter("vllm:admission_rejections_total", explanation, samples, created)


def _sources(ranks: Ranks, created: float) -> Iterator[str]:
    by_source, by_tier = [], []
    for labels, engine in ranks:
        numbers = engine.statistics
        cached, moved = numbers.cached_prompt_tokens, numbers.transferred_prompt_tokens
        computed = numbers.prompt_tokens - cached - moved
        for source, value in (
            ("local_compute", computed),
            ("local_cache_hit", cached),
            ("external_kv_transfer", moved),
        ):
            by_source.append((extended(labels, "source", source), value))
        for source in ("device", "host", "p2p", "disk", "external_unspecified"):
            value = {"device": cached, "p2p": moved}.get(source, 0)
            by_tier.append((extended(labels, "source", source), value))
    explanation = "Number of prompt tokens by source."
    yield from counter("vllm:prompt_tokens_by_source_total", explanation, by_source, created)
    explanation = "Prefix-cache hit tokens by the cache tier that supplied them."
    yield from counter("vllm:prompt_tokens_cached_by_source_total", explanation, by_tier, created)


def _finished(ranks: Ranks, service: Service, created: float) -> Iterator[str]:
    samples = [
        (extended(labels, "finished_reason", reason), count)
        for labels, engine in ranks
        for reason, count in finished(engine, service)
    ]
    explanation = "Count of successfully processed requests."
    yield from counter("vllm:request_success_total", explanation, samples, created)


def finished(engine: Engine, service: Service) -> Iterable[tuple[str, float]]:
    """Return the counts by reason; a pinned total counts as `stop` alone, so that the sum over reasons is the pin."""
    total = service.overrides.pinned("success_total")
    if total is None and service.settings.replicas is not None:
        total = service.overrides.number("total", 100) / service.settings.replicas
    if total is None:
        return engine.statistics.finished.items()
    return [(reason, total if reason == "stop" else 0) for reason in engine.statistics.finished]


def _lora(service: Service) -> Iterator[str]:
    """Yield which adapters run and wait, with the time as the value; nothing before the first adapter is loaded."""
    samples = []
    if any(True for _ in service.adapters):
        running = sorted({name for engine in service.engines for name in engine.slots.running})
        waiting = sorted({name for engine in service.engines for name in engine.waiting_adapters()})
        labels = (
            ("max_lora", str(service.settings.engine.lora.device_slots)),
            ("running_lora_adapters", ",".join(running)),
            ("waiting_lora_adapters", ",".join(waiting)),
        )
        samples = [(labels, time.time())]
    yield from gauge("vllm:lora_requests_info", "Running stats on lora requests.", samples)


def _cache_config(ranks: Ranks) -> Iterator[str]:
    samples = []
    for labels, engine in ranks:
        limits = engine.limits
        sizes = (
            ("block_size", str(limits.block_tokens)),
            ("effective_attention_block_size", str(limits.block_tokens)),
            ("enable_prefix_caching", str(limits.prefix_caching)),
            ("kv_cache_max_concurrency", str(limits.num_blocks * limits.block_tokens / limits.max_model_tokens)),
            ("kv_cache_memory_bytes", "None"),
            ("kv_cache_size_tokens", str(limits.num_blocks * limits.block_tokens)),
            ("num_gpu_blocks", str(limits.num_blocks)),
            ("num_gpu_blocks_override", str(limits.num_blocks)),
        )
        rank = (labels[0],)
        samples.append((tuple(sorted((*rank, *CACHE_CONFIG, *sizes))), 1.0))
    yield from gauge("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", samples)


def _older(ranks: Ranks, service: Service) -> Iterator[str]:
    pinned, replicas = service.overrides, service.settings.replicas
    shared = None if replicas is None else pinned.number("total", 100) / replicas

    def rate(name: str, measured: float) -> float:
        return pinned.number(name, measured if shared is None else shared)

    families: tuple[tuple[str, str, Callable[[Engine], float]], ...] = (
        ("num_requests_swapped", "Sequences swapped out.", lambda _: pinned.number("swapped", 0)),
        (
            "gpu_cache_usage_perc", "Former name of the KV usage.",
            lambda engine: pinned.number("gpu_cache_usage_perc", engine.cache_usage),
        ),
        ("cpu_cache_usage_perc", "Share of host KV blocks in use.", lambda _: pinned.number("cpu_cache_usage_perc", 0)),
        (
            "avg_prompt_throughput_toks_per_s", "Prompt tokens per second.",
            lambda engine: rate("avg_prompt_throughput", engine.prompt_throughput()),
        ),
        (
            "avg_generation_throughput_toks_per_s", "Generated tokens per second.",
            lambda engine: rate("avg_generation_throughput", engine.generation_throughput()),
        ),
        ("gpu_prefix_cache_hit_rate", "Share of looked up tokens that were cached.", hit_rate),
        ("cpu_prefix_cache_hit_rate", "Share of looked up tokens that host memory held.", lambda _: 0.0),
    )  # fmt: skip
    for name, explanation, read in families:
        yield from gauge(f"vllm:{name}", explanation, [(labels, read(engine)) for labels, engine in ranks])
    if service.settings.metric_aliases:
        totals = [(labels, sum(count for _, count in finished(engine, service))) for labels, engine in ranks]
        yield from counter("vllm:num_requests_success_total", "Alias of the success counter.", totals)
        requests = [(ranks[0][0], float(sum(service.http.requests.values())))]
        yield from counter("vllm:http_requests_total", "Alias of the HTTP counter.", requests)


def hit_rate(engine: Engine) -> float:
    """Return the share of looked up prompt tokens that the prefix cache held, 0 to 1."""
    return engine.statistics.lookup_hits / max(engine.statistics.lookup_tokens, 1)


def _transfers(ranks: Ranks, created: float) -> Iterator[str]:
    moved = [(labels, engine.statistics.transfers) for labels, engine in ranks]
    for name, explanation, field in (
        ("xfer_time_seconds", "Duration of KV transfers.", "seconds"),
        ("post_time_seconds", "Time to post KV transfers.", "post_seconds"),
        ("bytes_transferred", "Bytes per KV transfer.", "bytes"),
        ("num_descriptors", "Descriptors per KV transfer.", "descriptors"),
    ):
        series = [(labels, getattr(transfers, field)) for labels, transfers in moved]
        yield from histogram(f"vllm:nixl_{name}", explanation, series, created)
    failed = [(labels, float(transfers.failed)) for labels, transfers in moved]
    yield from counter("vllm:nixl_num_failed_transfers", "Failed KV transfers.", failed)
    zeros = [(labels, 0.0) for labels, _ in moved]
    yield from counter("vllm:nixl_num_failed_notifications", "Failed KV transfer notifications.", zeros)
