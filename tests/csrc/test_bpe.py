"""Counting tokens of cl100k_base, against the library that ships its vocabulary."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpe_openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csrc.binding import Limits, SegmentReader, SegmentWriter, Settings
from csrc.pieces import TokenCounter, has_vocabulary, write_vocabulary
from csrc.records import MessageUnreadable, SegmentForeign, SegmentMissing
from gateway.profiles import parse
from gateway.tokens import provide
from tests.csrc.messages import Request, chat, pod

EMBEDDINGS = "/v1/embeddings"
_oracle = bpe_openai.get_encoding("cl100k_base")


def expected(text: str) -> int:
    return len(_oracle.encode(text, disallowed_special=()))


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A path beside which a vocabulary stands."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="brixflow-test-") as folder:
        assert provide(Path(folder) / "segment")
        yield Path(folder) / "segment"


@pytest.fixture(scope="module")
def counter(home: Path) -> Iterator[TokenCounter]:
    with TokenCounter(home) as counter:
        yield counter


WORDS = ["a", "the", "Tokens", " ", "  ", "\n", "\r", "\r\n", "\t", "'", "s", "'LL", "'re", "ve", "l", "1", "2345", "!",
         "?!", "é", "日本", "\u00a0", "\u2003", "\u0085", "😀", "-", "===", "_", "ſ", "١", "\u0301", "\ufffd", "\0",
         "Straße", "internationalisation", "<|endoftext|>"]  # fmt: skip
texts = st.lists(st.sampled_from(WORDS), max_size=40).map("".join) | st.text(max_size=60, alphabet=st.characters(
    categories=("L", "N", "P", "S", "Z", "Cc", "M"), max_codepoint=0x2FFF))  # fmt: skip


@given(texts, st.integers(0, 5))
@settings(max_examples=500, deadline=None)
def test_any_text_in_any_chunks_has_as_many_tokens_as_the_library_says(
    counter: TokenCounter, text: str, chunk: int
) -> None:
    assert counter.count(text, chunk) == expected(text)


@pytest.mark.parametrize(
    "text",
    [" " * 1000, "a" * 3000, "ab" * 900, "\n" * 40 + " " * 300, (" " * 200 + "\n") * 5 + "x", "=" * 999 + "\n\n",
     "🙂" * 300, "1" * 500, "'" * 200, "don't they'll we'Ve I'M 'lx 'l", " \u3000 x", "x" * 127, "x" * 128, "x" * 129,
     "\t\n \n  \n   \n    y", "supercalifragilisticexpialidocious" * 20],
)  # fmt: skip
def test_long_runs_and_edges(counter: TokenCounter, text: str) -> None:
    for chunk in (0, 1, 7):
        assert counter.count(text, chunk) == expected(text)


def test_counting_stops_at_the_limit(counter: TokenCounter) -> None:
    text = "one two three four"
    assert [counter.count(text, limit=limit) for limit in (2, 3, 4, 5)] == [3, 4, 4, 4]
    assert counter.count("word " * 2_000_000, limit=10) == 11


def test_a_vocabulary_that_is_damaged_is_refused_and_replaced(home: Path, tmp_path: Path) -> None:
    segment = tmp_path / "segment"
    with pytest.raises(SegmentMissing):
        TokenCounter(segment)
    whole = bytearray(Path(f"{home}.cl100k").read_bytes())
    for at in (0, 30, 5000, len(whole) // 2):
        broken = bytearray(whole)
        broken[at] ^= 4
        Path(f"{segment}.cl100k").write_bytes(broken)
        with pytest.raises(SegmentForeign):
            TokenCounter(segment)
    Path(f"{segment}.cl100k").write_bytes(whole[:-64])
    assert not has_vocabulary(segment)
    assert provide(segment)
    assert has_vocabulary(segment)
    with pytest.raises(MessageUnreadable):
        write_vocabulary(segment, [b"a"], bytes(0x110000))


# What a gateway does with it


@pytest.fixture
def counting(home: Path, segment_path: Path) -> Iterator[tuple[SegmentWriter, Callable[..., Request]]]:
    """A segment beside the vocabulary."""
    begun: list[Request] = []
    os.link(f"{home}.cl100k", f"{segment_path}.cl100k")
    with SegmentWriter.open(segment_path, Limits(models=4, pods=4, members=8, text_bytes=1 << 14, readers=2)) as writer:
        writer.publish({"llama2-7b": [pod(1)]}, Settings(default_strategy="random"))
        with SegmentReader.open(segment_path, flows=64) as reader:

            def start() -> Request:
                begun.append(Request(reader))
                return begun[-1]

            yield writer, start
            for request in begun:
                request.close()


Counting = tuple[SegmentWriter, Callable[..., Request]]


@pytest.mark.parametrize(
    ("given_input", "message"),
    [
        ("word " * 8193, "input exceeds max tokens per model (8192), estimated tokens: 8193"),
        (["ok", "word " * 9000], "input at index 1 exceeds max tokens per model (8192), estimated tokens: 8193"),
        ([{"text": "word " * 9000}], "input at index 0 exceeds max tokens per model (8192), estimated tokens: 8193"),
        (
            ["word " * 7999] * 40,
            "total tokens across all inputs exceeds maximum (300000), estimated total: 304000",
        ),
        ("word " * 8191, None),
        (["word " * 7999] * 37, None),
    ],
)
def test_cases_30_and_31_inputs_that_are_too_long(counting: Counting, given_input: Any, message: str | None) -> None:
    request = counting[1]()
    request.headers(path=EMBEDDINGS)
    answer = request.body({"model": "llama2-7b", "input": given_input})
    if message is None:
        assert "target-pod" in answer.set
        return
    assert (answer.status, answer.error["message"], answer.error["param"]) == (400, message, "input")


HINTS = '{"profiles":{"default":{},"short":{"routingConfig":{"promptTokensLt":4}},"long":{"routingConfig":%s}}}'


@pytest.mark.parametrize(
    ("query", "documents", "named"),
    [("one", ["two", "three"], "short"), ("one two", ["three", "four"], "long"), ("no one", ["x"] * 49, "default")],
)
@pytest.mark.parametrize("order", [("query", "documents"), ("documents", "query"), ("no", "query", "documents")])
def test_auto_counts_a_query_and_its_documents_in_any_order(
    counting: Counting, query: str, documents: list[str], named: str, order: tuple[str, ...]
) -> None:
    writer, start = counting
    configuration = parse(HINTS % '{"promptTokensGte": 4, "promptTokensLt": 50}')
    assert configuration is not None
    writer.publish({"llama2-7b": [pod(1)]}, Settings("random"), {"llama2-7b": configuration})
    request = start()
    request.headers(path="/v1/rerank", config_profile="auto")
    given = {"query": json.dumps(query), "documents": json.dumps(documents)}
    members = [f'"{name}": {given[name]}' if name in given else '"query": "forgotten"' for name in order]
    request.body(f'{{"model": "llama2-7b", {", ".join(members)}}}'.encode())
    assert request.answer_headers().set["x-aibrix-config-profile"] == named


@pytest.mark.parametrize(
    ("text", "named"), [("one two three four", "long"), ("one two three", "short"), (" ".join(["x"] * 50), "default")]
)
def test_case_64_auto_counts_the_prompt(counting: Counting, text: str, named: str) -> None:
    writer, start = counting
    configuration = parse(HINTS % '{"promptTokensGte": 4, "promptTokensLt": 50}')
    assert configuration is not None
    writer.publish({"llama2-7b": [pod(1)]}, Settings("random"), {"llama2-7b": configuration})
    request = start()
    request.headers(config_profile="auto")
    request.body(chat("llama2-7b", messages=[{"role": "user", "content": text}]))
    assert request.answer_headers().set["x-aibrix-config-profile"] == named
