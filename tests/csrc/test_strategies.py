"""Rows of routing.md 10.2 and 10.3 by their numbers: what each strategy picks, alone and in a list."""

from __future__ import annotations

import base64
from collections import Counter

import pytest

from csrc.binding import Decision, Pod, SegmentReader, SegmentWriter, Settings, Verdict
from tests.csrc.choosing import NOW, Candidate, chosen, normalised, often, published

GAUGE_OF = {
    "least-busy-time": "busy",
    "least-gpu-cache": "gpu_cache",
    "least-kv-cache": "kv_cache",
    "least-utilization": "utilization",
}
DATA_STRATEGIES = [*GAUGE_OF, "throughput", "least-latency"]


def with_gauge(name: str, *values: float | None) -> list[Candidate]:
    return [Candidate(gauges=None if value is None else {name: value}) for value in values]


def lengths(*pairs: tuple[float, float] | None) -> list[Candidate]:
    names = ("prompt_length", "generation_length")
    return [Candidate(gauges=None if pair is None else dict(zip(names, pair, strict=True))) for pair in pairs]


def latencies(*parts: tuple[float, ...] | None) -> list[Candidate]:
    names = ("queue_time", "prefill_time", "decode_time", "prompt_length", "generation_length")
    return [Candidate(gauges=None if part is None else dict(zip(names, part, strict=False))) for part in parts]


@pytest.mark.parametrize(
    ("row", "strategy", "pods", "expected"),
    [
        ("R28", "least-request", [Candidate(n) for n in (1, 2, 3, 9)], {0}),
        ("R29", "least-request", [Candidate(n) for n in (1, 1, 5)], {0, 1}),
        ("R30", "least-request", [Candidate(1), Candidate(0, None)], {1}),
        ("R32", "least-gpu-cache", with_gauge("gpu_cache", 0.8, 0.3, 0.3), {1, 2}),
        ("R33", "least-gpu-cache", with_gauge("gpu_cache", None, 0.9), {1}),
        ("R36", "least-kv-cache", with_gauge("kv_cache", 0.9, 0.5, 0.5), {1, 2}),
        ("R39", "throughput", lengths((1, 2), (2, 1), (3, 3), (4, 4)), {0}),
        ("R39", "throughput", lengths((1, 4), (5, 5), (2, 2)), {0, 2}),
        ("R39", "throughput", lengths((9, 9), None, None), {0}),
        ("R40", "least-busy-time", with_gauge("busy", float("nan"), 0.9, 0.2), {2}),
        ("5.3", "least-utilization", with_gauge("utilization", 0.4, 0.1, 0.9), {1}),
        ("5.5", "least-latency", latencies((0.2, 0.3, 0.5, 10, 100), (0.1, 0.1, 0.2, 10, 100)), {1}),
    ],
)
def test_a_strategy_alone_picks_the_least(
    writer: SegmentWriter, reader: SegmentReader, row: str, strategy: str, pods: list[Candidate], expected: set[int]
) -> None:
    with published(writer, reader, pods):
        assert often(reader, strategy) == expected, row


def test_r37_a_pod_without_a_host_cache_has_nothing_in_it(writer: SegmentWriter, reader: SegmentReader) -> None:
    pods = [Candidate(gauges={"kv_cache": 0.3, "cpu_cache": 0.4}), Candidate(gauges={"kv_cache": 0.6})]
    with published(writer, reader, pods):
        assert often(reader, "least-kv-cache") == {1}


def test_r38_a_pod_without_its_decode_time_is_left_out(writer: SegmentWriter, reader: SegmentReader) -> None:
    pods = latencies((0.0, 0.0), (3.0, 3.0, 3.0))
    with published(writer, reader, pods):
        assert often(reader, "least-latency") == {1}


def test_least_latency_asks_for_the_prompt_of_the_request(writer: SegmentWriter, reader: SegmentReader) -> None:
    """p1 reads fast and writes slowly, p2 the other way round: the length of the prompt decides."""
    pods = latencies((0, 0.1, 2.0, 1000, 100), (0, 0.5, 1.0, 1000, 100))
    with published(writer, reader, pods):
        assert chosen(reader, "least-latency", prompt_tokens=10) == 1
        assert chosen(reader, "least-latency", prompt_tokens=10_000) == 0


@pytest.mark.parametrize("strategy", DATA_STRATEGIES)
def test_r34_without_any_data_every_pod_is_picked_and_it_shows(
    writer: SegmentWriter, reader: SegmentReader, strategy: str
) -> None:
    before = writer.totals().without_data.get(strategy, 0)
    with published(writer, reader, [Candidate(gauges=None)] * 3):
        assert often(reader, strategy, 100) == {0, 1, 2}
    assert writer.totals().without_data[strategy] == before + 100


@pytest.mark.parametrize("strategy", DATA_STRATEGIES)
def test_data_of_one_pod_is_no_lack_of_data(writer: SegmentWriter, reader: SegmentReader, strategy: str) -> None:
    names = ("busy", "gpu_cache", "kv_cache", "utilization", "prompt_length", "generation_length", "queue_time",
             "prefill_time", "decode_time")  # fmt: skip
    with published(writer, reader, [Candidate(gauges=None), Candidate(gauges=dict.fromkeys(names, 0.5))]):
        assert often(reader, strategy, 50) == {1}
    assert strategy not in writer.totals().without_data


@pytest.mark.parametrize("strategy", ["random", "power-of-two", "session-affinity", "least-request", *DATA_STRATEGIES])
def test_r35_and_r27_without_pods_there_is_no_pick(writer: SegmentWriter, reader: SegmentReader, strategy: str) -> None:
    writer.publish({"m": [Pod("u", "default", "p", "10.0.0.1:8000", ready=True)]})
    assert reader.decide("m", strategy, "a=b").verdict is Verdict.NO_CANDIDATE
    assert writer.totals().without_data == {}


@pytest.mark.parametrize("strategy", ["random", "power-of-two", "session-affinity", "least-request", *DATA_STRATEGIES])
def test_r60_and_r22_the_only_pod_is_picked_by_every_strategy(
    writer: SegmentWriter, reader: SegmentReader, strategy: str
) -> None:
    with published(writer, reader, [Candidate(gauges=None)]):
        assert often(reader, strategy, 3) == {0}


@pytest.mark.parametrize("age", [0.0, 4.9, 5.1, 60.0])
def test_gauges_older_than_five_seconds_are_missing(writer: SegmentWriter, reader: SegmentReader, age: float) -> None:
    with published(writer, reader, with_gauge("kv_cache", 0.9, 0.1)):
        picked = set()
        for seed in range(60):
            decision = reader.decide("m", "least-kv-cache", random=seed * 7919, now=NOW + age)
            picked.add(decision.pod)
            reader.finish(decision)
    assert picked == ({"pod-1"} if age <= 5 else {"pod-0", "pod-1"})
    assert len(writer.gauges(NOW + age)["uid-0"]) == (0 if age > 5 else 3)


def test_gauges_of_a_pod_that_left_are_not_those_of_its_successor(writer: SegmentWriter, reader: SegmentReader) -> None:
    def only(key: str) -> None:
        writer.publish({"m": [Pod(key, "default", key, "10.0.0.1:8000", ready=True)]})
        writer.sweep()

    only("first")
    writer.set_gauges("first", NOW, {"kv_cache": 0.9})
    only("second")
    for index in range(40):  # whatever place it has, in the end one is used again
        only(f"other-{index}")
        assert writer.gauges(NOW)[f"other-{index}"] == {}


@pytest.mark.parametrize("strategy", sorted(GAUGE_OF))
def test_requests_since_the_sample_move_the_choice(writer: SegmentWriter, reader: SegmentReader, strategy: str) -> None:
    """Without it all requests of a scrape's period would go to the pod that was the least then."""
    name = GAUGE_OF[strategy]
    sampled = [{name: 0.10, "local": 0, "running": 1}, {name: 0.12, "local": 0, "running": 1}]
    with published(writer, reader, [Candidate(gauges=each) for each in sampled]):
        held = [reader.decide("m", strategy, random=n, now=NOW + 1) for n in range(40)]
        spread = Counter(decision.pod for decision in held)
        for decision in held:
            reader.finish(decision)
    assert set(spread) == {"pod-0", "pod-1"}
    assert min(spread.values()) >= 15


def test_what_other_nodes_have_on_a_pod_is_load(writer: SegmentWriter, reader: SegmentReader) -> None:
    with published(writer, reader, [Candidate(1, {"remote": 5.0, "local": 1}), Candidate(3, {"remote": 0.0})]):
        assert often(reader, "least-request") == {1}
        assert often(reader, "power-of-two") == {1}


def test_r31_and_r24_each_port_of_a_pod_has_a_load_of_its_own(writer: SegmentWriter, reader: SegmentReader) -> None:
    ports = [
        Pod(f"{pod}/{port}", "default", pod, f"10.0.0.{pod[1]}:{port}", ready=True, labels={"at": f"{pod}-{port}"})
        for pod in ("p1", "p2")
        for port in (8000, 8001)
    ]
    counts = {"p1-8000": 5, "p1-8001": 2, "p2-8000": 3, "p2-8001": 4}
    writer.publish({"m": ports}, Settings(default_strategy="least-request"))
    held = [reader.decide("m", "random", f"at={at}") for at, count in counts.items() for _ in range(count)]
    for strategy in ("least-request", "least-request,least-kv-cache"):
        decision = reader.decide("m", strategy)
        assert (decision.pod, decision.address) == ("p1", "10.0.0.1:8001")
        reader.finish(decision)
    for decision in held:
        reader.finish(decision)


@pytest.mark.parametrize(("loads", "expected"), [((5, 3), {1}), ((4, 4), {0, 1}), ((0, 9), {0})])
def test_r48_the_better_of_two_is_picked(
    writer: SegmentWriter, reader: SegmentReader, loads: tuple[int, int], expected: set[int]
) -> None:
    with published(writer, reader, [Candidate(load) for load in loads]):
        assert often(reader, "power-of-two") == expected


def test_of_many_two_are_drawn_and_the_worst_is_never_picked(writer: SegmentWriter, reader: SegmentReader) -> None:
    with published(writer, reader, [Candidate(load) for load in (0, 1, 2, 3)]):
        picks = Counter(chosen(reader, "power-of-two", seed * 7919) for seed in range(3000))
    assert set(picks) == {0, 1, 2}
    assert all(abs(picks[index] / 3000 - share) < 0.05 for index, share in enumerate((1 / 2, 1 / 3, 1 / 6)))


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "larger", "weights", "expected"),
    [
        ([[10, 20, 30]], [True], [1], [0, 0.5, 1]),
        ([[10, 20, 30]], [False], [1], [1, 0.5, 0]),
        ([[100, 50, 0], [30, 20, 10]], [True, False], [2, 8], [0.2, 0.5, 0.8]),
        ([[100, 50, None], [10, 20, 30]], [True, True], [1, 1], [0.5, 0.25, 0.5]),
        ([[None, None, None], [10, 30, 20]], [True, True], [1, 1], [0, 0.5, 0.25]),
        ([[10, 10, None]], [True], [1], [1, 1, 0]),
        ([[10, 20, 30], [10, 20, 30]], [True, False], [1, 3], [0.75, 0.5, 0.25]),
        ([[1, float("inf"), 3]], [True], [1], [0, 0, 1]),
    ],
)
def test_r20_and_r21_the_oracle_blends_as_the_table_says(
    scores: list[list[float | None]], larger: list[bool], weights: list[int], expected: list[float]
) -> None:
    known = [[float("nan") if score is None else score for score in row] for row in scores]
    parts = [normalised(row, more) for row, more in zip(known, larger, strict=True)]
    finals = [
        sum(w * p for w, p in zip(weights, each, strict=True)) / sum(weights) for each in zip(*parts, strict=True)
    ]
    assert finals == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("row", "strategy", "gauges", "expected"),
    [
        ("smaller", "least-kv-cache:5", [{"kv_cache": v} for v in (0.1, 0.2, 0.3)], {0}),
        ("opposed", "least-kv-cache:2,least-gpu-cache:8",
         [{"kv_cache": k, "gpu_cache": g} for k, g in ((0.0, 0.3), (0.5, 0.2), (1.0, 0.1))], {2}),
        ("unscored", "least-kv-cache,least-gpu-cache",
         [{"kv_cache": 0.0, "gpu_cache": 0.3}, {"kv_cache": 0.5, "gpu_cache": 0.2}, {"gpu_cache": 0.1}], {0, 2}),
        ("none scored", "least-kv-cache,least-gpu-cache", [{"gpu_cache": g} for g in (0.3, 0.1, 0.2)], {1}),
        ("constant", "least-kv-cache,least-utilization", [{"kv_cache": 0.1}, {"kv_cache": 0.1}, {}], {0, 1}),
        ("weights", "least-kv-cache:1,least-gpu-cache:3",
         [{"kv_cache": k, "gpu_cache": g} for k, g in ((0.3, 0.1), (0.2, 0.2), (0.1, 0.3))], {0}),
        ("infinite", "least-kv-cache,least-utilization",
         [{"kv_cache": 0.3}, {"kv_cache": float("inf")}, {"kv_cache": 0.1}], {2}),
    ],
)  # fmt: skip
def test_r20_and_r21_a_list_picks_what_the_table_says(
    writer: SegmentWriter, reader: SegmentReader, row: str, strategy: str, gauges: list[dict[str, float]],
    expected: set[int],
) -> None:  # fmt: skip
    with published(writer, reader, [Candidate(gauges=each) for each in gauges]):
        assert often(reader, strategy) == expected, row


@pytest.mark.parametrize(
    "strategy",
    [
        "least-request:10,throughput:1",
        "least-request:1,throughput:10",
        "least-request,throughput:2,least-latency:0",
        "session-affinity:10,least-request:1",  # R26: a constant changes no order
    ],
)
def test_r25_and_r26_the_pod_that_is_better_in_everything_wins(
    writer: SegmentWriter, reader: SegmentReader, strategy: str
) -> None:
    pods = [
        Candidate(10, {"prompt_length": 100, "generation_length": 50, "local": 10, "running": 10}),
        Candidate(2, {"prompt_length": 10, "generation_length": 5, "local": 2, "running": 2}),
    ]
    with published(writer, reader, pods):
        assert often(reader, strategy, 50) == {1}
    assert "least-latency" not in writer.totals().without_data


def test_a_blind_item_of_a_list_shows_and_changes_nothing(writer: SegmentWriter, reader: SegmentReader) -> None:
    with published(writer, reader, [Candidate(3), Candidate(1), Candidate(2)]):
        assert often(reader, "least-request,least-utilization:100", 40) == {1}
    assert writer.totals().without_data == {"least-utilization": 40}


def test_what_blind_strategies_counted_outlives_their_process(
    writer: SegmentWriter, reader: SegmentReader, segment_path: str
) -> None:
    with SegmentReader.open(segment_path, flows=4) as other, published(writer, other, [Candidate(gauges=None)] * 2):
        often(other, "throughput", 7)
    writer.sweep()
    assert writer.totals().without_data == {"throughput": 7}


# --- sessions -------------------------------------------------------------------------------------------------------


def session(address: str) -> str:
    return base64.b64encode(address.encode()).decode()


def sessions(writer: SegmentWriter, count: int = 3) -> None:
    writer.publish({"m": [Pod(f"u{n}", "default", f"pod-{n}", f"10.0.0.{n}:8000", True) for n in range(1, count + 1)]})


def addressed(reader: SegmentReader, strategy: str = "session-affinity", **headers: str) -> set[str]:
    found = set()
    for seed in range(60):
        decision = reader.decide("m", strategy, random=seed * 7919, **headers)
        found.add(decision.address)
        reader.finish(decision)
    return found


ALL = {f"10.0.0.{n}:8000" for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("row", "headers", "expected"),
    [
        ("R41", {"session_id": session("10.0.0.2:8000")}, {"10.0.0.2:8000"}),
        ("R42", {"session_id": "!!not base64!!"}, ALL),
        ("R42", {"session_id": session("10.0.0.9:8000")}, ALL),
        ("R42", {"session_id": session("10.0.0.2:8001")}, ALL),
        ("R43", {"session_key": "session-42"}, {"10.0.0.3:8000"}),
        ("R44", {"session_id": session("10.0.0.1:8000"), "session_key": "session-42"}, {"10.0.0.1:8000"}),
        ("R44", {"session_id": "????", "session_key": "session-42"}, {"10.0.0.3:8000"}),
        ("R45", {"session_key": "k" * 257}, ALL),
        ("none", {}, ALL),
    ],
)
def test_sessions_stick_to_their_pod(
    writer: SegmentWriter, reader: SegmentReader, row: str, headers: dict[str, str], expected: set[str]
) -> None:
    sessions(writer)
    assert addressed(reader, **headers) == expected, row


def test_r43_the_order_of_the_pods_does_not_matter(writer: SegmentWriter, reader: SegmentReader) -> None:
    for order in ((3, 1, 2), (2, 3, 1)):
        writer.publish({"m": [Pod(f"u{n}", "d", f"p{n}", f"10.0.0.{n}:8000", True) for n in order]})
        assert addressed(reader, session_key="session-42") == {"10.0.0.3:8000"}


def test_a_session_in_a_list_outweighs_or_yields(writer: SegmentWriter, reader: SegmentReader) -> None:
    sessions(writer)
    busy = [reader.decide("m", "session-affinity", session_id=session("10.0.0.2:8000")) for _ in range(4)]
    sticky = session("10.0.0.2:8000")
    assert addressed(reader, "session-affinity:3,least-request:1", session_id=sticky) == {"10.0.0.2:8000"}
    assert "10.0.0.2:8000" not in addressed(reader, "session-affinity:1,least-request:3", session_id=sticky)
    for decision in busy:
        reader.finish(decision)


# --- a request that is decided again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "power-of-two", "session-affinity", "least-request", "least-kv-cache",
                                      "least-request,least-latency"])  # fmt: skip
def test_pods_that_failed_are_left_out_while_there_is_another(
    writer: SegmentWriter, reader: SegmentReader, strategy: str
) -> None:
    def decide(*avoid: int, seed: int = 1) -> Decision:
        decision = reader.decide("m", strategy, random=seed, now=NOW + 1, avoid=avoid)
        reader.finish(decision)
        return decision

    with published(writer, reader, with_gauge("kv_cache", 0.1, 0.2, 0.3)):
        places = {each.pod: each.place for each in (decide(seed=seed * 7919) for seed in range(60))}
        if len(places) == 1:
            ((first, place),) = places.items()
            assert decide(place).pod != first
            return
        assert len(places) == 3
        for name, place in places.items():
            others = {decide(place, seed=seed * 7919).pod for seed in range(60)}
            assert others == set(places) - {name}
            rest = [each for each in places.values() if each != place]
            assert decide(*rest).pod == name
        assert decide(*places.values()).candidates == 3
