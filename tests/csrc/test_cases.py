"""The acceptance cases of the gateway's request flow that this kernel answers, by their number."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from csrc.binding import SegmentWriter, Settings
from tests.csrc.messages import CHAT, Request, chat, pod

Start = Callable[..., Request]
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


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


@pytest.mark.parametrize(
    ("case", "authorization", "accepted"),
    [
        (1, "Bearer secret-1", True),
        (2, None, False),
        (3, "secret-1", False),
        (4, "Bearer wrong-token", False),
        (4, "Bearer secret-1x", False),
        (4, "Bearer ", False),
        (5, "bearer   secret-1", True),
        (5, "  BEARER secret-1  ", True),
    ],
)
def test_cases_1_to_5_the_api_key(
    writer: SegmentWriter, start: Start, case: int, authorization: str | None, accepted: bool
) -> None:
    publish(writer, api_key=" secret-1 ")
    given = {} if authorization is None else {"authorization": authorization}
    answer = start().headers(**given)
    if accepted:
        assert answer.kind == "request_headers"
        assert answer.removed == []
        return
    assert answer.status == 401
    assert answer.set == {"content-type": "application/json"}
    assert answer.error == {
        "message": "Incorrect API key provided",
        "type": "authentication_error",
        "code": "invalid_api_key",
        "param": "api_key",
    }


def test_case_7_an_empty_user_is_none(start: Start) -> None:
    answer = start().headers(user="")
    assert answer.kind == "request_headers"
    assert answer.set == {"x-went-into-req-headers": "true"}
    assert answer.clears_route


def test_case_8_a_bad_strategy_passes_the_headers(start: Start) -> None:
    request = start()
    assert request.headers(routing_strategy="not-found-strategy").kind == "request_headers"
    assert request.body(chat()).status == 400


def test_case_9_header_names_in_any_case(writer: SegmentWriter, start: Start) -> None:
    publish(writer, one={"env": "prod"}, two={"env": "test"})
    request = start()
    request.headers(**{"ROUTING-Strategy": "random", "EXTERNAL-FILTER": "env=test", "Target-Pod": "10.0.0.1:1"})
    assert request.body(chat()).set["target-pod"] == "10.86.0.2:8000"


@pytest.mark.parametrize(
    ("case", "span", "traceparent", "expected"),
    [
        (10, "", f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (10, "", f"  00-{TRACE}-00f067aa0ba902b7-01 ", TRACE),
        (11, "a" * 32, f"00-{TRACE}-00f067aa0ba902b7-01", "a" * 32),
        (12, "", f"00-{TRACE}-01", None),
        (12, "", f"00-{TRACE}-00f067aa0ba902b7-01-x", None),
        (12, "", "00-4bf92f-00f067aa0ba902b7-01", None),
        (12, "", "", None),
        (12, "a" * 32, "00-x-y", "a" * 32),
    ],
)
def test_cases_10_to_12_the_request_id(
    start: Start, case: int, span: str, traceparent: str, expected: str | None
) -> None:
    request = start(span)
    request.headers(routing_strategy="random", traceparent=traceparent)
    sent = request.body(chat()).set["x-request-id"]
    assert sent == expected if expected else UUID4.fullmatch(sent)
    assert request.answer_headers().set["request-id"] == sent


def test_request_ids_differ(start: Start) -> None:
    ids = {routed(start, routing_strategy="random")[1]["x-request-id"] for _ in range(50)}
    assert len(ids) == 50


@pytest.mark.parametrize(
    "path", ["/v1/unknown", "/v1/score", "/generate", "/v1/chat/completionsx", "/v1/chat/completions//", "/", ""]
)
def test_case_17_an_unknown_path(start: Start, path: str) -> None:
    answer = start().headers(path=path)
    assert answer.status == 501
    assert answer.set["x-error-request-body-processing"] == "true"
    assert answer.error == {"message": "unknown request path", "type": "api_error", "code": None, "param": None}


@pytest.mark.parametrize("path", [CHAT + "?api-version=1", CHAT + "/", CHAT + "/?a=/b"])
def test_case_17_better_a_query_and_a_trailing_slash_do_not_matter(start: Start, path: str) -> None:
    request = start()
    request.headers(path=path, routing_strategy="random")
    assert "target-pod" in request.body(chat()).set


BODIES = [
    (18, CHAT, b"bad_request", "error processing request body", None),
    (18, CHAT, b"", "error processing request body", None),
    (18, CHAT, b"[]", "error processing request body", None),
    (18, CHAT, b'{"model":"llama2-7b","messages":[{}]} x', "error processing request body", None),
    (18, CHAT, b'{"model":"llama2-7b","messages":[{"content":"\xff"}]}', "error processing request body", None),
    (19, CHAT, b'{"model":1}', "error processing request body", None),
    (20, CHAT, b'{"model":"llama2-7b"}', "no messages in the request body", "messages"),
    (20, CHAT, b'{"model":"llama2-7b","messages":[]}', "no messages in the request body", "messages"),
    (20, "/v1/messages", b'{"model":"llama2-7b","messages":null}', "no messages in the request body", "messages"),
    (23, CHAT, b'{"model":"llama2-7b","messages":[{}],"stream":"true"}', "error processing request body", None),
    (23, CHAT, b'{"model":"llama2-7b","messages":["x"]}', "error processing request body", None),
    (23, CHAT, b'{"model":"llama2-7b","messages":"x"}', "error processing request body", None),
    (27, "/v1/responses", b'{"input":"x"}', "'model' is a required property", "model"),
    (27, "/v1/responses", b'{"model":"m"}', "'input' is a required property", "input"),
    (27, "/v1/responses", b'{"model":"m","input":[]}', "'input' array cannot be empty", "input"),
    (27, "/v1/responses", b'{"model":"m","input":7}', "'input' must be a string or an array of input items", "input"),
    (29, "/v1/embeddings", b'{"model":"m","input":""}', "input cannot be an empty string", "input"),
    (29, "/v1/embeddings", b'{"model":"m","input":[]}', "input array cannot be empty", "input"),
    (38, "/v1/embeddings", b'{"model":"m","input":"x","stream":true}', "stream not supported for embeddings", "stream"),
    (39, "/v1/rerank", b'{"model":"m","documents":["a"]}', "'query' is a required property", "query"),
    (
        39,
        "/v1/rerank",
        b'{"model":"m","query":"q"}',
        "'documents' is a required property and cannot be empty",
        "documents",
    ),
    (0, "/v1/completions", b'{"model":"m","prompt":7}', "error processing request body", None),
    (0, "/v1/completions", b'{"model":"m","prompt":["a",1]}', "error processing request body", None),
    (0, "/v1/classify", b'{"model":"m","input":""}', "'input' cannot be an empty string", "input"),
    (0, "/v1/classify", b'{"model":"m","input":[1]}', "'input' must be a string or array of strings", "input"),
]


@pytest.mark.parametrize(("case", "path", "body", "message", "param"), BODIES)
def test_cases_18_to_39_bodies_that_are_refused(
    start: Start, case: int, path: str, body: bytes, message: str, param: str | None
) -> None:
    request = start()
    request.headers(path=path)
    answer = request.body(body)
    assert answer.status == 400
    assert answer.set == {"x-error-request-body-processing": "true", "content-type": "application/json"}
    assert answer.error == {"message": message, "type": "invalid_request_error", "code": None, "param": param}


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/v1/completions", {"prompt": [1, 2]}),
        ("/v1/completions", {"prompt": [[1], [2, 3]]}),
        ("/v1/completions", {}),
        ("/v1/messages", {"messages": [{}], "stream": True}),
        ("/v1/responses", {"input": "x", "stream": True}),
        ("/v1/responses", {"input": [{"role": "user", "content": "x"}]}),
        ("/v1/embeddings", {"input": "x", "stream": False}),
        ("/v1/embeddings", {}),
        ("/v1/rerank", {"query": "q", "documents": ["a", {"text": "b"}]}),
        ("/v1/classify", {"input": ["a", "b"]}),
        ("/v1/images/generations", {"prompt": "x"}),
        ("/v1/video/generations", {"prompt": "x"}),
    ],
)
def test_bodies_of_every_endpoint_that_are_routed(start: Start, path: str, members: dict[str, object]) -> None:
    request = start()
    request.headers(path=path, routing_strategy="random")
    assert "target-pod" in request.body({"model": "llama2-7b", **members}).set


@pytest.mark.parametrize("model", ["ghost", "caf\u00e9", "", None])
def test_case_44_an_unknown_model(start: Start, model: str | None) -> None:
    request = start()
    request.headers()
    answer = request.body({"model": model, "messages": [{}]})
    name = model or ""
    assert answer.status == 400
    assert answer.set["x-error-no-model-backends"].encode("latin-1").decode() == name
    assert answer.set["content-type"] == "application/json"
    assert answer.error == {
        "message": f"model {name} does not exist",
        "type": "invalid_request_error",
        "code": "model_not_found",
        "param": "model",
    }


def test_case_44_a_name_never_splits_a_header(start: Start) -> None:
    request = start()
    request.headers()
    answer = request.body({"model": "a\r\nset-cookie: x", "messages": [{}]})
    assert answer.set["x-error-no-model-backends"] == "a??set-cookie: x"
    assert answer.error["message"] == "model a\r\nset-cookie: x does not exist"


@pytest.mark.parametrize("model", ["unready", "bare"])
def test_case_45_a_model_without_a_ready_pod(writer: SegmentWriter, start: Start, model: str) -> None:
    publish(writer)
    request = start()
    request.headers(routing_strategy="random")
    answer = request.body(chat(model))
    assert answer.status == 503
    assert answer.set["x-error-no-model-backends"] == "true"
    assert answer.error == {
        "message": f"error on getting pods for model {model}",
        "type": "overloaded_error",
        "code": "service_unavailable",
        "param": None,
    }
