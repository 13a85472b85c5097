"""Engines' metrics that are exported again under names that say nothing of the engine: which, of what, how joined.

Of several names of one metric the first that a page has counts. What the kernel reads for its strategies (requests,
cache usage, utilization) is exported from there, gateway/metrics.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Prometheus' type of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Exported:
    """One metric. Series of one model are added up, or averaged; those that differ in `label` stay apart."""

    name: str
    kind: Kind
    sources: tuple[str, ...]
    label: str = ""
    is_mean: bool = False


def _gauge(name: str, *sources: str, label: str = "", is_mean: bool = False) -> Exported:
    return Exported(name, Kind.GAUGE, sources, label, is_mean)


def _counter(name: str, *sources: str) -> Exported:
    return Exported(name, Kind.COUNTER, sources)


def _histogram(name: str, *engines: str, label: str = "", also: tuple[str, ...] = ()) -> Exported:
    return Exported(name, Kind.HISTOGRAM, (*(f"{each}{name}" for each in engines), *also), label)


VLLM, SGLANG, TRTLLM = "vllm:", "sglang:", "trtllm_"
BARE = ""
OF_VLLM = (
    "request_inference_time_seconds", "request_decode_time_seconds", "request_prefill_time_seconds",
    "request_time_per_output_token_seconds", "request_prompt_tokens", "request_generation_tokens",
    "request_max_num_generation_tokens", "iteration_tokens_total", "nixl_xfer_time_seconds", "nixl_post_time_seconds",
    "nixl_bytes_transferred", "nixl_num_descriptors",
)  # fmt: skip
CACHE_COUNTERS = (
    "prefix_cache_queries_total", "prefix_cache_hits_total", "external_prefix_cache_queries_total",
    "external_prefix_cache_hits_total",
)  # fmt: skip
TIME_PER_TOKEN = "time_per_output_token_seconds"  # noqa: S105 - a metric's name
LATENCY = "inter_token_latency_seconds"

REGISTRY = (
    _gauge("num_requests_swapped", "vllm:num_requests_swapped", "sglang:num_retracted_reqs"),
    _gauge("engine_sleep_state", "vllm:engine_sleep_state", label="sleep_state"),
    _gauge("num_prefill_prealloc_queue_reqs", "sglang:num_prefill_prealloc_queue_reqs"),
    _gauge("num_decode_prealloc_queue_reqs", "sglang:num_decode_prealloc_queue_reqs"),
    _gauge("kv_cache_hit_rate", "trtllm_kv_cache_hit_rate", "sglang:cache_hit_rate", is_mean=True),
    _counter("http_requests_total", "vllm:http_requests_total", "http_requests_total"),
    _counter("num_preemptions_total", "vllm:num_preemptions_total"),
    _counter(
        "request_success_total",
        "vllm:request_success_total",
        "vllm:num_requests_success_total",
        "sglang:num_requests_total",
        "trtllm_request_success_total",
    ),
    _counter("prompt_tokens_total", "vllm:prompt_tokens_total", "sglang:prompt_tokens_total"),
    _counter("generation_tokens_total", "vllm:generation_tokens_total", "sglang:generation_tokens_total"),
    *(_counter(name, f"vllm:{name}") for name in CACHE_COUNTERS),
    *(
        _counter(f"{name}_total", f"vllm:{name}_total", f"vllm:{name}")
        for name in ("nixl_num_failed_transfers", "nixl_num_failed_notifications")
    ),
    _histogram("e2e_request_latency_seconds", VLLM, SGLANG, TRTLLM, BARE),
    _histogram("time_to_first_token_seconds", VLLM, SGLANG, TRTLLM, BARE),
    _histogram("request_queue_time_seconds", VLLM, TRTLLM, BARE),
    _histogram(TIME_PER_TOKEN, VLLM, TRTLLM, BARE, also=(f"vllm:{LATENCY}", f"sglang:{LATENCY}")),
    _histogram(LATENCY, VLLM, SGLANG, also=(f"vllm:{TIME_PER_TOKEN}", f"trtllm_{TIME_PER_TOKEN}", TIME_PER_TOKEN)),
    _histogram("per_stage_req_latency_seconds", SGLANG, label="stage"),
    *(_histogram(name, VLLM) for name in OF_VLLM),
    _histogram("http_request_duration_seconds", BARE),
    _histogram("http_request_duration_highr_seconds", BARE),
)

NOT_OF_PREFILL = frozenset({
    TIME_PER_TOKEN, LATENCY, "request_time_per_output_token_seconds", "request_decode_time_seconds",
    "iteration_tokens_total", "request_generation_tokens", "request_max_num_generation_tokens",
})  # fmt: skip
NOT_OF_DECODE = frozenset({"time_to_first_token_seconds", "request_prefill_time_seconds", "request_prompt_tokens"})


def left_out(role: str, pod: str) -> frozenset[str]:
    """Names that mean nothing for a pod of this role; a pod without a role may say it by its name."""
    said = role or pod
    if "prefill" in said:
        return NOT_OF_PREFILL
    return NOT_OF_DECODE if "decode" in said else frozenset()
