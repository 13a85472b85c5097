"""Bodies to requests: bad values are refused by name, and no JSON whatever makes the reader fail."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import ApiError
from simulator.fields import parse_body
from simulator.reply import Reply, cut_at_stop
from simulator.requests import read_chat, read_completion
from simulator.tokens import PackedTokenizer

TOKENIZER = PackedTokenizer()
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "m", "prompt": "hi"}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "text", "role", "content"]), inner)
    ),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "model",
        "messages",
        "prompt",
        "n",
        "stop",
        "stream",
        "stream_options",
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
    ]
)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"model": 5}, "body.model"),
        ({"messages": None}, "body.messages"),
        ({"messages": "hi"}, "body.messages"),
        ({"messages": []}, "messages"),
        ({"messages": [5]}, "body.messages.0"),
        ({"messages": [{"content": "x"}]}, "body.messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "body.messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "body.messages.0.content.0.text"),
        ({"max_tokens": "many"}, "body.max_tokens"),
        ({"max_tokens": 1.5}, "body.max_tokens"),
        ({"max_tokens": [1]}, "body.max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"temperature": "hot"}, "body.temperature"),
        ({"temperature": -3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stream": "perhaps"}, "body.stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": 3}, "body.stream_options"),
        ({"stop": 5}, "body.stop"),
        ({"stop": [5]}, "body.stop.0"),
    ],
)
def test_a_wrong_chat_field_is_refused_by_name(fields, param):
    with pytest.raises(ApiError) as refused:
        read_chat({**CHAT, **fields}, TOKENIZER)
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize("prompt", [None, "", [], [""], 5, {}, [1.5], [-1], [2**32], ["a", 5], [[1], []], [True]])
def test_a_wrong_prompt_is_refused(prompt):
    with pytest.raises(ApiError) as refused:
        read_completion({**TEXT, "prompt": prompt}, TOKENIZER)
    assert refused.value.status == 400
    assert "prompt" in str(refused.value.param)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b"9" * 5_000])
def test_a_body_that_is_no_json_object_is_refused(raw):
    with pytest.raises(ApiError) as refused:
        parse_body(raw)
    assert refused.value.status == 400


def attempt(read, body):
    """Return what was read, or the error."""
    try:
        return read(body, TOKENIZER)
    except ApiError as error:
        return error


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, values, max_size=6), st.booleans())
def test_no_body_breaks_the_reader(fields, chat):
    body, read = (CHAT, read_chat) if chat else (TEXT, read_completion)
    result = attempt(read, {**body, **fields})
    if isinstance(result, ApiError):
        assert (result.status, bool(json.dumps(result.body))) == (400, True)
    else:
        assert result.choices >= 1
        assert all(result.prompts)


def test_lenient_numbers_are_read_as_the_engine_reads_them():
    request = read_chat({**CHAT, "max_tokens": "8", "n": 2.0, "seed": True}, TOKENIZER)
    assert (request.max_tokens, request.choices, request.seed) == (8, 2, 1)


def test_parts_of_a_message_count_like_their_text():
    parts = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {"url": "x"}}]
    whole = read_chat({**CHAT, "messages": [{"role": "user", "content": parts}]}, TOKENIZER)
    plain = read_chat({**CHAT, "messages": [{"role": "user", "content": "one two\n<|media|>"}]}, TOKENIZER)
    assert whole.prompts == plain.prompts


@given(st.text(max_size=200))
def test_equal_text_has_equal_unsigned_ids(text):
    ids = TOKENIZER.encode(text)
    assert ids == PackedTokenizer().encode(text)
    assert all(0 <= token < 2**32 for token in ids)
    assert bool(ids) == bool(text)
    assert TOKENIZER.decode(ids) == text


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40))
def test_any_ids_have_some_text(ids):
    assert isinstance(TOKENIZER.decode(ids), str)


@given(
    st.lists(st.sampled_from(["ab", "c", "abc", " d"]), min_size=1, max_size=12),
    st.sampled_from(["bc", "ca", "cc", "d"]),
)
def test_a_cut_reply_is_the_text_before_the_stop(pieces, stop):
    reply = Reply(tuple(pieces), "length")
    cut, found = cut_at_stop(reply, [stop]), reply.text.find(stop)
    if found < 0:
        assert cut == reply
    else:
        assert cut.text == reply.text[:found]
        assert (cut.finish_reason, cut.stop_reason) == ("stop", stop)
        assert len("".join(pieces[: len(cut.pieces)])) >= found + len(stop)
        assert len("".join(pieces[: len(cut.pieces) - 1])) < found + len(stop)
