"""Choosing: the least loaded, ties evenly, over all readers of the node; and exactly one finish."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import (
    End,
    KernelError,
    LimitReached,
    MessageUnreadable,
    Pod,
    SegmentReader,
    SegmentWriter,
    Settings,
    Verdict,
)
from tests.csrc.messages import (
    pod,
    read_answer,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    response_trailers,
)


def loads(writer: SegmentWriter) -> dict[str, int]:
    return {pod.name: pod.running for pod in writer.totals().pods}


def only(pods: list[Pod], writer: SegmentWriter, strategy: str = "least-request") -> None:
    writer.publish({"m": pods}, Settings(default_strategy=strategy))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 2**63))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_pod_with_the_fewest_requests_is_chosen(
    writer: SegmentWriter, reader: SegmentReader, wanted: list[int], seed: int
) -> None:
    only([pod(number, n=str(number)) for number in range(len(wanted))], writer)
    held = [
        reader.decide("m", filter_text=f"n={number}", random=seed)
        for number, count in enumerate(wanted)
        for _ in range(count)
    ]
    assert loads(writer) == {f"pod-{number}": count for number, count in enumerate(wanted)}
    chosen = reader.decide("m", random=seed)
    assert wanted[int(chosen.pod.removeprefix("pod-"))] == min(wanted)
    assert chosen.candidates == len(wanted)
    for decision in [*held, chosen]:
        reader.finish(decision)
        reader.finish(decision)
    assert set(loads(writer).values()) == {0}
    assert writer.totals().anomalies == 0


@pytest.mark.parametrize("strategy", ["random", "least-request"])
def test_equals_are_chosen_evenly(writer: SegmentWriter, reader: SegmentReader, strategy: str) -> None:
    only([pod(number) for number in range(4)], writer, strategy)
    chosen: Counter[str] = Counter()
    for seed in range(4000):
        decision = reader.decide("m", random=seed * 7919)
        chosen[decision.pod] += 1
        reader.finish(decision)
    assert len(chosen) == 4
    assert all(850 < count < 1150 for count in chosen.values())


def test_requests_spread_when_none_finishes(writer: SegmentWriter, reader: SegmentReader) -> None:
    only([pod(number) for number in range(5)], writer)
    held = [reader.decide("m", random=number) for number in range(50)]
    assert set(loads(writer).values()) == {10}
    for decision in held:
        reader.finish(decision)


def test_load_of_other_readers_counts(writer: SegmentWriter, reader: SegmentReader, segment_path: Path) -> None:
    only([pod(1), pod(2)], writer)
    with SegmentReader.open(segment_path, flows=8) as other:
        held = [(side, side.decide("m", random=number)) for number, side in enumerate([reader, other] * 20)]
        assert loads(writer) == {"pod-1": 20, "pod-2": 20}
        for side, decision in held:
            side.finish(decision)


@pytest.mark.parametrize(
    ("model", "strategy", "filter_text", "verdict"),
    [
        ("m", "random", "", Verdict.CHOSEN),
        ("m", "", "", Verdict.CHOSEN),
        ("ghost", "nonsense", "((", Verdict.UNKNOWN_MODEL),
        ("", "random", "", Verdict.UNKNOWN_MODEL),
        ("u", "nonsense", "((", Verdict.NO_READY_POD),
        ("m", "nonsense", "((", Verdict.BAD_STRATEGY),
        ("m", "random", "((", Verdict.BAD_FILTER),
        ("m", "random", "x=y", Verdict.NO_CANDIDATE),
    ],
)
def test_verdicts_in_their_order(
    writer: SegmentWriter, reader: SegmentReader, model: str, strategy: str, filter_text: str, verdict: Verdict
) -> None:
    writer.publish({"m": [pod(1)], "u": [pod(2, ready=False)]}, Settings(default_strategy="random"))
    decision = reader.decide(model, strategy, filter_text)
    assert decision.verdict is verdict
    reader.finish(decision)
    assert set(loads(writer).values()) == {0}


def test_before_the_first_topology_with_models_nothing_is_known(writer: SegmentWriter, reader: SegmentReader) -> None:
    writer.publish({})
    assert reader.decide("m", "random").verdict is Verdict.UNKNOWN_MODEL


def test_threads_share_a_slot_without_losing_a_count(writer: SegmentWriter, reader: SegmentReader) -> None:
    only([pod(number) for number in range(3)], writer)

    def work(seed: int) -> None:
        for number in range(1500):
            reader.finish(reader.decide("m", random=seed * 1_000_003 + number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for version in range(60):
        only([pod(number) for number in range(3 + version % 3)], writer)
        writer.sweep()
    for thread in threads:
        thread.join()
    totals = writer.totals()
    assert totals.anomalies == 0
    assert set(loads(writer).values()) == {0}
    only([pod(number) for number in range(3)], writer)


EVENTS: dict[str, bytes] = {
    "request_headers": request_headers(
        {":method": "POST", ":path": "/v1/chat/completions", "routing-strategy": "random"}
    ),
    "request_headers_end": request_headers({":method": "GET", ":path": "/x"}, end=True),
    "request_body": request_body(b'{"model":"m","messages":[{}]}'),
    "request_body_part": request_body(b'{"model":"m",', end=False),
    "request_trailers": request_trailers(),
    "response_headers": response_headers("200"),
    "response_headers_end": response_headers("204", end=True),
    "response_error": response_headers("500"),
    "response_body": response_body(b"x"),
    "response_body_part": response_body(b"x", end=False),
    "response_trailers": response_trailers(),
}


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=12), st.sampled_from(list(End)))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_events_ends_in_exactly_one_finish(
    writer: SegmentWriter, reader: SegmentReader, events: list[str], end: End
) -> None:
    only([pod(1), pod(2)], writer)
    before = finished(writer)
    flow = reader.begin()
    for name in events:
        answer = read_answer(flow.process(EVENTS[name]))
        expected = name.removesuffix("_end").removesuffix("_part").replace("response_error", "response_headers")
        assert answer.kind in {expected, "immediate_response"}
    flow.close(end)
    totals = writer.totals()
    assert finished(writer) == before + 1
    assert totals.in_flight == 0
    assert totals.anomalies == 0
    assert all(model.in_flight == 0 for model in totals.models)
    assert set(loads(writer).values()) == {0}


def finished(writer: SegmentWriter) -> int:
    return sum(sum(model.endings.values()) for model in writer.totals().models)


def test_as_many_requests_as_asked_for_run_at_once(writer: SegmentWriter, segment_path: Path) -> None:
    with SegmentReader.open(segment_path, flows=3) as reader:
        flows = [reader.begin() for _ in range(3)]
        with pytest.raises(LimitReached):
            reader.begin()
        flows.pop().close()
        flows.append(reader.begin())
        for flow in flows:
            flow.close()


def test_what_is_left_when_a_reader_closes_is_void(writer: SegmentWriter, segment_path: Path) -> None:
    reader = SegmentReader.open(segment_path, flows=2)
    flow, decision = reader.begin(), reader.decide("llama2-7b", "random")
    flow.process(EVENTS["request_headers"])
    reader.close()
    reader.close()
    reader.finish(decision)
    assert flow.is_complete
    with pytest.raises(MessageUnreadable):
        flow.process(EVENTS["request_body"])
    flow.close()
    writer.sweep()
    assert set(loads(writer).values()) == {0}
    with pytest.raises(KernelError):
        reader.begin()


def test_a_closed_flow_says_so(reader: SegmentReader) -> None:
    flow = reader.begin()
    flow.close()
    assert flow.is_complete
    with pytest.raises(MessageUnreadable):
        flow.process(EVENTS["request_headers"])


def test_a_decision_shows_what_it_chose(writer: SegmentWriter, reader: SegmentReader) -> None:
    only([pod(7)], writer)
    decision = reader.decide("m")
    assert (decision.pod, decision.address) == ("pod-7", "10.86.0.7:8000")
    reader.finish(decision)
