"""Streams whose clients did not ask for usage are counted, and the clients do not notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import SegmentReader, SegmentWriter, Settings
from tests.csrc.messages import CHAT, Request, chat, pod

Start = Callable[..., Request]
WORDS = b'data: {"choices":[{"delta":{"content":"a \\"usage\\":{ \\"choices\\":[]"}}],"usage":null}\n\n'
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}\n\n'
DONE = b"data: [DONE]\n\n"


def sent(request: Request, body: bytes, path: str = CHAT) -> tuple[bytes, Any]:
    """What the engine gets of a body."""
    request.headers(path=path, routing_strategy="random")
    answer = request.body(body)
    assert answer.set["content-length"] == str(len(answer.body or body))
    return answer.body or body, answer


@pytest.mark.parametrize(
    "given_options",
    [b"", b',"stream_options":null', b',"stream_options":{}', b', "stream_options" : { "continuous_usage_stats":true}',
     b',"stream_options":{"include_usage":false}', b',"stream_options":{"x":1,"include_usage": null }'],
)  # fmt: skip
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_usage_is_asked_for_in_place(start: Start, given_options: bytes, path: str) -> None:
    body = b' {"model":"llama2-7b","messages":[{"content":"\xc3\xa9"}],"stream":true' + given_options + b"}\n"
    engine, _ = sent(start(), body, path)
    before, after = json.loads(body), json.loads(engine)
    options = dict(before.get("stream_options") or {}) | {"include_usage": True}
    assert after == before | {"stream_options": options}
    assert engine.startswith(body[:60])
    assert engine.count(b"stream_options") == 1


@pytest.mark.parametrize(
    ("path", "members"),
    [
        (CHAT, {"stream": True, "stream_options": {"include_usage": True}}),
        (CHAT, {"stream": False}),
        (CHAT, {}),
        (CHAT, {"stream": True, "stream_options": 5}),
        ("/v1/responses", {"stream": True, "input": "x"}),
        ("/v1/messages", {"stream": True}),
    ],
)
def test_other_bodies_stay_as_they_are(start: Start, path: str, members: dict[str, Any]) -> None:
    request = start()
    _, answer = sent(request, json.dumps(chat(**members)).encode(), path)
    assert answer.body is None
    request.answer_headers()
    assert request.answer_body(USAGE, end=False).body is None


def test_a_setting_leaves_streams_alone(writer: SegmentWriter, start: Start) -> None:
    writer.publish({"llama2-7b": [pod(1)]}, Settings(count_streams=False))
    _, answer = sent(start(), json.dumps(chat(stream=True)).encode())
    assert answer.body is None


def test_a_large_body_is_edited_too(start: Start) -> None:
    engine, _ = sent(start(), json.dumps(chat(stream=True, note="x" * 3_000_000)).encode())
    assert json.loads(engine)["stream_options"] == {"include_usage": True}


def streamed(reader: SegmentReader, stream: bytes, cuts: list[int]) -> tuple[bytes, Request]:
    """What the client gets of an answer that comes in these pieces."""
    request = Request(reader)
    sent(request, json.dumps(chat(stream=True)).encode())
    request.answer_headers(content_type="text/event-stream")
    got, at = b"", 0
    for cut in [*sorted(cuts), len(stream)]:
        piece, at = stream[at:cut], cut
        answer = request.answer_body(piece, end=cut == len(stream))
        got += piece if answer.body is None else answer.body
    return got, request


def test_the_extra_chunk_is_left_out_wherever_the_answer_is_cut(reader: SegmentReader) -> None:
    stream = WORDS + USAGE + DONE
    for cut in range(len(stream)):
        got, request = streamed(reader, stream, [cut])
        assert got == WORDS + DONE
        assert (request.flow.record().prompt_tokens, request.flow.record().completion_tokens) == (10, 3)
        request.close()


LONG = b"data: " + b"y" * 40_000 + b"\n\n"
NAMED = b"event: x\r\ndata: {}\r\n\r\n"
events = st.lists(st.sampled_from([WORDS, USAGE, DONE, NAMED, LONG, b": ping\r\n\r\n", b"\n"]), max_size=8)


@given(events, st.binary(max_size=9), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_else_is_lost_of_any_stream_in_any_pieces(
    reader: SegmentReader, given_events: list[bytes], tail: bytes, data: st.DataObject
) -> None:
    stream = b"".join(given_events) + tail
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    got, request = streamed(reader, stream, cuts)
    request.close()
    assert got == b"".join(event for event in given_events if event is not USAGE) + tail


def test_an_event_passes_at_once_and_a_cut_one_waits_for_its_end(start: Start) -> None:
    request = start()
    sent(request, json.dumps(chat(stream=True)).encode())
    request.answer_headers(content_type="text/event-stream")
    assert request.answer_body(WORDS, end=False).body is None
    assert request.answer_body(WORDS + USAGE[:50], end=False).body == WORDS
    assert request.answer_body(USAGE[50:], end=False).body == b""
    assert request.answer_body(DONE).body is None
