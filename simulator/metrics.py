"""The Prometheus page, from the engine's state and counters, under vLLM's names and labels.

Families that only older engines have (GPU and CPU cache usage, swapped, average throughput) stay on the page, because
dashboards and autoscalers ask for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate

from simulator.engine import Engine
from simulator.overrides import Overrides
from simulator.statistics import Histogram, HttpStatistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


def page(engine: Engine, overrides: Overrides, http: HttpStatistics, model: str) -> bytes:
    """Return the whole page; counters in it never fall unless an override is changed."""
    engine.advance()
    labels = (("engine", "0"), ("model_name", overrides.text("model_name", model)))
    lines = [
        *_gauges(engine, overrides, labels),
        *_counters(engine, overrides, labels),
        *_histograms(engine, labels),
        *_cache_config(engine, labels),
        *_http(http),
        "",
    ]
    return "\n".join(lines).encode()


def _gauges(engine: Engine, pinned: Overrides, labels: Labels) -> Iterator[str]:
    waiting = pinned.number("waiting", engine.waiting)
    usage = engine.cache_usage
    values = (
        ("num_requests_running", "Sequences in the running batch.", pinned.number("running", engine.running)),
        ("num_requests_waiting", "Sequences in the waiting queue.", waiting),
        ("num_requests_swapped", "Sequences swapped out.", pinned.number("swapped", 0)),
        ("kv_cache_usage_perc", "Share of KV blocks in use.", pinned.number("kv_cache_usage_perc", usage)),
        ("gpu_cache_usage_perc", "Former name of the KV usage.", pinned.number("gpu_cache_usage_perc", usage)),
        ("cpu_cache_usage_perc", "Share of host KV blocks in use.", pinned.number("cpu_cache_usage_perc", 0)),
        (
            "avg_prompt_throughput_toks_per_s",
            "Prompt tokens per second.",
            pinned.number("avg_prompt_throughput", engine.prompt_throughput()),
        ),
        (
            "avg_generation_throughput_toks_per_s",
            "Generated tokens per second.",
            pinned.number("avg_generation_throughput", engine.generation_throughput()),
        ),
    )
    for name, explanation, value in values:
        yield from family(f"vllm:{name}", "gauge", explanation, [(labels, value)])
    reasons = [(_with(labels, "reason", "capacity"), waiting), (_with(labels, "reason", "deferred"), 0)]
    yield from family("vllm:num_requests_waiting_by_reason", "gauge", "Waiting sequences by reason.", reasons)
    states = (("awake", 1), ("weights_offloaded", 0), ("discard_all", 0))
    samples = [(_with(labels, "sleep_state", state), value) for state, value in states]
    yield from family("vllm:engine_sleep_state", "gauge", "One for the present sleep state.", samples)


def _counters(engine: Engine, pinned: Overrides, labels: Labels) -> Iterator[str]:
    statistics = engine.statistics
    prompt = pinned.number("prompt_tokens_total", statistics.prompt_tokens)
    generated = pinned.number("generation_tokens_total", statistics.generation_tokens)
    values = (
        ("prompt_tokens_total", "Prompt tokens processed.", prompt),
        ("generation_tokens_total", "Tokens generated.", generated),
        ("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", statistics.prompt_tokens),
        ("prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", 0),
        ("num_preemptions_total", "Preempted sequences.", 0),
    )
    for name, explanation, value in values:
        yield from family(f"vllm:{name}", "counter", explanation, [(labels, value)])
    samples = [(_with(labels, "finished_reason", reason), count) for reason, count in _finished(engine, pinned)]
    yield from family("vllm:request_success_total", "counter", "Finished sequences by reason.", samples)
    rejected = (("model_name", labels[1][1]), ("reason", "max_num_queued_reqs"))
    explanation = "Sequences refused because the queue was full."
    yield from family("vllm:admission_rejections_total", "counter", explanation, [(rejected, statistics.rejected)])


def _finished(engine: Engine, pinned: Overrides) -> Iterable[tuple[str, float]]:
    """Return the counts by reason; a pinned total counts as `stop` alone, so that the sum over reasons is the pin."""
    total = pinned.pinned("success_total")
    if total is None:
        return engine.statistics.finished.items()
    return [(reason, total if reason == "stop" else 0) for reason in engine.statistics.finished]


def _histograms(engine: Engine, labels: Labels) -> Iterator[str]:
    statistics = engine.statistics
    values = (
        ("request_prompt_tokens", "Prompt tokens per sequence.", statistics.request_prompt_tokens),
        ("request_generation_tokens", "Generated tokens per sequence.", statistics.request_generation_tokens),
        ("request_max_num_generation_tokens", "Requested output length.", statistics.request_max_tokens),
        ("time_to_first_token_seconds", "Time to first token.", statistics.time_to_first_token),
        ("inter_token_latency_seconds", "Time between tokens.", statistics.inter_token_latency),
        ("request_time_per_output_token_seconds", "Mean time per token.", statistics.time_per_output_token),
        ("e2e_request_latency_seconds", "Arrival to last token.", statistics.end_to_end),
        ("request_queue_time_seconds", "Time in the waiting queue.", statistics.queue_time),
        ("request_inference_time_seconds", "Time in the running batch.", statistics.inference_time),
        ("request_prefill_time_seconds", "Admission to first token.", statistics.prefill_time),
        ("request_decode_time_seconds", "First to last token.", statistics.decode_time),
    )
    for name, explanation, histogram in values:
        yield from header(f"vllm:{name}", "histogram", explanation)
        yield from buckets(f"vllm:{name}", histogram, labels)


def _cache_config(engine: Engine, labels: Labels) -> Iterator[str]:
    limits = engine.limits
    sizes = (("block_size", str(limits.block_tokens)), ("num_gpu_blocks", str(limits.num_blocks)))
    sample = (tuple(sorted((*labels, *sizes))), 1)
    yield from family("vllm:cache_config_info", "gauge", "The KV cache's sizes, as labels.", [sample])


def _http(http: HttpStatistics) -> Iterator[str]:
    samples = [
        ((("handler", handler), ("method", method), ("status", status)), count)
        for (handler, method, status), count in http.requests.items()
    ]
    yield from family("http_requests_total", "counter", "HTTP requests by handler and status.", samples)
    yield from header("http_request_duration_seconds", "histogram", "Time until the answer began.")
    for (handler, method), histogram in http.durations.items():
        labels = (("handler", handler), ("method", method))
        yield from buckets("http_request_duration_seconds", histogram, labels)


def family(name: str, kind: str, explanation: str, samples: Iterable[tuple[Labels, float]]) -> Iterator[str]:
    """Yield the lines of a gauge or counter family."""
    yield from header(name, kind, explanation)
    for labels, value in samples:
        yield f"{name}{braces(labels)} {float(value)!r}"


def header(name: str, kind: str, explanation: str) -> tuple[str, str]:
    return f"# HELP {name} {explanation}", f"# TYPE {name} {kind}"


def buckets(name: str, histogram: Histogram, labels: Labels) -> Iterator[str]:
    """Yield the lines of one histogram series, buckets cumulative."""
    prefixes = _bucket_prefixes(name, histogram.bounds, labels)
    totals = list(accumulate(histogram.counts))
    for prefix, total in zip(prefixes, totals, strict=True):
        yield f"{prefix}{total}.0"
    yield f"{name}_count{braces(labels)} {totals[-1]}.0"
    yield f"{name}_sum{braces(labels)} {histogram.sum!r}"


@lru_cache(maxsize=256)
def _bucket_prefixes(name: str, bounds: tuple[float, ...], labels: Labels) -> tuple[str, ...]:
    names = [*(repr(bound) for bound in bounds), "+Inf"]
    return tuple(f"{name}_bucket{braces(_with(labels, 'le', bound))} " for bound in names)


@lru_cache(maxsize=256)
def braces(labels: Labels) -> str:
    """Return the label set as Prometheus writes it, values escaped."""
    pairs = (f'{name}="{_escape(value)}"' for name, value in labels)
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _with(labels: Labels, name: str, value: str) -> Labels:
    return tuple(sorted((*labels, (name, value))))
