"""The parser of engines' metrics against prometheus_client's, on recordings and on pages made up by hypothesis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from csrc.pieces import aliases, read_page
from csrc.records import METRICS, MessageUnreadable, Reading

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings" / "vllm-0.32"
EXAMPLES = settings(max_examples=300, deadline=None)
HISTOGRAMS = METRICS[METRICS.index("queue_time") :]
MEANS = frozenset({"kv_cache", "gpu_cache", "cpu_cache", "utilization"})
STAGES = {"queue_time": "prefill_waiting", "prefill_time": "prefill_forward"}
STAGED = "sglang:per_stage_req_latency_seconds"

Sample = tuple[str, dict[str, str], float]


def samples_of(page: str) -> list[Sample]:
    return [(s.name, s.labels, s.value) for family in text_string_to_metric_families(page) for s in family.samples]


def oracle(samples: Iterable[Sample], model: str = "", rank: int = -1) -> dict[str, Reading]:
    """The best name that is there, series of the model if there are any, added up or averaged."""
    kept = [each for each in samples if rank < 0 or rank_of(each[1]) in (None, rank)]
    found = {}
    for metric in METRICS:
        for name in aliases(metric):
            reading = family(kept, metric, name, model)
            if reading is not None and not math.isnan(reading.value):
                found[metric] = reading
                break
    return found


def rank_of(labels: dict[str, str]) -> int | None:
    ranks = [int(labels[key]) for key in ("engine", "dp_rank") if labels.get(key, "").isdecimal()]
    return ranks[-1] if ranks else None


def family(samples: list[Sample], metric: str, name: str, model: str) -> Reading | None:
    if name == STAGED:
        samples = [each for each in samples if each[1].get("stage") == STAGES[metric]]
    parts = ("_sum", "_count") if metric in HISTOGRAMS else ("",)
    for own in (True, False):
        values = [
            [v for n, labels, v in samples if n == name + part and (not own or labels.get("model_name") == model != "")]
            for part in parts
        ]
        if all(values):
            whole = math.fsum(values[0]) / (len(values[0]) if metric in MEANS else 1)
            return Reading(whole, math.fsum(values[-1]) if len(parts) == 2 else 0)
    return None


def same(ours: dict[str, Reading], theirs: dict[str, Reading]) -> None:
    assert ours.keys() == theirs.keys()
    for name, reading in ours.items():
        assert reading.value == pytest.approx(theirs[name].value, rel=1e-12, nan_ok=True), name
        assert reading.count == pytest.approx(theirs[name].count, rel=1e-12, nan_ok=True), name


@pytest.mark.parametrize("page", sorted(RECORDINGS.glob("metrics-*.txt")), ids=lambda path: path.stem)
@pytest.mark.parametrize("model", ["", "tiny", "other"])
def test_a_recorded_page_reads_as_prometheus_reads_it(page: Path, model: str) -> None:
    ours = read_page(page.read_bytes(), model)
    same(ours, oracle(samples_of(page.read_text()), model))
    assert {"running", "waiting", "kv_cache", "queue_time", "prefill_time", "decode_time"} <= ours.keys()


def test_case_30_a_page_after_load_holds_what_the_engine_did() -> None:
    ours = read_page((RECORDINGS / "metrics-after-load.txt").read_bytes())
    assert ours["finished"].value == ours["request_time"].count > 0
    assert ours["generation_tokens"].value == ours["generation_length"].value > 0


names = st.sampled_from(sorted({alias for metric in METRICS for alias in aliases(metric)}))
endings = st.sampled_from(["", "", "", "_sum", "_sum", "_count", "_count", "_bucket", "_created", "_total", "x"])
label_texts = st.text(st.sampled_from('abm{}=,"\\\n #1é'), max_size=6)
labels = st.fixed_dictionaries(
    {},
    optional={
        "model_name": st.sampled_from(["m", "other", 'm"\\\n', ""]),
        "engine": st.sampled_from(["0", "1", "x"]),
        "stage": st.sampled_from(["prefill_waiting", "prefill_forward", "decode"]),
        "other": label_texts,
        "le": st.sampled_from(["0.5", "+Inf"]),
    },
)
numbers = st.sampled_from(["0", "1", "2.0", "1e3", "-4.5e-2", "NaN", "+Inf", "-Inf", "1.5E+2", ".5", "7."])
blanks = st.sampled_from(["", " ", "  "])
lines = st.tuples(names, endings, labels, numbers, blanks, st.sampled_from(["", " 1700000000000", "\t12"]))


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def line(part: tuple[str, str, dict[str, str], str, str, str]) -> str:
    name, ending, own, number, blank, time = part
    inner = ",".join(f'{blank}{key}="{escaped(value)}"' for key, value in own.items())
    return f"{name}{ending}{{{inner}}}{blank} {number}{time}" if own else f"{name}{ending} {blank}{number}{time}"


comments = st.sampled_from(["", "# HELP x y", "# TYPE vllm:num_requests_running gauge", "#", "   "])


@given(
    st.lists(lines, min_size=1, max_size=25),
    st.lists(comments, max_size=5),
    st.sampled_from(["", "m", 'm"\\\n']),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from(["\n", "\r\n"]),
)
@EXAMPLES
def test_any_page_reads_as_prometheus_reads_it(
    parts: list[tuple[str, str, dict[str, str], str, str, str]], notes: list[str], model: str, rank: int, end: str
) -> None:
    written = [line(part) for part in parts]
    for index, note in enumerate(notes):
        written.insert(index * 2, note)
    samples = [(name + ending, own, float(number)) for name, ending, own, number, _, _ in parts]
    plain = "\n".join(line((n, e, own, number, "", "")) for n, e, own, number, _, _ in parts) + "\n"
    assert [(s[0], s[1]) for s in samples_of(plain)] == [(s[0], s[1]) for s in samples]
    try:
        ours = read_page((end.join(written) + end).encode(), model, rank)
    except MessageUnreadable:
        raise AssertionError(written) from None
    same(ours, oracle(samples, model, rank))


@pytest.mark.parametrize(
    "page",
    [
        "", "\n\n", "# only a comment\n", "<html><body>404</body></html>", '{"detail":"Not Found"}', "hello",
        "not a metrics page", "vllm:num_requests_running", "vllm:num_requests_running abc",
        'vllm:num_requests_running{model_name="m} 1', "vllm:num_requests_running{model_name=m} 1",
        'vllm:num_requests_running{model_name="m"', 'vllm:num_requests_running{="m"} 1',
        "vllm:num_requests_running 1 2 3", "vllm:num_requests_running 1_0", "vllm:num_requests_running 0x10",
        'vllm:num_requests_running{a="b" c="d"} 1', "9vllm 1", "vllm:num_requests_running " + "1" * 70,
    ],
)  # fmt: skip
def test_case_42_text_that_is_no_metrics_page_is_refused(page: str) -> None:
    with pytest.raises(MessageUnreadable):
        read_page(page.encode())


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('vllm:kv_cache_usage_perc{model_name="m"} 0.5\nvllm:gpu_cache_usage_perc 0.7',
         {"kv_cache": 0.5, "gpu_cache": 0.7}),
        ("vllm:gpu_cache_usage_perc 0.7", {"gpu_cache": 0.7}),
        ("sglang:token_usage 0.2\nsglang:num_running_reqs 3\nsglang:num_queue_reqs 1",
         {"kv_cache": 0.2, "running": 3, "waiting": 1}),
        ("trtllm_kv_cache_utilization 0.4\nkv_cache_utilization 0.4\ntrtllm_num_requests_running 2",
         {"kv_cache": 0.4, "running": 2}),
        ("kv_cache_utilization 0.3\nengine_utilization 0.9", {"kv_cache": 0.3, "utilization": 0.9}),
        ('vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_running{engine="1"} 3', {"running": 5}),
        ('vllm:kv_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="1"} 0.4', {"kv_cache": 0.3}),
        ('vllm:request_success_total{finished_reason="stop"} 8\nvllm:request_success_total{finished_reason="length"} 4',
         {"finished": 12}),
        ("vllm:time_per_output_token_seconds_sum 4\nvllm:time_per_output_token_seconds_count 2", {"token_time": 4}),
        ("vllm:request_queue_time_seconds_sum 4", {}),
    ],
)  # fmt: skip
def test_every_flavour_and_age_of_engine_is_read(page: str, expected: dict[str, float]) -> None:
    """Cases 32, 34, 36 and 37, and the names that section 4.2 asks for."""
    found = {name: reading.value for name, reading in read_page(page.encode()).items()}
    assert found == pytest.approx(expected)


def test_case_31_of_two_models_on_a_page_the_one_asked_for_counts() -> None:
    page = b'vllm:num_requests_running{model_name="a"} 3\nvllm:num_requests_running{model_name="b"} 5\n'
    assert [read_page(page, model)["running"].value for model in ("a", "b", "elsewhere", "")] == [3, 5, 8, 8]
