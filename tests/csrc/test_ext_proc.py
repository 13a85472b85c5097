"""The protocol's bytes: read and written as protobuf reads and writes them, and never a crash."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from csrc.binding import MessageUnreadable, SegmentReader
from tests.csrc.messages import (
    CHAT,
    Request,
    chat,
    header_map,
    read_answer,
    request_body,
    request_headers,
    response_headers,
)

Start = Callable[..., Request]
PER_EXAMPLE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

WHOLE = request_headers(
    {
        ":method": "POST",
        ":path": CHAT,
        "routing-strategy": "random",
        "external-filter": "a in (b)",
        "target-pod": "x",
        "traceparent": "a-b-c-d",
    }
)


def attempt(reader: SegmentReader, *messages: bytes) -> None:
    """Whatever the bytes are, the answer is a ProcessingResponse or a clear refusal."""
    flow = reader.begin()
    try:
        for message in messages:
            read_answer(flow.process(message))
    except MessageUnreadable:
        pass
    finally:
        flow.close()


def is_readable(message: bytes) -> bool:
    """What protobuf takes for a request with something in it."""
    try:
        parsed = ext_proc.ProcessingRequest.FromString(message)
    except Exception:
        return False
    return parsed.WhichOneof("request") is not None


def test_every_truncation_is_answered_or_refused(reader: SegmentReader) -> None:
    for whole in (WHOLE, request_body(b'{"model":"llama2-7b","messages":[{}]}'), response_headers("500")):
        for cut in range(len(whole)):
            attempt(reader, WHOLE, whole[:cut])
            if not is_readable(whole[:cut]):
                flow = reader.begin()
                with pytest.raises(MessageUnreadable):
                    flow.process(whole[:cut])
                flow.close()


@given(st.binary(max_size=80))
@example(b"\xff" * 20)
@example(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80")
@example(b"")
@PER_EXAMPLE
def test_random_bytes_never_crash(reader: SegmentReader, message: bytes) -> None:
    attempt(reader, message, message)


@given(st.data())
@PER_EXAMPLE
def test_damaged_messages_never_crash(reader: SegmentReader, data: st.DataObject) -> None:
    damaged = []
    for whole in (WHOLE, request_body(b'{"model":"llama2-7b","messages":[{"content":"x"}]}'), response_headers("404")):
        message = bytearray(whole)
        for _ in range(data.draw(st.integers(0, 3))):
            message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
        damaged.append(bytes(message))
    attempt(reader, *damaged)


texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


@given(st.dictionaries(texts, st.binary(max_size=40), max_size=8), st.booleans())
@PER_EXAMPLE
def test_any_headers_are_read_and_answered(reader: SegmentReader, headers: dict[str, bytes], end: bool) -> None:
    attempt(reader, request_headers({":path": CHAT, **headers}, end), response_headers("200"))


def test_unknown_fields_and_attributes_are_skipped(start: Start) -> None:
    content = ext_proc.HttpHeaders(headers=header_map({":path": CHAT, ":method": "POST", "routing-strategy": "random"}))
    message = ext_proc.ProcessingRequest(request_headers=content, observability_mode=True)
    message.metadata_context.filter_metadata["x"].update({"a": 1})
    message.attributes["y"].update({"b": "c"})
    raw = (
        message.SerializeToString()
        + b"\xa1\x06"
        + b"8" * 8
        + b"\xa5\x06"
        + b"4444"
        + b"\xa0\x06\x07"
        + b"\xa2\x06\x01x"
    )
    request = start()
    assert request.tell(raw).kind == "request_headers"
    assert "target-pod" in request.body(chat()).set


def test_a_header_may_come_in_value_instead_of_raw_value(start: Start) -> None:
    content = ext_proc.HttpHeaders()
    for name, value in {":path": CHAT, "routing-strategy": "random"}.items():
        content.headers.headers.add(key=name, value=value)
    request = start()
    request.tell(ext_proc.ProcessingRequest(request_headers=content).SerializeToString())
    assert request.body(chat()).set["routing-strategy"] == "random"


def test_a_body_of_many_megabytes_passes(start: Start) -> None:
    request = start()
    request.headers(routing_strategy="random")
    body = b'{"messages":[{"content":"' + b"x" * 30_000_000 + b'"}],"model":"llama2-7b"}'
    assert request.body(body).set["content-length"] == str(len(body))


def test_huge_names_and_values_are_answered(start: Start) -> None:
    big = "n" * 100_000
    request = start()
    request.headers(**{big: big, "routing_strategy": big, "external_filter": big, "x_error_" + big: "1"})
    assert request.body(chat()).status == 400
    request = start()
    request.headers()
    answer = request.body({"model": big, "messages": [{}]})
    assert answer.status == 400
    assert len(answer.set["x-error-no-model-backends"]) == 1024


@pytest.mark.parametrize("value", [b"\xff\xfe", b"\x00", b"caf\xc3\xa9", b'"\\'])
def test_an_error_about_any_bytes_is_json(start: Start, value: bytes) -> None:
    request = start()
    request.headers(routing_strategy=value)
    assert request.body(chat()).error["message"] == "incorrect routing strategy " + value.strip().decode(
        errors="replace"
    )


def test_more_headers_than_anyone_sends(reader: SegmentReader) -> None:
    attempt(reader, request_headers({":path": CHAT, **{f"h{number}": "v" for number in range(20_000)}}))
