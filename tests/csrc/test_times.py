"""How long answers took and how many tokens they had: buckets, first tokens, and what dead readers had counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from csrc.binding import ModelTotals, SegmentReader, SegmentWriter, bucket_of
from gateway.times import QUANTITIES, Buckets
from tests.csrc.conftest import LIMITS
from tests.csrc.messages import Request, chat, pod

Start = Callable[..., Request]
PROMPT, COMPLETION, FIRST_TOKEN, TOKEN, ROUTING, WHOLE = QUANTITIES
MS = 1_000_000
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'
USAGE = b'data: {"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}\n\n'


def counted(writer: SegmentWriter, quantity: Buckets) -> dict[str, int]:
    model: ModelTotals = next(each for each in writer.totals().models if each.name == "llama2-7b")
    return {name: count for name, count in zip(quantity.names, quantity.counts(model.times), strict=True) if count}


def ask(request: Request, *chunks: bytes, pause: float = 0, stream: bool = True) -> None:
    request.headers(routing_strategy="random")
    request.body(chat(stream=stream))
    request.answer_headers()
    for chunk in chunks[:-1]:
        request.answer_body(chunk, end=False)
        time.sleep(pause)
    request.answer_body(chunks[-1], end=True)
    request.close()


@pytest.mark.parametrize(
    ("quantity", "value", "name"),
    [
        (FIRST_TOKEN, MS // 2, "0-1ms"), (FIRST_TOKEN, MS, "1-2ms"), (TOKEN, 50 * MS, "50-100ms"),
        (TOKEN, 5000 * MS, "5000ms+"), (WHOLE, 60_000 * MS, "60000ms+"), (WHOLE, 60_000 * MS - 1, "20000-60000ms"),
        (PROMPT, 0, "0-256"), (PROMPT, 256, "256-512"), (COMPLETION, 32768, "32768+"),
    ],
)  # fmt: skip
def test_cases_92_and_93_the_lower_bound_of_a_bucket_is_in_it(quantity: Buckets, value: int, name: str) -> None:
    assert quantity.names[bucket_of(quantity.first, value)] == name


def test_case_92_tokens_are_counted_in_their_buckets(writer: SegmentWriter, start: Start) -> None:
    for prompt, made in ((0, 1), (256, 511), (32768, 512)):
        ask(start(), WORD, USAGE % (prompt, made, prompt + made))
    assert counted(writer, PROMPT) == {"0-256": 1, "256-512": 1, "32768+": 1}
    assert counted(writer, COMPLETION) == {"0-256": 1, "256-512": 1, "512-1024": 1}


def test_the_first_token_is_the_first_chunk_with_content(writer: SegmentWriter, start: Start) -> None:
    ask(start(), ROLE, WORD, USAGE % (1, 1, 2), pause=0.06)
    ask(start(), WORD, WORD, USAGE % (1, 1, 2), pause=0.06)
    first = counted(writer, FIRST_TOKEN)
    assert sum(first.values()) == 2
    slow = {name for name in first if bucket_of(FIRST_TOKEN.first, 60 * MS) <= FIRST_TOKEN.names.index(name)}
    assert sum(first[name] for name in slow) == 1, first


def test_a_stream_without_content_counts_its_first_chunk(writer: SegmentWriter, start: Start) -> None:
    ask(start(), ROLE, ROLE, USAGE % (1, 0, 1), pause=0.06)
    (name,) = counted(writer, FIRST_TOKEN)
    assert FIRST_TOKEN.names.index(name) < bucket_of(FIRST_TOKEN.first, 60 * MS)
    assert counted(writer, TOKEN) == {}


def test_an_answer_in_one_piece_has_no_first_token(writer: SegmentWriter, start: Start) -> None:
    ask(start(), b'{"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}', stream=False)
    assert counted(writer, FIRST_TOKEN) == counted(writer, TOKEN) == {}
    assert sum(counted(writer, WHOLE).values()) == sum(counted(writer, ROUTING).values()) == 1


def test_an_answer_without_usage_counts_nowhere(writer: SegmentWriter, start: Start) -> None:
    ask(start(), WORD, b"data: [DONE]\n\n")
    assert all(counted(writer, quantity) == {} for quantity in QUANTITIES)


def test_what_a_reader_counted_outlives_it_and_the_layout(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        writer.publish({"llama2-7b": [pod(1)]})
        with SegmentReader.open(segment_path, flows=8) as reader:
            ask(Request(reader), WORD, USAGE % (300, 1, 301))
            before = counted(writer, PROMPT), counted(writer, WHOLE)
        writer.sweep()
        assert (counted(writer, PROMPT), counted(writer, WHOLE)) == before
        writer.count_page(failed=True)
    larger = type(LIMITS)(models=20, pods=40, members=80, text_bytes=1 << 16, readers=8)
    with SegmentWriter.open(segment_path, larger) as writer:
        writer.publish({"other": [pod(2)], "llama2-7b": [pod(1)]})
        writer.count_page(failed=False)
        assert (counted(writer, PROMPT), counted(writer, WHOLE)) == before
        assert (writer.totals().pages, writer.totals().pages_failed) == (1, 1)
