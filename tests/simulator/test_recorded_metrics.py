"""The metrics pages have the families, kinds and labels of the recorded ones, and change as traffic says."""

from __future__ import annotations

import re

import pytest

from tests.simulator.recorded import recorded_metrics
from tests.simulator.test_recordings import ARGUMENTS, replay

OLDER = {
    "vllm:num_requests_swapped", "vllm:gpu_cache_usage_perc", "vllm:cpu_cache_usage_perc",
    "vllm:avg_prompt_throughput_toks_per_s", "vllm:avg_generation_throughput_toks_per_s",
    "vllm:gpu_prefix_cache_hit_rate", "vllm:cpu_prefix_cache_hit_rate",
}  # fmt: skip
"""Families of older engines that stay on the page."""
OPEN_LABELS = {"handler", "method", "status", "generation", "running_lora_adapters", "waiting_lora_adapters"}
"""Labels whose values depend on what was asked, or on the interpreter."""
PER_ENGINE = {"vllm:cache_config_info", "python_info"}
"""Families whose label values describe the engine or the interpreter."""

EXACT = (
    "vllm:generation_tokens_total", "vllm:request_success_total", "vllm:request_generation_tokens_sum",
    "vllm:request_generation_tokens_count", "vllm:time_to_first_token_seconds_count", "vllm:request_params_n_sum",
    "vllm:inter_token_latency_seconds_count", "vllm:request_params_max_tokens_sum",
    "vllm:request_num_preemptions_count",
)  # fmt: skip
"""Samples that depend on the traffic alone and neither on the vocabulary nor on time."""


def families(page: str) -> dict[str, str]:
    """Return the kind of each family."""
    return {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith("# TYPE")}


def samples(page: str) -> dict[str, list[dict[str, str]]]:
    """Return the label sets by sample name."""
    found: dict[str, list[dict[str, str]]] = {}
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, labels = re.match(r"([\w:]+)(?:\{(.*)\})? ", line).groups()
            found.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels or "")))
    return found


def label_sets(name: str, sets: list[dict[str, str]]) -> set[tuple]:
    """Return the label names, with the values where those are fixed."""
    free = OPEN_LABELS | (set().union(*sets) if name in PER_ENGINE else set())
    return {tuple(sorted((key, "" if key in free else value) for key, value in labels.items())) for labels in sets}


@pytest.fixture
async def tiny(start_engine, instant):
    return await start_engine(*ARGUMENTS, model="tiny", **instant)


async def page_after(tiny, recordings, *, until: str | None) -> str:
    """Replay the recorded requests up to the one called `until` and return the page."""
    for name, recording in recordings.items() if until is not None else ():
        await replay(tiny, recording)
        if name == until:
            break
    return (await tiny.get("/metrics"))[1]


@pytest.mark.parametrize(
    ("page", "until"),
    [("idle", None), ("lora-loaded", "lora2-completion"), ("after-load", "reset-prefix-cache")],
)
async def test_the_page_has_the_recorded_families_kinds_and_label_sets(tiny, recordings, page, until):
    ours, theirs = await page_after(tiny, recordings, until=until), recorded_metrics(page)
    assert {name: kind for name, kind in families(ours).items() if name not in OLDER} == families(theirs)
    my_samples, their_samples = samples(ours), samples(theirs)
    for name, sets in their_samples.items():
        assert label_sets(name, my_samples[name]) == label_sets(name, sets), name


async def test_the_same_traffic_gives_the_same_counts(tiny, recordings):
    ours, theirs = await page_after(tiny, recordings, until="reset-prefix-cache"), recorded_metrics("after-load")
    for name in EXACT:
        assert values(ours, name) == values(theirs, name), name
    assert values(ours, "http_requests_total") == values(theirs, "http_requests_total")


def values(page: str, name: str) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in page.splitlines() if line.startswith((name + "{", name + " "))]
    return {labels: float(value) for labels, value in lines}
