"""Grammar, selector, key digest, usage and error forms against short Python oracles."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import SegmentReader, SegmentWriter, Settings, Verdict
from tests.csrc.messages import Request, chat, pod

EXAMPLES = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_strategy(text: str) -> bool:
    """routing.md 3.1 and 3.2 with the registered names, of which two do not score."""
    kept = []
    for item in text.split(","):
        parts = [part.strip() for part in item.split(":")]
        weight = parts[1] if len(parts) == 2 else "1"
        if len(parts) > 2 or not parts[0] or not re.fullmatch(r"\+?[0-9]+", weight) or int(weight) > 1_000_000:
            return False
        if int(weight) > 0:
            kept.append(parts[0])
    if any(name == "pd" or name.startswith("slo") for name in kept):
        return False
    return kept in (["random"], ["power-of-two"]) or (bool(kept) and set(kept) <= SCORING)


SCORING = {
    "least-request", "least-busy-time", "least-gpu-cache", "least-kv-cache", "least-utilization", "throughput",
    "least-latency", "session-affinity", "vtc-basic",
}  # fmt: skip
items = st.sampled_from(["random", "power-of-two", *sorted(SCORING), "pd", "slow", "prefix-cache", "x", "", " "])
weights = st.sampled_from(["", ":1", ":0", ": 7 ", ":-1", ":1000000", ":1000001", ":+2", ":x", ":1:2", ":"])


@given(st.lists(st.tuples(items, weights), min_size=1, max_size=5))
@EXAMPLES
def test_a_strategy_text_runs_exactly_when_the_grammar_says_so(
    writer: SegmentWriter, reader: SegmentReader, parts: list[tuple[str, str]]
) -> None:
    text = " , ".join(name + weight for name, weight in parts)
    if not text.strip():
        return
    decision = reader.decide("llama2-7b", text)
    assert decision.verdict is (Verdict.CHOSEN if is_strategy(text.strip()) else Verdict.BAD_STRATEGY)
    reader.finish(decision)


LABELS = [{}, {"a": "1"}, {"a": "2", "b": "x"}, {"b": ""}, {"a": "1", "b": "x", "c.d/e": "f_g"}]
keys = st.sampled_from(["a", "b", "c.d/e"])
label_values = st.sampled_from(["1", "2", "x", "f_g", ""])
Match = Callable[[dict[str, str]], bool]


def listed(key: str, wanted: list[str], inside: bool) -> tuple[str, Match]:
    text = f"{key} {'in' if inside else 'notin'} ({','.join(wanted)})"
    return text, lambda labels: (labels.get(key) in wanted) == inside


def equal(key: str, operator: str, value: str) -> tuple[str, Match]:
    return f"{key}{operator}{value}", lambda labels: (labels.get(key) == value) == (operator != "!=")


def present(key: str, mark: str) -> tuple[str, Match]:
    return mark + key, lambda labels: (key in labels) == (mark == "")


requirements = (
    st.builds(listed, keys, st.lists(label_values, min_size=1, max_size=3), st.booleans())
    | st.builds(equal, keys, st.sampled_from(["=", "==", "!="]), label_values)
    | st.builds(present, keys, st.sampled_from(["", "!"]))
)


@given(st.lists(requirements, min_size=1, max_size=4), st.sampled_from([",", " , ", ", "]))
@EXAMPLES
def test_a_selector_matches_what_kubernetes_says(
    writer: SegmentWriter, reader: SegmentReader, wanted: list[tuple[str, Match]], comma: str
) -> None:
    writer.publish({"m": [pod(number, **labels) for number, labels in enumerate(LABELS)]})
    expected = sum(all(match(labels) for _, match in wanted) for labels in LABELS)
    decision = reader.decide("m", "random", comma.join(text for text, _ in wanted))
    assert decision.candidates == expected
    assert decision.verdict is (Verdict.CHOSEN if expected else Verdict.NO_CANDIDATE)
    reader.finish(decision)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200))
@EXAMPLES
def test_a_key_is_kept_as_its_sha_256_and_as_nothing_else(
    writer: SegmentWriter, reader: SegmentReader, segment_path: Path, key: str
) -> None:
    key = f"secret-{key}"
    writer.publish({"m": [pod(1)]}, Settings(api_key=key))
    content = segment_path.read_bytes()
    assert hashlib.sha256(key.encode()).digest() in content
    assert key.encode() not in content
    for given_key, accepted in ((key, True), (key + "x", False), (key[:-1], False)):
        request = Request(reader)
        assert (request.headers(authorization=f"Bearer {given_key}").status == 0) is accepted
        request.close()


values = st.none() | st.integers(-5, 5) | st.text(max_size=6) | st.lists(st.integers(), max_size=2)
members = st.dictionaries(st.sampled_from(["message", "type", "param", "code", "error", "x"]), values, max_size=6)


def normalised(body: dict[str, Any]) -> dict[str, Any] | None:
    """The envelope for a body that is an error object, None for any other."""
    error = body.get("error")
    if not isinstance(error, dict):
        error = body if "message" in body else None
    if error is None:
        return None
    message = error.get("message")
    text = message if isinstance(message, str) and message else "unknown response"
    return {"message": text, **{name: error.get(name) for name in ("type", "param", "code")}}


@given(members | members.map(lambda inner: {"error": inner, "id": 1}), st.integers(0, 60))
@EXAMPLES
def test_an_engines_error_takes_the_form_that_clients_read(
    reader: SegmentReader, writer: SegmentWriter, body: dict[str, Any], cut: int
) -> None:
    raw = json.dumps(body).encode()
    request = Request(reader)
    request.headers(routing_strategy="random")
    request.body(chat())
    request.answer_headers(400)
    first = request.answer_body(raw[:cut], end=False).body
    last = request.answer_body(raw[cut:], end=True).body
    request.close()
    expected = normalised(body)
    sent = json.loads((first or b"") + (last or b""))["error"]
    if expected is None:
        assert sent["message"] == raw.decode()
    elif isinstance(body.get("error"), dict) and {"message", "type", "param", "code"} <= set(body["error"]):
        whole = isinstance(body["error"]["message"], str)
        assert sent == (body["error"] if whole else expected) or sent == expected
    else:
        assert sent == expected


counts = st.dictionaries(
    st.sampled_from(["prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens", "x"]),
    st.integers(0, 10**12),
    max_size=5,
)


@given(counts, st.dictionaries(st.text(max_size=5), values, max_size=3), st.integers(1, 30), st.booleans())
@EXAMPLES
def test_usage_is_read_from_any_answer_in_any_chunks(
    reader: SegmentReader, writer: SegmentWriter, usage: dict[str, int], other: dict[str, Any], size: int, spaced: bool
) -> None:
    other.pop("usage", None)
    separators = (", ", " : ") if spaced else (",", ":")
    raw = json.dumps(
        {**other, "choices": [{"text": '"usage":{"prompt_tokens":1}'}], "usage": usage}, separators=separators
    )
    request = Request(reader)
    request.headers(routing_strategy="random")
    request.body(chat())
    request.answer_headers()
    for at in range(0, len(raw), size):
        request.answer_body(raw.encode()[at : at + size], end=at + size >= len(raw))
    record = request.flow.record()
    request.close()
    assert record.prompt_tokens == usage.get("prompt_tokens", usage.get("input_tokens", 0))
    assert record.completion_tokens == usage.get("completion_tokens", usage.get("output_tokens", 0))
