"""An explanation says what a decision would do, and counts nothing."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import SegmentReader, SegmentWriter, Settings, Verdict
from tests.csrc.choosing import NOW, Candidate, normalised, published, raw_scores
from tests.csrc.messages import pod
from tests.csrc.test_strategy_oracles import STRATEGIES, candidates

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(candidates, st.lists(st.sampled_from(STRATEGIES), min_size=2, max_size=3), st.integers(0, 2**63))
@EXAMPLES
def test_rows_hold_the_oracles_scores_and_the_pick_of_a_decision(
    writer: SegmentWriter, reader: SegmentReader, pods: list[Candidate], names: list[str], seed: int
) -> None:
    with published(writer, reader, pods):
        told = reader.explain("m", ",".join(names), random=seed, now=NOW + 1)
        decision = reader.decide("m", ",".join(names), random=seed, now=NOW + 1)
        reader.finish(decision)
    assert told.items == tuple((name, 1) for name in names)
    assert [row.pod for row in told.rows if row.picked] == [decision.pod]
    finals = [0.0] * len(pods)
    for item, name in enumerate(names):
        scores = raw_scores(name, pods)
        shown = [float("nan") if row.scores[item] is None else row.scores[item] for row in told.rows]
        assert shown == pytest.approx(scores, rel=1e-9, nan_ok=True)
        finals = [final + part / len(names) for final, part in zip(finals, normalised(scores), strict=True)]
    assert [row.final for row in told.rows] == pytest.approx(finals, abs=1e-9)
    assert [row.load for row in told.rows] == [candidate.load for candidate in pods]


@pytest.mark.parametrize(
    ("model", "strategy", "selector", "verdict", "rows"),
    [
        ("m", "random", "", Verdict.CHOSEN, 2),
        ("m", "power-of-two", "", Verdict.CHOSEN, 2),
        ("m", "", "", Verdict.CHOSEN, 2),
        ("m", "nonsense", "", Verdict.BAD_STRATEGY, 0),
        ("m", "random", "((", Verdict.BAD_FILTER, 0),
        ("m", "random", "a=b", Verdict.NO_CANDIDATE, 0),
        ("ghost", "random", "", Verdict.UNKNOWN_MODEL, 0),
    ],
)
def test_what_would_be_refused_is_told(
    writer: SegmentWriter, reader: SegmentReader, model: str, strategy: str, selector: str, verdict: Verdict, rows: int
) -> None:
    writer.publish({"m": [pod(1), pod(2), pod(3, ready=False)]}, Settings(default_strategy="least-request"))
    told = reader.explain(model, strategy, selector)
    assert (told.verdict, len(told.rows), told.candidates) == (verdict, rows, rows)
    assert told.strategy == (strategy or "least-request" if model == "m" else "")


def test_nothing_is_counted(writer: SegmentWriter, reader: SegmentReader) -> None:
    writer.publish({"m": [pod(1), pod(2)]})
    for strategy in ("least-kv-cache", "vtc-basic", "least-request,throughput"):
        reader.explain("m", strategy, user="ada", prompt_tokens=100)
    totals = writer.totals()
    assert (totals.decisions, totals.without_data, totals.in_flight) == ({}, {}, 0)
    assert [each.running for each in totals.pods] == [0, 0]
    assert writer.user_tokens("ada", NOW) == 0
