"""What becomes of an engine's answer: errors normalised under their status, usage read, one outcome counted."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import End, Outcome, SegmentWriter
from tests.csrc.messages import Request, chat, response_headers, response_trailers

Start = Callable[..., Request]


def routed(start: Start, **members: object) -> Request:
    request = start()
    request.headers(routing_strategy="least-request")
    assert "target-pod" in request.body(chat(**members)).set
    return request


def ending(writer: SegmentWriter) -> dict[tuple[Outcome, int], int]:
    """Endings of all models together; and nothing is in flight."""
    totals = writer.totals()
    found: dict[tuple[Outcome, int], int] = {}
    for model in totals.models:
        assert model.in_flight == 0
        for meaning, count in model.endings.items():
            found[meaning] = found.get(meaning, 0) + count
    assert all(pod.running == 0 for pod in totals.pods)
    assert totals.anomalies == 0
    return found


def error_of(start: Start, status: int, *chunks: bytes, **headers: str) -> bytes:
    request = routed(start)
    head = request.answer_headers(status, **headers)
    assert head.kind == "response_headers"
    assert head.set["content-type"] == "application/json"
    assert head.removed == ["content-length"]
    sent = b""
    for number, chunk in enumerate(chunks, 1):
        answer = request.answer_body(chunk, end=number == len(chunks))
        assert answer.kind == "response_body"
        sent += chunk if answer.body is None else answer.body
    assert request.flow.record().outcome is Outcome.UPSTREAM_ERROR
    return sent


WHOLE = b'{"error": {"message":"too long", "type":"BadRequestError","param":null , "code":400}}'


def test_case_75_an_openai_error_passes_byte_for_byte(writer: SegmentWriter, start: Start) -> None:
    for cut in range(len(WHOLE)):
        assert error_of(start, 400, WHOLE[:cut], WHOLE[cut:]) == WHOLE
    assert ending(writer) == {(Outcome.UPSTREAM_ERROR, 400): len(WHOLE)}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"message":"m","code":"x"}}', {"message": "m", "type": None, "param": None, "code": "x"}),
        (b'{"error":{}}', {"message": "unknown response", "type": None, "param": None, "code": None}),
        (
            b'{"error":{"message":null,"type":"t"}}',
            {"message": "unknown response", "type": "t", "param": None, "code": None},
        ),
        (
            b'{"object":"error","message":"m \\" [}","code":400}',
            {"message": 'm " [}', "type": None, "param": None, "code": 400},
        ),
        (
            b'{"a":[{"message":"no"}],"message":"m","type":"T","param":{"x":[1]}}',
            {"message": "m", "type": "T", "param": {"x": [1]}, "code": None},
        ),
    ],
)
def test_errors_in_other_forms_are_put_into_the_envelope(
    start: Start, body: bytes, expected: dict[str, object]
) -> None:
    assert json.loads(error_of(start, 400, body)) == {"error": expected}


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, b"plain text", "invalid_request_error", None),
        (404, b'{"detail":"Not Found"}', "invalid_request_error", None),
        (429, b"slow down", "rate_limit_error", None),
        (500, b"Internal Server Error", "api_error", None),
        (503, b"no healthy upstream", "overloaded_error", "service_unavailable"),
        (422, b'["a"]', "api_error", None),
        (500, b'{"message', "api_error", None),
        (502, b"\xff\xfe\n", "api_error", None),
    ],
)
def test_cases_76_and_78_text_is_wrapped_under_its_status(
    start: Start, status: int, body: bytes, kind: str, code: str | None
) -> None:
    error = json.loads(error_of(start, status, body[:3], body[3:]))["error"]
    assert error == {"message": body.decode(errors="replace"), "type": kind, "code": code, "param": None}


def test_case_83_an_array_is_no_error_object(start: Start) -> None:
    assert json.loads(error_of(start, 400, b'[{"message":"m"}]'))["error"]["message"] == '[{"message":"m"}]'


def test_an_error_without_a_body_gets_one(writer: SegmentWriter, start: Start) -> None:
    request = routed(start)
    answer = request.answer_headers(503, end=True)
    assert (answer.kind, answer.status) == ("immediate_response", 503)
    assert answer.error["message"] == "unknown response"
    assert answer.set["target-pod"].startswith("pod-")
    assert ending(writer) == {(Outcome.UPSTREAM_ERROR, 503): 1}


def test_an_error_longer_than_what_is_kept_is_wrapped_cut(start: Start) -> None:
    chunks = [b"x" * 10_000] * 12
    error = json.loads(error_of(start, 500, *chunks))["error"]
    assert set(error["message"]) == {"x"}
    assert 30_000 < len(error["message"]) < 40_000


@pytest.mark.parametrize("size", [9_000, 40_000, 150_000, 1_000_000])
def test_a_long_openai_error_goes_on_as_it_came(start: Start, size: int) -> None:
    body = b'{"error": {"message":"' + b"y" * 600_000 + b'","type":"t","param":null,"code":1}}'
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert error_of(start, 400, *chunks) == body


@pytest.mark.parametrize(("encoding", "is_ours"), [("gzip", False), ("br", False), ("identity", True), ("", True)])
def test_a_compressed_error_is_left_alone(start: Start, encoding: str, is_ours: bool) -> None:
    request = routed(start)
    head = request.tell(response_headers("400", **{"content-encoding": encoding}))
    assert ("content-type" in head.set) == is_ours
    assert (request.answer_body(b"\x1f\x8b").body is not None) == is_ours


@pytest.mark.parametrize("status", [200, 201, 204, 206])
def test_every_2xx_is_a_success_and_its_body_is_untouched(writer: SegmentWriter, start: Start, status: int) -> None:
    request = routed(start)
    assert "content-type" not in request.answer_headers(status, end=status == 204).set
    if status != 204:
        assert request.answer_body(b'{"foo":"bar"}').body is None
    assert request.flow.record().outcome is Outcome.OK
    assert ending(writer) == {(Outcome.OK, 200): 1}


def usage_of(start: Start, *chunks: bytes, path: str = "/v1/chat/completions") -> tuple[int, int]:
    request = start()
    request.headers(path=path, routing_strategy="random")
    request.body(
        {
            "model": "llama2-7b",
            "messages": [{}],
            "input": "x",
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    request.answer_headers()
    for number, chunk in enumerate(chunks, 1):
        assert request.answer_body(chunk, end=number == len(chunks)).body is None
    record = request.flow.record()
    request.close()
    return record.prompt_tokens, record.completion_tokens


EVENT = b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}'


@pytest.mark.parametrize("line_end", [b"\n\n", b"\r\n\r\n"])
def test_case_85_usage_of_a_stream(writer: SegmentWriter, start: Start, line_end: bytes) -> None:
    assert usage_of(
        start, b'data: {"choices":[],"usage":null}' + line_end, EVENT + line_end, b"data: [DONE]" + line_end
    ) == (10, 20)
    model = next(model for model in writer.totals().models if model.name == "llama2-7b")
    assert (model.with_usage, model.prompt_tokens, model.completion_tokens) == (1, 10, 20)


def test_case_88_usage_cut_anywhere(start: Start) -> None:
    for cut in range(len(EVENT)):
        assert usage_of(start, EVENT[:cut], EVENT[cut:] + b"\n\n") == (10, 20)


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        (b'data: {"usage": { broken\n\n', 1),
        (b'data: {"usage": { broken\n\ndata: {"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n', 1),
        (b'data: {"usage":{"prompt_tokens":1,"completion', 1),
        (b'data: {"usage":{"prompt_tokens" 1}}\n\n', 1),
        (b'data: {"usage":{"prompt_tokens":,}}\n\n', 1),
        (b'data: {"usage":{"a":' + b"[" * 300 + b"\n\n", 1),
        (b'data: {"usage":{"cost":-1.5E+3,"cached":true,"why":null,"tier":"} broken","prompt_tokens":1}}\n\n', 0),
        (b'data: {"usage":null}\n\n', 0),
        (b'data: {"usage":{}}\n\n', 0),
        (b'data: {"choices":[]}\n\n', 0),
    ],
)
def test_case_87_a_usage_that_cannot_be_read_is_counted_once(
    writer: SegmentWriter, start: Start, body: bytes, broken: int
) -> None:
    for size in (1, 7, len(body)):
        before = writer.totals().unparsed
        usage_of(start, *(body[at : at + size] for at in range(0, len(body), size)))
        assert writer.totals().unparsed == before + broken, size


@pytest.mark.parametrize(
    ("case", "body", "expected"),
    [
        (86, b'data: {"choices":[{"delta":{"content":"my \\"usage\\": {\\"prompt_tokens\\": 5}"}}]}\n\n', (0, 0)),
        (86, b'data: {"content":"usage"}\n\n', (0, 0)),
        (87, b'data: {"usage": { broken\n\n', (0, 0)),
        (87, b'data: {"usage": { broken\n\ndata: {"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n', (1, 2)),
        (
            89,
            b'event: response.completed\ndata: {"response":{"usage":{"input_tokens":7,"output_tokens":8}}}\n\n',
            (7, 8),
        ),
        (90, b'data: {"usage":{"prompt_tokens":0,"input_tokens":7}}\n\n', (0, 0)),
        (
            0,
            b'{"usage":{"prompt_tokens_details":{"prompt_tokens":9,"x":["}"]},"prompt_tokens":1,"completion_tokens":2}}',
            (1, 2),
        ),
        (0, b'{"usage" : {"total_tokens":3 , "completion_tokens" : 2,"prompt_tokens":1 } }', (1, 2)),
        (
            0,
            b'data: {"message":{"usage":{"input_tokens":4,"output_tokens":1}}}\n\n'
            b'data: {"usage":{"output_tokens":9}}\n\n',
            (4, 9),
        ),
        (0, b'{"usage":{"prompt_tokens":99999999999999999999999999,"completion_tokens":-5}}', None),
    ],
)
def test_cases_86_to_90_what_counts_as_usage(
    start: Start, case: int, body: bytes, expected: tuple[int, int] | None
) -> None:
    for size in (1, 3, len(body)):
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        found = usage_of(start, *chunks)
        assert expected is None or found == expected


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_answer_of_an_engine_is_ever_changed_when_it_succeeds(start: Start, chunks: list[bytes]) -> None:
    usage_of(start, *chunks, b'"usage":', *chunks)


def test_case_96_a_completion_and_then_the_end_of_the_stream_count_once(writer: SegmentWriter, start: Start) -> None:
    request = routed(start)
    request.answer_headers()
    request.answer_body()
    request.close()
    request.close()
    assert ending(writer) == {(Outcome.OK, 200): 1}
    assert writer.totals().in_flight == 0


@pytest.mark.parametrize("stage", ["begun", "headers", "routed", "answering", "half"])
def test_case_98_a_stream_that_ends_early_is_a_cancel(writer: SegmentWriter, start: Start, stage: str) -> None:
    request = start()
    if stage != "begun":
        request.headers(routing_strategy="random")
    if stage in {"routed", "answering", "half"}:
        request.body(chat())
    if stage in {"answering", "half"}:
        request.answer_headers()
    if stage == "half":
        request.answer_body(b"x", end=False)
    assert writer.totals().in_flight == 1
    request.close()
    assert ending(writer) == {(Outcome.CLIENT_CANCELLED, 499): 1}
    assert writer.totals().in_flight == 0


def test_a_shutdown_is_its_own_outcome(writer: SegmentWriter, start: Start) -> None:
    request = routed(start)
    request.close(End.SHUTDOWN)
    assert ending(writer) == {(Outcome.SHUTDOWN, 503): 1}


def test_a_rejection_counts_once_whatever_follows(writer: SegmentWriter, start: Start) -> None:
    request = start()
    request.headers()
    request.body(chat("ghost"))
    request.close()
    assert ending(writer) == {(Outcome.REJECTED, 400): 1}


def test_case_99_trailers_are_answered_and_end_the_answer(writer: SegmentWriter, start: Start) -> None:
    request = routed(start)
    request.answer_headers()
    request.answer_body(b"x", end=False)
    assert request.tell(response_trailers()).kind == "response_trailers"
    assert request.flow.is_complete
    assert ending(writer) == {(Outcome.OK, 200): 1}


def test_an_answer_of_the_proxy_itself_before_routing_is_an_upstream_error(writer: SegmentWriter, start: Start) -> None:
    request = start()
    request.headers()
    request.answer_headers(413)
    assert json.loads(request.answer_body(b"payload too large").body or b"")["error"]["message"] == "payload too large"
    assert ending(writer) == {(Outcome.UPSTREAM_ERROR, 413): 1}
