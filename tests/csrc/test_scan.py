"""The body scanner against Python's json, at every cut."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csrc.pieces import scan
from csrc.records import Scan

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
NAMES = {type(None): "null", int: "number", float: "number", str: "string", list: "array", dict: "object"}


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return NAMES[type(value)]


def oracle(body: bytes) -> dict[str, Any] | None:
    """The object in the body, or None when it is not exactly one JSON object in UTF-8."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def mend(text: str) -> str:
    """Lone surrogates, which no UTF-8 can hold, become U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def agrees(found: Scan, body: bytes) -> None:
    expected = oracle(body)
    assert found.valid == (expected is not None)
    if expected is None:
        return
    for name in ("model", "stream", "messages", "prompt", "max_tokens", "user"):
        assert found.kinds.get(name) == (kind(expected[name]) if name in expected else None), name
    if isinstance(expected.get("model"), str):
        assert found.model == mend(expected["model"])
    for name in ("messages", "prompt"):
        value = expected.get(name)
        elements = {kind(element) for element in value} if isinstance(value, list) else set()
        assert found.elements.get(name, frozenset()) == elements


names = st.sampled_from(["model", "stream", "messages", "prompt", "max_tokens", "user", "content", "x", "mod\u0435l"])
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(names | st.text(max_size=6), values, max_size=6)


@given(objects, st.booleans(), st.sampled_from([None, 1, "\t"]), st.integers(0, 40))
@settings(max_examples=250, deadline=None)
def test_any_object_in_any_chunks_is_read_as_json_reads_it(
    value: dict[str, Any], ascii_only: bool, indent: Any, chunk: int
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    agrees(scan(CHAT, body, chunk), body)


@given(objects, st.data())
@settings(max_examples=250, deadline=None)
def test_a_damaged_body_is_valid_exactly_when_json_says_so(value: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2) | st.sampled_from([b'"', b"\\", b"{", b"]", b",", b"\\u12", b"-", b"0", b"e"])
        )
    agrees(scan(CHAT, bytes(body), data.draw(st.integers(0, 9))), bytes(body))


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_valid_exactly_when_json_says_so(body: bytes) -> None:
    agrees(scan(CHAT, body), body)
    quoted = b'{"model":"' + body + b'"}'
    agrees(scan(CHAT, quoted, 3), quoted)


TRICKY = (
    b'{"model":"a\\u00e9\\ud83d\\ude00\\ud800x\\n\\/","stream":true,'
    b'"messages":[{"role":"user","content":"caf\xc3\xa9 \xf0\x9f\x98\x80"},'
    b'{"content":[{"type":"text","text":"a\\"b"} , 1.5e+3]},{"role":"x"},{"content":null}],'
    b'"max_tokens": -0.5E-2 , "user":"\\\\"}'
)


def test_a_cut_at_every_byte_changes_nothing() -> None:
    whole = scan(CHAT, TRICKY)
    assert whole.valid
    for chunk in range(1, len(TRICKY) + 1):
        assert scan(CHAT, TRICKY, chunk) == whole


NUMBERS = [
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "01",
    "-",
    "1.",
    "1.5",
    ".5",
    "1e5",
    "1e",
    "1E+",
    "1e-7",
    "+1",
    "0x1",
    "1.5.5",
    "00",
    "NaN",
    "Infinity",
    "-Infinity",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_follow_the_grammar(number: str) -> None:
    body = b'{"max_tokens":' + number.encode() + b"}"
    for chunk in (0, 1):
        agrees(scan(CHAT, body, chunk), body)


@pytest.mark.parametrize(("depth", "valid"), [(1, True), (511, True), (512, False), (100_000, False)])
def test_depth_is_bounded(depth: int, valid: bool) -> None:
    body = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
    assert scan(CHAT, body).valid == valid


def test_the_last_of_equal_keys_counts() -> None:
    found = scan(CHAT, b'{"model":"first","stream":true,"model":"second","stream":"no","messages":[1],"messages":[{}]}')
    assert found.model == "second"
    assert found.kinds["stream"] == "string"
    assert found.elements["messages"] == {"object"}


def test_nested_members_are_not_taken_for_those_of_the_body() -> None:
    found = scan(CHAT, b'{"metadata":{"model":"x","stream":true},"tools":[{"messages":[]}],"model":"y"}')
    assert found.model == "y"
    assert set(found.kinds) == {"model"}


def test_case_21_contents_are_joined_by_one_blank() -> None:
    body = {
        "messages": [{"role": "system", "content": "this is system"}, {"role": "user", "content": "say this is test"}]
    }
    assert scan(CHAT, json.dumps(body).encode()).text == b"this is system say this is test"


def test_case_22_content_that_is_no_string_stands_raw() -> None:
    parts = b'[ {"type": "text",  "text":"a\\u0041"}, {"type":"image_url"} ]'
    body = (
        b'{"messages":[{"content":"first"},{"role":"user","content": ' + parts + b' },{"role":"none"},{"content":7}]}'
    )
    for chunk in range(24):
        assert scan(CHAT, body, chunk).text == b"first " + parts + b"  7"


def test_prompts_are_text_and_their_lists_are_joined() -> None:
    assert scan(COMPLETIONS, b'{"prompt":"say \\"hi\\""}').text == b'say "hi"'
    assert scan(COMPLETIONS, b'{"prompt":["a","b"]}').text == b"a b"


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v1/classify", b'{"input":["a","b"]}', b"a b"),
        ("/v1/classify", b'{"input":"a\\tb"}', b"a\tb"),
        ("/v1/rerank", b'{"query":"q","documents":["a","b"]}', b"q a b"),
        ("/v1/rerank", b'{"documents":["a","b"],"model":"m","query":"q\\u0041"}', b"qA a b"),
        (
            "/v1/rerank",
            b'{"query":"no","documents":["no"],"query":"q","documents":[{"text": "a"},"b"]}',
            b'q {"text": "a"} b',
        ),
        ("/v1/rerank", b'{"documents":["a",""],"query":"no","query":"q"}', b"q a "),
        ("/v1/responses", b'{"input":"say"}', b"say"),
        ("/v1/responses", b'{"input":[{"content":"a"},{"content":[1, 2]}]}', b"a [1, 2]"),
    ],
)
def test_case_40_texts_of_other_endpoints(path: str, body: bytes, text: bytes) -> None:
    for chunk in range(8):
        assert scan(path, body, chunk).text == text


@given(st.lists(st.text(max_size=30), max_size=5), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_the_text_is_what_the_strings_say(contents: list[str], chunk: int) -> None:
    body = json.dumps({"messages": [{"content": content} for content in contents]}).encode()
    assert scan(CHAT, body, chunk).text.decode() == " ".join(contents)
