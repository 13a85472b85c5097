"""The acceptance cases about choosing a pod and about what must not pass, by their number."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from csrc.binding import Outcome, SegmentWriter, Settings
from tests.csrc.messages import CHAT, Request, chat, pod, request_trailers

Start = Callable[..., Request]
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def publish(writer: SegmentWriter, default_strategy: str = "", api_key: str = "", **labels: dict[str, str]) -> None:
    pods = [pod(1, **labels.get("one", {})), pod(2, **labels.get("two", {}))]
    models = {
        "llama2-7b": pods,
        "unready": [pod(3, ready=False)],
        "single": [pod(4), pod(5, ready=False)],
        "bare": [],
    }
    writer.publish(models, Settings(default_strategy=default_strategy, api_key=api_key))


def routed(start: Start, **headers: str) -> tuple[Request, dict[str, str]]:
    request = start()
    request.headers(**headers)
    return request, request.body(chat()).set


def test_case_53_without_a_strategy_the_model_header_is_set(start: Start) -> None:
    request, sent = routed(start)
    assert sent == {"model": "llama2-7b"}
    assert "target-pod" not in request.answer_headers().set


def test_case_54_a_strategy_names_the_pod(start: Start) -> None:
    request = start()
    request.headers(routing_strategy="random")
    answer = request.body(chat())
    body = answer.set
    assert body["routing-strategy"] == "random"
    assert body["target-pod"] in {"10.86.0.1:8000", "10.86.0.2:8000"}
    assert body["content-length"] == "74"
    assert UUID4.fullmatch(body["x-request-id"])
    assert answer.body is None
    assert answer.clears_route


INVALID = [
    "rrandom", "random:x", "random:-1", "random:1000001", "a:1:2", "random:0", "random,", ",random",
    "random,,random", ":1", "random:", "random:0.5", "Random", "vtc-fair", "slow", "pd", "prefix-cache",
    "slo-least-load", "random,power-of-two", "random:99999999999999999999", "random,least-request",
    "least-request:1,slo-least-load", "pd,least-request",
]  # fmt: skip


@pytest.mark.parametrize("strategy", INVALID)
def test_cases_55_and_57_strategies_that_are_refused(start: Start, strategy: str) -> None:
    request = start()
    request.headers(routing_strategy=strategy)
    answer = request.body(chat())
    assert answer.status == 400
    assert answer.set == {"x-error-routing": "true", "content-type": "application/json"}
    assert answer.error == {
        "message": f"incorrect routing strategy {strategy}",
        "type": "invalid_request_error",
        "code": None,
        "param": None,
    }


@pytest.mark.parametrize(
    "strategy",
    [
        "random:1",
        " random ",
        "random : 7",
        "random:1000000",
        "random:0,least-request",
        "least-request:2, least-request:3",
        "random:+5",
    ],
)
def test_case_55_strategies_that_run_are_echoed(start: Start, strategy: str) -> None:
    request, sent = routed(start, routing_strategy=strategy)
    assert sent["routing-strategy"] == strategy.strip()
    assert request.answer_headers().set["routing-strategy"] == strategy.strip()


@pytest.mark.parametrize("blank", ["", "   "])
def test_case_55_a_blank_strategy_header_is_ignored(writer: SegmentWriter, start: Start, blank: str) -> None:
    publish(writer, default_strategy="random")
    assert routed(start, routing_strategy=blank)[1]["routing-strategy"] == "random"


def test_case_62_the_header_wins_over_the_default(writer: SegmentWriter, start: Start) -> None:
    publish(writer, default_strategy=" least-request ")
    assert routed(start)[1]["routing-strategy"] == "least-request"
    assert routed(start, routing_strategy="random")[1]["routing-strategy"] == "random"


def test_an_invalid_default_is_refused_by_name(writer: SegmentWriter, start: Start) -> None:
    publish(writer, default_strategy="nonsense")
    request = start()
    request.headers()
    assert request.body(chat()).error["message"] == "incorrect routing strategy nonsense"


def test_a_strategy_longer_than_any_list_is_refused(start: Start) -> None:
    request = start()
    request.headers(routing_strategy="random," * 70 + "random" + " " * 600)
    assert request.body(chat()).status == 400


FILTERS = [
    ("foo=bar,env=prod", [1]),
    ("foo==bar, env == prod", [1]),
    ("foo in (bar, bug)", [1, 2]),
    ("foo in (bug)", [2]),
    ("foo notin (bar)", [2, 3]),
    ("foo!=bar", [2, 3]),
    ("foo", [1, 2]),
    ("!foo", [3]),
    ("! foo ", [3]),
    ("env", [1]),
    ("a.b/c-d=x_1", [3]),
    ("foo=bar,foo=bug", []),
    ("foo=", []),
    ("   ", [1, 2, 3]),
]


@pytest.mark.parametrize(("selector", "expected"), FILTERS)
def test_cases_70_and_71_only_matching_pods_are_candidates(
    writer: SegmentWriter, start: Start, selector: str, expected: list[int]
) -> None:
    pods = [pod(1, foo="bar", env="prod"), pod(2, foo="bug"), pod(3, **{"a.b/c-d": "x_1"})]
    writer.publish({"llama2-7b": pods}, Settings())
    seen = set()
    for _ in range(40):
        request = start()
        request.headers(routing_strategy="random", external_filter=selector)
        answer = request.body(chat())
        request.close()
        if not expected:
            assert answer.status == 503
            assert answer.set == {"x-error-routing": "true", "content-type": "application/json"}
            assert answer.error["message"] == "error on selecting target pod"
            assert answer.error["code"] == "service_unavailable"
            return
        seen.add(answer.set["target-pod"])
    assert seen == {f"10.86.0.{number}:8000" for number in expected}


@pytest.mark.parametrize(
    "selector",
    [
        "=x",
        "foo in bar",
        "foo in (a",
        "foo in (a b)",
        "foo,",
        ",foo",
        "foo=bar baz",
        "!",
        "foo = = bar",
        "-a",
        "a/b/c",
        "(",
        "foo!bar",
        "f\u00f6o",
        "x" * 64,
        "foo=" + "y" * 64,
        "a," * 2000 + "a",
    ],
)
def test_case_71_ours_bad_syntax_is_the_clients_fault(start: Start, selector: str) -> None:
    request = start()
    request.headers(routing_strategy="random", external_filter=selector)
    answer = request.body(chat())
    assert answer.status == 400
    assert answer.set["x-error-routing"] == "true"
    assert answer.error["param"] == "external-filter"


@pytest.mark.parametrize("strategy", ["random", "least-request"])
def test_case_72_the_only_ready_pod_is_taken(start: Start, strategy: str) -> None:
    request = start()
    request.headers(routing_strategy=strategy)
    assert request.body(chat("single")).set["target-pod"] == "10.86.0.4:8000"


def test_case_74_response_headers_name_the_pod(start: Start) -> None:
    request, sent = routed(start, routing_strategy="random")
    answer = request.answer_headers(200)
    number = sent["target-pod"].split(":")[0].rsplit(".", 1)[1]
    assert answer.set == {
        "x-went-into-req-headers": "true",
        "request-id": sent["x-request-id"],
        "routing-strategy": "random",
        "target-pod": f"pod-{number}",
        "target-pod-ip": sent["target-pod"],
    }
    assert answer.removed == []


def test_the_address_can_be_kept_from_clients(writer: SegmentWriter, start: Start) -> None:
    writer.publish({"llama2-7b": [pod(1)]}, Settings(default_strategy="random", hide_pod_address=True))
    request, _ = routed(start)
    answer = request.answer_headers()
    assert answer.set["target-pod"] == "pod-1"
    assert "target-pod-ip" not in answer.set


def test_case_77_an_engines_401_is_told_as_a_wrong_key(start: Start) -> None:
    request, _ = routed(start, routing_strategy="random")
    answer = request.answer_headers(401)
    assert answer.kind == "immediate_response"
    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"
    assert answer.error["message"] == "Incorrect API key provided"
    assert answer.set["target-pod"].startswith("pod-")


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/anything"])
def test_case_100_a_request_without_a_body_is_answered_and_never_forwarded(
    start: Start, method: str, path: str
) -> None:
    answer = start().headers(
        path=path, method=method, end=True, routing_strategy="random", target_pod="169.254.169.254:80"
    )
    assert answer.kind == "immediate_response"
    assert answer.status == (501 if path != CHAT else 400 if method == "POST" else 405)
    assert set(answer.error) == {"message", "type", "code", "param"}


def test_case_100_the_default_strategy_counts_too(writer: SegmentWriter, start: Start) -> None:
    publish(writer, default_strategy="random")
    assert start().headers(method="GET", end=True).status == 405


def test_without_any_strategy_a_request_without_a_body_goes_on(start: Start) -> None:
    answer = start().headers(path="/v1/models", method="GET", end=True, target_pod="1.2.3.4:1")
    assert answer.kind == "request_headers"
    assert answer.removed == ["target-pod"]


def test_reserved_headers_of_a_client_are_removed(start: Start) -> None:
    answer = start().headers(
        target_pod="x", target_pod_ip="y", model="z", x_error_routing="1", X_Error_Other="2", other="3"
    )
    assert answer.removed == ["target-pod", "target-pod-ip", "model", "x-error-routing", "X-Error-Other"]


def test_a_flood_of_reserved_headers_is_refused(start: Start) -> None:
    answer = start().headers(**{f"x_error_{number}": "1" for number in range(100)})
    assert answer.status == 431


def test_a_body_that_no_headers_announced_is_refused(start: Start) -> None:
    request = start()
    assert request.body(chat()).status == 501
    assert request.flow.record().outcome is Outcome.REJECTED


def test_a_body_may_come_in_chunks(start: Start) -> None:
    request = start()
    request.headers(routing_strategy="random")
    assert request.body(b'{"model":"llama2', end=False).set == {}
    answer = request.body(b'-7b","messages":[{}]}', end=True)
    assert answer.set["content-length"] == "37"


def test_a_body_that_trailers_follow_is_routed_when_its_object_is_complete(start: Start) -> None:
    request = start()
    request.headers(routing_strategy="random")
    answer = request.body(chat(), end=False)
    assert "target-pod" in answer.set
    assert "content-length" not in answer.set
    assert request.body(b" ", end=True).set == {}
    assert request.tell(request_trailers()).kind == "request_trailers"


def test_trailers_behind_half_an_object_refuse_it(start: Start) -> None:
    request = start()
    request.headers(routing_strategy="random")
    assert request.body(b'{"model":', end=False).set == {}
    assert request.tell(request_trailers()).status == 400
