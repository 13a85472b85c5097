"""Bodies of embeddings and audio requests: what they may be, and what the others are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import SegmentReader, SegmentWriter
from tests.csrc.messages import Answer, Request, pod

Start = Callable[..., Request]
EMBEDDINGS = "/v1/embeddings"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
UNREADABLE = "error processing request body"


def ask(start: Start, path: str, body: object, chunk: int = 0, **headers: str) -> Answer:
    request = start()
    request.headers(path=path, routing_strategy="random", **headers)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    step = chunk or max(1, len(raw))
    for at in range(0, max(1, len(raw)), step):
        answer = request.body(raw[at : at + step], end=at + step >= len(raw))
        if answer.status or "target-pod" in answer.set:
            break
    return answer


INPUTS: list[tuple[int, Any, str, str | None]] = [
    (29, "", "input cannot be an empty string", "input"),
    (29, [], "input array cannot be empty", "input"),
    (29, [""], "input cannot be an empty string", "input"),
    (29, ["a", ""], "input at index 1 cannot be an empty string", "input"),
    (29, ["a", None], "input at index 1 cannot be an empty string", "input"),
    (32, [1] * 2049, "token array exceeds max dimensions (2048), actual dimensions: 2049", "input"),
    (33, [1] * 8193, "token array exceeds max tokens per model (8192), actual tokens: 8193", "input"),
    (33, [[1], []], "token array at index 1 cannot be empty", "input"),
    (33, [[1], [1] * 2049], "token array at index 1 exceeds max dimensions (2048), actual dimensions: 2049", "input"),
    (33, [[1] * 8193], "token array at index 0 exceeds max tokens per model (8192), actual tokens: 8193", "input"),
    (
        33,
        [[7] * 2048] * 147,
        "total tokens across all inputs exceeds maximum (300000), actual total: 301056",
        "input",
    ),
    (36, [{"type": "audio"}], 'input at index 0 has unsupported content type "audio"', "input"),
    (36, [{"type": "text", "text": ""}], "input at index 0 cannot be an empty string", "input"),
    (36, [{"text": "a"}, {"type": "text"}], "input at index 1 cannot be an empty string", "input"),
    (36, [{"type": "image_url"}], "input at index 0 is missing image_url", "input"),
    (36, [{"type": "image", "image": None}], "input at index 0 is missing image", "input"),
    (36, [{"text": "a"}, {"type": "video_url"}], "input at index 1 is missing video_url", "input"),
    (36, [{"type": "video"}], "input at index 0 is missing video", "input"),
    (36, [{"text": "a"}, {}], "input at index 1 must set one of text, image, or video", "input"),
    (37, [{"foo": 1}], UNREADABLE, None),
    (37, [{"type": 7, "text": "a"}], UNREADABLE, None),
    (37, [{"text": 7}], UNREADABLE, None),
    (37, 7, UNREADABLE, None),
    (37, {"text": "a"}, UNREADABLE, None),
    (37, ["a", 1], UNREADABLE, None),
    (37, [1, 1.5], UNREADABLE, None),
    (37, [[1], ["a"]], UNREADABLE, None),
    (37, [[1], 2], UNREADABLE, None),
    (37, ["", {"text": "a"}], UNREADABLE, None),
    (37, [True], UNREADABLE, None),
]


@pytest.mark.parametrize(("case", "given_input", "message", "param"), INPUTS)
def test_cases_29_to_37_inputs_of_embeddings_that_are_refused(
    start: Start, case: int, given_input: Any, message: str, param: str | None
) -> None:
    for chunk in (0, 7 + len(str(given_input)) // 100):
        answer = ask(start, EMBEDDINGS, {"input": given_input, "model": "llama2-7b"}, chunk)
        assert answer.status == 400
        assert answer.set == {"x-error-request-body-processing": "true", "content-type": "application/json"}
        assert answer.error == {"message": message, "type": "invalid_request_error", "code": None, "param": param}


@pytest.mark.parametrize(
    "given_input",
    [
        "text",
        ["a"],
        ["a", "b"],
        [1, 2, 3],
        [1] * 2048,
        [[1, 2], [3]],
        [[7] * 2048] * 146,
        [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:"}}],
        [{"image": "data:"}],
        [{"video": "data:"}, {"text": "a"}],
        None,
    ],
)
def test_cases_34_and_35_inputs_of_embeddings_that_are_routed(start: Start, given_input: Any) -> None:
    for chunk in (0, 5 + len(str(given_input)) // 100):
        answer = ask(start, EMBEDDINGS, {"model": "llama2-7b", "input": given_input}, chunk)
        assert "target-pod" in answer.set


def test_the_last_of_two_inputs_counts(start: Start) -> None:
    body = b'{"model":"llama2-7b","input":[{"type":"audio"}],"input":"text"}'
    assert "target-pod" in ask(start, EMBEDDINGS, body).set


def form(*parts: tuple[str, bytes], boundary: str = "frontier", line: bytes = b"\r\n", end: bool = True) -> bytes:
    dash = b"--" + boundary.encode()
    body = b""
    for name, value in parts:
        disposition = b'Content-Disposition: form-data; name="' + name.encode() + b'"'
        body += dash + line + disposition + line + line + value + line
    return body + dash + b"--" + line if end else body


def send(start: Start, body: bytes, kind: str = "multipart/form-data; boundary=frontier", chunk: int = 0) -> Answer:
    return ask(start, TRANSCRIPTIONS, body, chunk, content_type=kind)


def streams(request: Request) -> bool:
    return request.flow.record().streaming


MODEL = ("model", b"llama2-7b")
AUDIO = ("file", bytes(range(256)) * 40 + b"\r\n--frontie\n--\r\n--frontierx\r\n")


@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
@pytest.mark.parametrize("chunk", [0, 1, 3, 64])
def test_case_43_an_audio_form_is_routed_by_its_model(start: Start, line: bytes, chunk: int) -> None:
    body = form(AUDIO, ("model", b"ghost"), MODEL, ("stream", b" 1 "), ("prompt", b"x" * 3000), line=line)
    request = start()
    request.headers(
        path=TRANSCRIPTIONS, routing_strategy="random", content_type='multipart/form-data; boundary="frontier"'
    )
    step = chunk or len(body)
    for at in range(0, len(body), step):
        answer = request.body(body[at : at + step], end=at + step >= len(body))
        if "target-pod" in answer.set:
            break
    assert answer.body is None, "the body goes on as it came"
    assert answer.set["target-pod"]
    assert streams(request)


@pytest.mark.parametrize(
    ("value", "streaming"), [(b"true", True), (b"TRUE", True), (b"1", True), (b"false", False), (b"yes", False)]
)
def test_case_43_stream_is_true_or_1(start: Start, value: bytes, streaming: bool) -> None:
    request = start()
    request.headers(path=TRANSCRIPTIONS, routing_strategy="random", content_type="multipart/form-data; boundary=b")
    request.body(form(MODEL, ("stream", value), boundary="b"))
    assert streams(request) is streaming


def test_case_41_audio_that_is_no_form(start: Start) -> None:
    for kind in ("application/json", ""):
        answer = send(start, b'{"model":"llama2-7b"}', kind)
        assert (answer.status, answer.set["x-error-request-body-processing"]) == (400, "true")
        assert answer.error["message"] == "audio requests must use multipart/form-data content-type"


@pytest.mark.parametrize(
    ("kind", "body", "message", "param"),
    [
        ("multipart/form-data", form(MODEL), "missing boundary in content-type", None),
        ("multipart/form-data; boundary", form(MODEL), "invalid content-type header", None),
        ('multipart/form-data; boundary="x', form(MODEL), "invalid content-type header", None),
        ("", form(AUDIO), "'model' is a required property", "model"),
        ("", form(("model", b"  ")), "'model' is a required property", "model"),
        ("", form(MODEL, AUDIO, end=False), "failed to parse multipart form", None),
        ("", form(AUDIO, MODEL, end=False), "failed to read model field", "model"),
        ("", b"no boundary at all", "failed to parse multipart form", None),
        ("", b"", "failed to parse multipart form", None),
        ("", b"--frontier\r\nno header\r\n\r\nx\r\n--frontier--\r\n", "failed to parse multipart form", None),
    ],
)
def test_case_42_forms_that_are_refused(start: Start, kind: str, body: bytes, message: str, param: str | None) -> None:
    for chunk in (0, 1):
        answer = send(start, body, kind or "multipart/form-data; boundary=frontier", chunk)
        assert answer.status == 400
        assert answer.set == {"x-error-multipart-parsing": "true", "content-type": "application/json"}
        assert answer.error == {"message": message, "type": "invalid_request_error", "code": None, "param": param}


@given(st.binary(max_size=200), st.integers(1, 40), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_in_any_chunks_leaves_the_model_as_it_is(
    reader: SegmentReader, payload: bytes, chunk: int, data: st.DataObject
) -> None:
    mixed = payload.replace(b"-", b"\r\n--front") + data.draw(st.sampled_from([b"", b"\r", b"\r\n", b"\r\n--frontier"]))
    if b"\n--frontier\n" in mixed or b"\n--frontier--" in mixed or b"\n--frontier\r\n" in mixed:
        return
    request = Request(reader)
    kind = "multipart/form-data; boundary=frontier"
    request.headers(path=TRANSCRIPTIONS, routing_strategy="random", content_type=kind)
    body = form(("file", mixed + b"."), MODEL, ("other", b"."))
    for at in range(0, len(body), chunk):
        answer = request.body(body[at : at + chunk], end=at + chunk >= len(body))
        assert answer.status == 0
    assert request.flow.record().model == "llama2-7b"
    request.close()


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1/images/generations", "/generate"),
        ("/v1/video/generations?a=b", "/generatevideo"),
        ("/v1/chat/completions", None),
    ],
)
@pytest.mark.parametrize("strategy", ["random", ""])
def test_case_73_an_xdit_engine_has_paths_of_its_own(
    writer: SegmentWriter, start: Start, path: str, sent: str | None, strategy: str
) -> None:
    writer.publish({"llama2-7b": [replace(pod(1), engine="xdit")], "other": [replace(pod(2), engine="vllm")]})
    for model, expected in (("llama2-7b", sent), ("other", None)):
        request = start()
        request.headers(path=path, **({"routing_strategy": strategy} if strategy else {}))
        answer = request.body({"model": model, "messages": [{}], "prompt": "a cat"})
        assert answer.set.get(":path") == expected
