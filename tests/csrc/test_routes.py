"""Requests that no strategy routes, and what the HTTPRoute of their model says (gateway 4.10, 6.1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from csrc.binding import Claim, LimitReached, Outcome, SegmentReader, SegmentWriter, Settings
from tests.csrc.messages import Request, chat, pod
from tests.csrc.segments import SMALL

Start = Callable[..., Request]
PROBLEM = 'httproutes.gateway.networking.k8s.io "llama2-7b-router" not found'
MODELS = {"other": [pod(3)], "llama2-7b": [pod(1), pod(2)]}


def publish(writer: SegmentWriter, **problems: str) -> None:
    writer.publish(MODELS, Settings(), problems={name.replace("_", "-"): text for name, text in problems.items()})


def test_case_50_a_route_with_a_problem_is_told_before_the_request_is_sent(writer: SegmentWriter, start: Start) -> None:
    publish(writer, llama2_7b=PROBLEM)
    request = start()
    request.headers(external_filter="not a selector (")
    answer = request.body(chat())
    assert (answer.kind, answer.status, answer.set["x-error-routing"]) == ("immediate_response", 503, "true")
    assert answer.error == {
        "message": PROBLEM, "type": "overloaded_error", "code": "service_unavailable", "param": None,
    }  # fmt: skip
    found = {each.name: each for each in writer.totals().models}["llama2-7b"]
    assert (found.in_flight, dict(found.endings)) == (0, {(Outcome.REJECTED, 503): 1})


def test_a_problem_is_of_its_model_alone_and_gone_with_the_next_topology(writer: SegmentWriter, start: Start) -> None:
    publish(writer, llama2_7b=PROBLEM)
    for model, expected in (("other", "request_body"), ("llama2-7b", "immediate_response")):
        request = start()
        request.headers()
        assert request.body(chat(model)).kind == expected
    publish(writer)
    request = start()
    request.headers()
    assert request.body(chat()).set == {"model": "llama2-7b"}


def test_a_claim_says_why_before_a_route_could(writer: SegmentWriter, start: Start) -> None:
    problems = {"llama2-7b": PROBLEM}
    writer.publish(MODELS, Settings(), problems=problems, claims={"asleep": Claim.SLEEPING})
    for model, message in (("llama2-7b", PROBLEM), ("asleep", "model asleep is sleeping; retry shortly")):
        request = start()
        request.headers()
        assert request.body(chat(model)).error["message"] == message


def test_a_strategy_needs_no_route(writer: SegmentWriter, start: Start) -> None:
    publish(writer, llama2_7b=PROBLEM)
    request = start()
    request.headers(routing_strategy="random")
    assert request.body(chat()).set["routing-strategy"] == "random"


@pytest.mark.parametrize(
    ("status", "body", "message", "code"),
    [
        (401, b"no", f"Incorrect API key provided. {PROBLEM}", "invalid_api_key"),
        (404, b'{"detail":"Not Found"}', f'{{"detail":"Not Found"}}. {PROBLEM}', None),
        (503, b"", PROBLEM, "service_unavailable"),
    ],
)
def test_case_79_an_error_of_the_engine_tells_the_problem_of_the_route_too(
    writer: SegmentWriter, start: Start, status: int, body: bytes, message: str, code: str | None
) -> None:
    publish(writer)
    request = start()
    request.headers()
    assert request.body(chat()).set == {"model": "llama2-7b"}
    publish(writer, llama2_7b=PROBLEM)
    answer = request.answer_headers(status, end=not body)
    if answer.kind == "response_headers":
        answer = request.answer_body(body)
    assert (answer.error["message"], answer.error["code"]) == (message, code)


def test_case_78_with_a_strategy_the_route_is_not_looked_at(writer: SegmentWriter, start: Start) -> None:
    publish(writer, llama2_7b=PROBLEM)
    request = start()
    request.headers(routing_strategy="random")
    request.body(chat())
    request.answer_headers(404)
    assert request.answer_body(b'{"detail":"Not Found"}').error["message"] == '{"detail":"Not Found"}'


def test_a_long_problem_is_cut_and_the_error_of_the_engine_stays_readable(writer: SegmentWriter, start: Start) -> None:
    publish(writer)
    requests = [start(), start()]
    requests[0].headers()
    requests[0].body(chat())
    publish(writer, llama2_7b="\x01" * 10_000)
    requests[1].headers()
    assert requests[1].body(chat()).error["message"] == "\x01" * 2048
    requests[0].answer_headers(500)
    assert requests[0].answer_body(b"\x02" * 40_000).error["message"] == "\x02" * 32_768 + ". " + "\x01" * 2048


def test_problems_that_do_not_fit_leave_the_last_topology(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        publish(writer)
        with pytest.raises(LimitReached):
            publish(writer, llama2_7b="x" * SMALL.text_bytes)
        with SegmentReader.open(segment_path, flows=1) as reader:
            request = Request(reader)
            request.headers()
            assert request.body(chat()).set == {"model": "llama2-7b"}
            request.close()
