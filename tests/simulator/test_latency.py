"""Latency models: each formula with a worked example, and the real process keeping to it."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.latency import ConstantLatency, FixedDuration, MockLatency, PerTokenLatency, Work, drawn
from simulator.overrides import CURVES, Overrides
from simulator.settings import SettingsError, read_settings
from simulator.step_latency import PolynomialLatency, RooflineLatency, StepLoad, interpolate, read_table

TABLE = {
    "prefill": {"tokens": [0, 1000], "ms": [10, 110]},
    "decode": {"kv_tokens": [0, 1000], "context": [0, 100], "ms": [[10, 20], [30, 40]]},
}


def load(prefill: int = 0, decodes: int = 0, context: int = 0, share: float = 0.0) -> StepLoad:
    return StepLoad(prefill_tokens=prefill, decodes=decodes, context_tokens=context, cache_share=share)


def test_the_mock_formula_gives_first_token_and_total():
    model = MockLatency(jitter_seconds=0)
    pace = model.pace(Work(prompt_tokens=500, output_tokens=101), 3, Random(0))
    assert pace.first_token_seconds == pytest.approx(0.03 + 0.01 + 2 * 0.08)
    assert pace.inter_token_seconds * 100 == pytest.approx(101 * 0.002)
    assert model.pace(Work(10, 1), 1, Random(0)).first_token_seconds == pytest.approx(0.05)


def test_a_fixed_duration_is_fixed():
    pace = FixedDuration(total_seconds=1, first_token_seconds=0.5).pace(Work(9, 11), 5, Random(0))
    assert (pace.first_token_seconds, pace.inter_token_seconds) == (0.5, 0.05)


@given(st.floats(0.001, 10), st.floats(0, 100), st.integers())
def test_a_drawn_time_stays_within_seventy_percent(mean, deviation, seed):
    assert 0.29 * mean <= drawn(mean, deviation, Random(seed)) <= 1.71 * mean


def test_constant_times_vary_only_when_told():
    model = ConstantLatency(first_token_seconds=1, inter_token_seconds=0.1)
    assert model.steady
    assert model.pace(Work(5, 5), 9, Random(1)).first_token_seconds == 1
    assert not ConstantLatency(inter_token_seconds=1, inter_token_deviation_seconds=0.1).steady


def test_per_token_counts_what_is_not_cached():
    model = PerTokenLatency(overhead_seconds=0.03, prefill_seconds_per_token=0.00025)
    assert model.pace(Work(256, 1), 1, Random(0)).first_token_seconds == pytest.approx(0.094)
    assert model.pace(Work(256, 1, 240), 1, Random(0)).first_token_seconds == pytest.approx(0.034)


def test_the_polynomial_has_its_published_values():
    model = PolynomialLatency()
    assert model.step(load(prefill=1000)).prefill_seconds == pytest.approx((0.4209989 + 15.18344 + 16.50142) / 1000)
    assert model.step(load(decodes=1, share=0.5)).decode_seconds == pytest.approx(0.02631)
    assert model.step(load()) == model.step(load(share=0.9))


def test_a_table_is_linear_between_and_beyond_its_points(tmp_path):
    file = tmp_path / "table.json"
    file.write_text(json.dumps(TABLE))
    model = read_table(file)
    assert model.step(load(prefill=500)).prefill_seconds == pytest.approx(0.06)
    assert model.step(load(prefill=2000)).prefill_seconds == pytest.approx(0.21)
    assert model.step(load(decodes=10, context=500)).decode_seconds == pytest.approx(0.025)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6, unique=True).map(sorted), st.data())
def test_interpolation_meets_its_points(places, data):
    values = [data.draw(st.floats(-10, 10)) for _ in places]
    for place, value in zip(places, values, strict=True):
        assert interpolate(places, values, place) == pytest.approx(value)


def test_the_roofline_is_bound_by_memory_when_decoding_and_by_arithmetic_in_prefill():
    model = RooflineLatency(efficiency=1)
    alone = model.step(load(decodes=1)).decode_seconds
    assert alone == pytest.approx(16e9 / 3350e9)
    assert model.step(load(decodes=8)).decode_seconds == pytest.approx(alone)
    prefill = model.step(load(prefill=8192)).prefill_seconds
    assert prefill > 2 * 8e9 * 8192 / 989e12
    assert model.kv_bytes_per_token == 131072


@pytest.mark.parametrize(
    "change",
    [
        {"prefill": {}},
        {"decode": {**TABLE["decode"], "ms": [[1]]}},
        {"prefill": {"tokens": [2, 1], "ms": [1, 2]}},
        {"prefill": {"tokens": [], "ms": []}},
    ],
)
def test_a_wrong_table_is_named(tmp_path, change):
    file = tmp_path / "table.json"
    file.write_text(json.dumps({**TABLE, **change}))
    with pytest.raises(SettingsError, match="--latency-table"):
        read_settings(["--latency-model", "table", "--latency-table", str(file)], {})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--latency-model", "magic"], ["--latency-model", "table", "--latency-table", "/none"], ["--roofline", "{"],
        ["--latency-model", "roofline", "--roofline", '{"heads": 0}'], ["--block-size", "257"],
        ["--data-parallel-size", "9"], ["--text-mode", "song"], ["--output-lengths", "a:b"], ["--failures", '{"x":1}'],
        ["--prefix-caching-hash-algo", "md5"], ["--lora-modules", "a"], ["--kv-transfer-config", "[]"],
        ["--transfer-check", "maybe"], ["--engines", "2", "--enable-kv-cache-events"],
        ["--engines", "9", "--port", "65530"],
    ],
)  # fmt: skip
def test_unusable_settings_are_refused(arguments):
    if arguments[0] == "--roofline":
        arguments = ["--latency-model", "roofline", *arguments]
    with pytest.raises(SettingsError):
        read_settings(arguments, {})


async def test_a_real_prefill_takes_its_time_and_a_cached_one_a_fifth_at_most(start_engine, instant):
    engine = await start_engine("--latency-model", "per-token", "--itl-seconds", "0.001", **instant)

    async def first_token(prompt: list[int]) -> float:
        reply = await engine.complete(prompt, max_tokens=2)
        return reply["metrics"]["time_to_first_token_seconds"]

    assert await first_token(list(range(256))) == pytest.approx(0.094, rel=0.05)
    prompt = list(range(8192, 16384))
    cold, warm = await first_token(prompt), await first_token(prompt)
    assert cold == pytest.approx(0.03 + 8192 * 0.00025, rel=0.05)
    assert cold >= 5 * warm


@pytest.mark.parametrize(
    ("name", "at", "expected"),
    [
        ("oscillate", 2.5, 10), ("oscillate", 7.5, 0), ("ramp", 5, 5), ("ramp", 50, 10), ("rampreset", 15, 5),
        ("squarewave", 4, 0), ("squarewave", 6, 10),
    ],
)  # fmt: skip
def test_a_pinned_value_may_follow_a_curve(name, at, expected):
    now = [100.0]
    overrides = Overrides({"running": f"{name}:0:10:10"}, lambda: now[0])
    now[0] += at
    assert overrides.number("running", 99) == pytest.approx(expected)
    assert set(CURVES) == {"oscillate", "ramp", "rampreset", "squarewave"}
