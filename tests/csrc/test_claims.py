"""Models that a ModelClaim is to bring up. Numbers are acceptance cases of the spec's gateway document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from csrc.binding import Claim, SegmentReader, SegmentWriter, Settings, Verdict
from tests.csrc.conftest import LIMITS
from tests.csrc.messages import Answer, Request, chat, pod

Start = Callable[..., Request]
SLEEPS = {"org/m": Claim.SLEEPING}


def publish(writer: SegmentWriter, **claims: Claim) -> None:
    writer.publish({"llama2-7b": [pod(1)], "gone": []}, Settings(default_strategy="random"), claims=claims)


def ask(start: Start, model: str) -> Answer:
    request = start()
    request.headers()
    return request.body(chat(model))


@pytest.mark.parametrize(
    ("state", "said", "retries"),
    [
        (Claim.SLEEPING, "is sleeping; retry shortly", True),
        (Claim.ACTIVATING, "is activating; retry shortly", True),
        (Claim.FAILED, "is failed", False),
    ],
)
def test_cases_46_to_48_a_claim_says_why_no_pod_serves_the_model(
    writer: SegmentWriter, start: Start, state: Claim, said: str, retries: bool
) -> None:
    publish(writer, **{"org/m": state})
    answer = ask(start, "org/m")
    assert answer.status == 503
    assert answer.set["x-error-no-model-backends"] == "org/m"
    assert answer.set["content-type"] == "application/json"
    assert answer.set.get("retry-after") == ("10" if retries else None)
    assert answer.error == {
        "message": f"model org/m {said}", "type": "overloaded_error", "code": "service_unavailable", "param": "model",
    }  # fmt: skip
    assert writer.take_wanted("org/m") == (state is Claim.SLEEPING)
    assert not writer.take_wanted("org/m")
    assert {each.name: sum(each.endings.values()) for each in writer.totals().models}["org/m"] == 1


def test_a_model_without_a_claim_answers_as_before(writer: SegmentWriter, start: Start) -> None:
    publish(writer, **SLEEPS)
    assert ask(start, "llama2-7b").status == 0
    assert ask(start, "gone").error["message"] == "error on getting pods for model gone"
    assert ask(start, "ghost").status == 400
    assert not any(writer.take_wanted(model) for model in ("org/m", "llama2-7b", "gone", "ghost"))


def test_what_was_wanted_is_forgotten_once_the_model_woke(writer: SegmentWriter, start: Start) -> None:
    publish(writer, **SLEEPS)
    ask(start, "org/m")
    writer.publish({"org/m": [pod(1)]})
    publish(writer, **SLEEPS)
    assert not writer.take_wanted("org/m")


def test_what_is_wanted_outlives_a_new_topology_and_the_collector(
    segment_path: Path, writer: SegmentWriter, reader: SegmentReader
) -> None:
    publish(writer, **SLEEPS)
    assert reader.decide("org/m").verdict is Verdict.CLAIMED
    assert reader.explain("org/m").verdict is Verdict.CLAIMED
    writer.close()
    with SegmentWriter.open(segment_path, LIMITS) as adopted:
        publish(adopted, **SLEEPS)
        assert adopted.take_wanted("org/m")
        assert reader.explain("org/m").verdict is Verdict.CLAIMED
        assert not adopted.take_wanted("org/m")
