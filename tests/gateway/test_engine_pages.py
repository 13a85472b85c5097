"""Engines' metrics exported again: joined per model, as the engine counts them, and no series of what is gone."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.engine_pages import EnginePages, Histogram, PercentileRefused, Series, read
from gateway.metrics import POD_LABELS, pod_labels
from gateway.registry import NOT_OF_DECODE, NOT_OF_PREFILL
from gateway.settings import Host
from gateway.topology import Endpoint, endpoint_of
from tests.gateway.parts import Engine, eventually
from tests.gateway.standalone import Standalone, without_kubernetes

RECORDED = Path(__file__).parents[1] / "data" / "recordings" / "vllm-0.32" / "metrics-after-load.txt"
PAGE = RECORDED.read_bytes()
Start = Callable[[], Awaitable[Engine]]


def endpoint(**changes: str) -> Endpoint:
    metadata = {"uid": "u", "namespace": "n", "name": "p", "labels": {"model.aibrix.ai/name": "m"}}
    made = endpoint_of({"metadata": metadata, "status": {"podIP": "10.0.0.1"}})
    assert made is not None
    return replace(made, **changes)


def exported(*pages: bytes, pod: Endpoint | None = None) -> dict[str, Metric]:
    """The families as Prometheus reads them."""
    made, pod = EnginePages(POD_LABELS), pod or endpoint()
    made.add(pod, pod_labels("g", pod), pages)
    return {each.name: each for each in text_string_to_metric_families(made.text())}


def test_every_metric_of_a_real_page_has_the_values_that_prometheus_reads() -> None:
    """The oracle: `prometheus_client` reads the engine's page and ours, and each sum is the same."""
    ours = exported(PAGE)
    theirs = {each.name: each for each in text_string_to_metric_families(PAGE.decode())}
    compared = 0
    for name, family in ours.items():
        source = theirs.get(f"vllm:{name}") or theirs.get(name)
        if source is None or family.type != source.type:
            continue
        for suffix in ("", "_total", "_sum", "_count"):
            told = [sample.value for sample in source.samples if sample.name == f"{source.name}{suffix}"]
            got = [sample.value for sample in family.samples if sample.name == f"{name}{suffix}"]
            assert math.isclose(sum(got), sum(told), abs_tol=1e-9), (name, suffix)
            compared += bool(told)
    assert compared > 30
    latency = ours["e2e_request_latency_seconds"]
    assert set(latency.samples[0].labels) == {*POD_LABELS, "model_name", "le"}
    assert {each.labels["model_name"] for each in latency.samples} == {"tiny"}
    assert [each.labels["sleep_state"] for each in ours["engine_sleep_state"].samples] == [
        "awake", "weights_offloaded", "discard_all",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"name": "m-prefill-0"}, NOT_OF_PREFILL), ({"role": "prefill", "name": "decode-0"}, NOT_OF_PREFILL),
        ({"name": "m-decode-0"}, NOT_OF_DECODE), ({"role": "decode"}, NOT_OF_DECODE), ({}, frozenset()),
    ],
)  # fmt: skip
def test_a_pod_of_one_phase_shows_nothing_of_the_other(changes: dict[str, str], missing: frozenset[str]) -> None:
    whole, own = set(exported(PAGE)), set(exported(PAGE, pod=endpoint(**changes)))  # gateway-cache 43
    gone = {name for name in whole if any(name in (each, *(f"{each}_p{p}" for p in (50, 90, 99))) for each in missing)}
    assert whole - own == gone
    assert bool(gone) == bool(missing)


REGISTRY_17 = {
    0.04: 123, 0.06: 123, 0.08: 123, 0.1: 123, 0.25: 248, 0.5: 439, 0.75: 3352, 1.0: 3368, 2.5: 3369, math.inf: 3369,
}  # fmt: skip


@pytest.mark.parametrize(("percent", "expected"), [(50, 0.607), (90, 0.723), (99, 0.749)])
def test_a_percentile_is_linear_within_its_bucket(percent: float, expected: float) -> None:  # gateway-cache 55
    found = Histogram(dict(REGISTRY_17), 100, 10).percentile(percent)
    assert abs(found - expected) < 0.001


def test_a_percentile_in_the_open_bucket_is_the_last_bound() -> None:  # gateway-cache 55
    assert Histogram({0.1: 1, 0.5: 2, math.inf: 10}, 9, 10).percentile(90) == 0.5


@pytest.mark.parametrize("percent", [0, -1, 101, 110])
def test_a_percentile_that_is_none_is_refused(percent: float) -> None:  # gateway-cache 55
    with pytest.raises(PercentileRefused, match=f"percentile must be between 0 and 100, got: {percent:f}"):
        Histogram(dict(REGISTRY_17), 100, 10).percentile(percent)


def test_no_bucket_has_no_percentile() -> None:
    with pytest.raises(PercentileRefused, match="percentile not found"):
        Histogram().percentile(50)


@given(st.lists(st.floats(0.001, 9.999), min_size=1, max_size=60), st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_in_the_bucket_of_the_value_that_it_stands_for(values: list[float], percent: int) -> None:
    bounds = [0.5, 1.0, 2.0, 5.0, 10.0]
    counts = {bound: float(sum(value <= bound for value in values)) for bound in bounds} | {math.inf: len(values)}
    found = Histogram(counts, sum(values), len(values)).percentile(percent)
    target = sorted(values)[max(0, math.ceil(percent / 100 * len(values) - 1e-9) - 1)]
    upper = next(bound for bound in bounds if target <= bound)
    lower = max((bound for bound in bounds if bound < upper), default=0.0)
    assert lower <= found <= upper


def test_series_of_one_model_are_joined_and_those_of_two_kept_apart() -> None:
    page = b"""# TYPE vllm:request_success counter
vllm:request_success_total{finished_reason="stop",model_name="a"} 8 1700000000000
vllm:request_success_total{finished_reason="length",model_name="a"} 4.0
vllm:request_success_total{model_name="b/c \\"d\\" }"} 1.0
vllm:request_success_total_other{model_name="a"} 99
vllm:num_preemptions_total 2
sglang:cache_hit_rate{model_name="undefined"} 0.25
"""
    own, other = exported(page, page), endpoint()
    assert {each.labels["model_name"]: each.value for each in own["request_success"].samples} == {
        "a": 24, 'b/c "d" }': 2,
    }  # fmt: skip
    (preemptions,) = own["num_preemptions"].samples
    assert (preemptions.labels["model_name"], preemptions.value) == ("m", 4)
    (rate,) = own["kv_cache_hit_rate"].samples
    assert (rate.labels["model_name"], rate.value) == ("m", 0.25)
    assert read([page], other)["request_success_total"].numbers[Series("a", "")] == [8, 4]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b'vllm:inter_token_latency_seconds', "time_per_output_token_seconds"),
        (b'vllm:time_per_output_token_seconds', "inter_token_latency_seconds"),
        (b'trtllm_e2e_request_latency_seconds', "e2e_request_latency_seconds"),
        (b'sglang:time_to_first_token_seconds', "time_to_first_token_seconds"),
    ],
)  # fmt: skip
def test_a_metric_is_found_by_the_names_of_other_engines_and_ages(line: bytes, name: str) -> None:
    page = b"".join(
        line + part for part in (b'_bucket{le="1"} 3\n', b'_bucket{le="+Inf"} 4\n', b"_sum 2.5\n", b"_count 4\n")
    )
    family = exported(page)[name]
    told = {sample.name.removeprefix(name): sample.value for sample in family.samples}
    assert told == {"_bucket": 4, "_sum": 2.5, "_count": 4}


async def shown(alone: Standalone, name: str) -> list[float]:
    async with aiohttp.ClientSession() as session, session.get(f"{alone.http_url}/metrics") as got:
        families = text_string_to_metric_families(await got.text())
    return [each.value for family in families for each in family.samples if each.name == name]


@pytest.mark.asyncio(loop_scope="session")
async def test_counters_of_engines_stay_what_they_are_and_leave_with_their_pod(start_engine: Start) -> None:
    first, second = [await start_engine() for _ in range(2)]
    for engine in (first, second):
        await engine.say(PAGE.decode())
    (told,) = [
        float(line.rsplit(" ", 1)[1]) for line in PAGE.decode().splitlines()
        if line.startswith("vllm:generation_tokens_total{")
    ]  # fmt: skip
    with without_kubernetes(Host.MODULE) as alone:
        alone.say(first, second)
        alone.start()

        async def shows(*values: float) -> bool:
            return await shown(alone, "generation_tokens_total") == list(values)

        await eventually(lambda: shows(told, told))
        (before,) = await shown(alone, "brixflow_scrapes_total")

        async def is_scraped_again() -> bool:
            return sum(await shown(alone, "brixflow_scrapes_total")) > before + 2

        await eventually(is_scraped_again)
        assert await shows(told, told)
        assert len(await shown(alone, "e2e_request_latency_seconds_p90")) == 2
        alone.say(second)
        await eventually(lambda: shows(told))
    with without_kubernetes(Host.MODULE, BRIXFLOW_EXPORT_ENGINES="false") as alone:
        alone.say(first)
        alone.start()

        async def is_scraped() -> bool:
            return sum(await shown(alone, "brixflow_scrapes_total")) > 0

        await eventually(is_scraped)
        assert await shows()
