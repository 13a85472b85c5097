"""One name for the same metric of every engine: a renamed copy stands beside the engine's own.

Labels, values, timestamps and the suffixes of a sample stay; what has no standard name is passed on as it is, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_COMMON: Final = ("time_to_first_token_seconds", "time_per_output_token_seconds", "e2e_request_latency_seconds")
_TOKENS: Final = ("prompt_tokens_total", "generation_tokens_total")
RULES: Final[Mapping[str, Mapping[str, str]]] = {
    "vllm": {
        "vllm:num_requests_waiting": "aibrix:queue_size",
        "vllm:gpu_cache_usage_perc": "aibrix:gpu_cache_usage_perc",
        "vllm:kv_cache_usage_perc": "aibrix:kv_cache_usage_perc",
        "vllm:request_success_total": "aibrix:request_success_total",
        **{f"vllm:{name}": f"aibrix:{name}" for name in (*_TOKENS, *_COMMON)},
    },
    "sglang": {
        "sglang:num_queue_reqs": "aibrix:queue_size",
        "sglang:cache_hit_rate": "aibrix:cache_hit_rate",
        "sglang:token_usage": "aibrix:token_usage",
        "sglang:gen_throughput": "aibrix:generation_throughput",
        **{f"sglang:{name}": f"aibrix:{name}" for name in (*_TOKENS, *_COMMON)},
    },
    "trtllm": {
        "kv_cache_utilization": "aibrix:kv_cache_usage_perc",
        "kv_cache_hit_rate": "aibrix:kv_cache_hit_rate",
        "request_success_total": "aibrix:request_success_total",
        **{name: f"aibrix:{name}" for name in _COMMON},
    },
}
"""By engine, the family's name as its page has it, and the standard one."""
_NAME: Final = re.compile(r"(# (?:HELP|TYPE) )?([a-zA-Z_:][a-zA-Z0-9_:]*)")
_SUFFIXES: Final = ("_bucket", "_sum", "_count", "_created", "_total")


def with_standard_names(page: str, engine: str) -> str:
    """The page, and after it the renamed copies; unchanged for an engine without rules."""
    rules = RULES.get(engine, {})
    copies = list(_copies(page, rules)) if rules else []
    whole = page if page.endswith("\n") or not page else page + "\n"
    return whole + "".join(f"{line}\n" for line in copies) if copies else page


def _copies(page: str, rules: Mapping[str, str]) -> Iterator[str]:
    for line in page.splitlines():
        found = _NAME.match(line)
        if found is None:
            continue
        renamed = _renamed(found.group(2), rules)
        if renamed:
            yield f"{found.group(1) or ''}{renamed}{line[found.end() :]}"


def _renamed(name: str, rules: Mapping[str, str]) -> str:
    """Empty when no rule is about the family of that name; pages name counters with and without `_total`."""
    if name in rules:
        return rules[name]
    if f"{name}_total" in rules:
        return rules[f"{name}_total"].removesuffix("_total")
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and (base := name.removesuffix(suffix)) in rules:
            return rules[base] + suffix
    return ""
