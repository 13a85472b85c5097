"""Chat and text completions: from a body to sequences in the engine, and from their tokens to the answer."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Iterator
from random import Random

from simulator.endpoints import json_response
from simulator.engine import Batch, Draft, Sequence
from simulator.errors import ContextExceededError, ModelNotFoundError
from simulator.fields import parse_body
from simulator.reply import plan_reply
from simulator.requests import CompletionRequest, StreamShape, read_chat, read_completion
from simulator.responses import (
    CHAT,
    STREAM_END,
    TEXT,
    Choice,
    Dialect,
    Envelope,
    Json,
    Usage,
    chunk,
    event,
    opening_chunk,
    usage_chunk,
    whole_reply,
)
from simulator.service import Service
from simulator.wire import Request, Response, Stream

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


async def chat_completion(service: Service, request: Request) -> Response | Stream:
    asked = read_chat(parse_body(request.body), service.tokenizer)
    return await _generate(service, request, asked, CHAT)


async def text_completion(service: Service, request: Request) -> Response | Stream:
    asked = read_completion(parse_body(request.body), service.tokenizer)
    return await _generate(service, request, asked, TEXT)


async def _generate(
    service: Service, request: Request, asked: CompletionRequest, dialect: Dialect
) -> Response | Stream:
    check(service, asked)
    service.engine.require_room(len(asked.prompts) * asked.choices)
    batch = service.engine.submit(drafts(service, asked), streamed=asked.shape.streamed)
    envelope = Envelope(
        identifier=dialect.prefix + (request.headers.get("x-request-id") or os.urandom(8).hex()),
        created=int(time.time()),
        model=asked.model,
        fingerprint=service.fingerprint,
    )
    if asked.shape.streamed:
        return Stream(stream(batch, asked, dialect, envelope), headers=STREAM_HEADERS)
    try:
        while not batch.finished:
            await batch.progress()
    finally:
        batch.abort()
    choices = [_choice(place, sequence) for place, sequence in enumerate(batch.sequences)]
    reply_metrics = timing(service, batch.sequences[0])
    return json_response(whole_reply(dialect, envelope, choices, _usage(asked, batch), reply_metrics))


def check(service: Service, asked: CompletionRequest) -> None:
    """Raise ModelNotFoundError or ContextExceededError when this engine cannot serve what is asked."""
    served = service.settings.served_names
    if asked.model not in served:
        raise ModelNotFoundError(asked.model, served)
    limit = service.settings.limits.max_model_tokens
    for prompt in asked.prompts:
        if len(prompt) + (asked.max_tokens or 1) > limit:
            raise ContextExceededError(limit, len(prompt), asked.max_tokens)


def drafts(service: Service, asked: CompletionRequest) -> Iterator[Draft]:
    """Yield the planned sequences, prompt by prompt; equal seeds and equal order give equal text."""
    number = service.next_request_number()
    identity = f"request {number}" if asked.seed is None else f"seed {asked.seed}"
    for place, prompt in enumerate(asked.prompts):
        for choice in range(asked.choices):
            random = Random(f"{service.settings.seed} {identity} {place} {choice}")  # noqa: S311 - text, not secrets
            reply = plan_reply(
                pod=service.settings.pod,
                model=asked.model,
                max_tokens=asked.max_tokens,
                room=service.settings.limits.max_model_tokens - len(prompt),
                stop=asked.stop,
                random=random,
            )
            yield Draft(len(prompt), reply, random, asked.max_tokens)


async def stream(
    batch: Batch, asked: CompletionRequest, dialect: Dialect, envelope: Envelope
) -> AsyncGenerator[bytes, None]:
    """Yield events as tokens become visible; a reader that leaves aborts the batch."""
    sent = [0] * len(batch.sequences)
    try:
        while True:
            finished = batch.finished
            events = b"".join(map(event, _fresh_chunks(batch, sent, asked.shape, dialect, envelope)))
            if events:
                yield events
            if finished:
                break
            await batch.progress()
        if asked.shape.include_usage:
            yield event(usage_chunk(dialect, envelope, _usage(asked, batch)))
        yield STREAM_END
    finally:
        batch.abort()


def _fresh_chunks(
    batch: Batch, sent: list[int], shape: StreamShape, dialect: Dialect, envelope: Envelope
) -> Iterator[Json]:
    """Yield a chunk for each token not yet sent, and note it in `sent`."""
    for place, sequence in enumerate(batch.sequences):
        for index in range(sent[place], sequence.visible):
            if index == 0 and (opening := opening_chunk(dialect, envelope, place)) is not None:
                yield _with_usage(opening, sequence, 0, shape)
            data = chunk(dialect, envelope, [_piece(dialect, place, sequence, index)])
            if index == len(sequence.draft.reply.pieces) - 1 and not shape.include_usage:
                data["system_fingerprint"] = envelope.fingerprint
            yield _with_usage(data, sequence, index + 1, shape)
        sent[place] = sequence.visible


def _with_usage(data: Json, sequence: Sequence, tokens: int, shape: StreamShape) -> Json:
    if shape.usage_in_every_chunk:
        data["usage"] = Usage(sequence.draft.prompt_tokens, tokens).counts()
    return data


def _piece(dialect: Dialect, place: int, sequence: Sequence, index: int) -> Json:
    reply = sequence.draft.reply
    if index < len(reply.pieces) - 1:
        return dialect.piece(place, reply.pieces[index])
    return dialect.last_piece(_choice(place, sequence, reply.pieces[index]))


def _choice(place: int, sequence: Sequence, text: str | None = None) -> Choice:
    reply = sequence.draft.reply
    return Choice(
        index=place,
        text=reply.text if text is None else text,
        finish_reason=reply.finish_reason,
        stop_reason=reply.stop_reason,
    )


def _usage(asked: CompletionRequest, batch: Batch) -> Usage:
    """Return the counts of the whole call: each prompt once, each choice's tokens."""
    return Usage(sum(map(len, asked.prompts)), sum(sequence.visible for sequence in batch.sequences))


def timing(service: Service, sequence: Sequence) -> Json:
    """Return the `metrics` object that AIBrix's batch client reads from plain replies."""
    pace = sequence.pace
    assert pace is not None
    return {
        "time_to_first_token_seconds": sequence.admitted - sequence.arrived + pace.first_token_seconds,
        "time_per_output_token_seconds": pace.inter_token_seconds,
        "mock_latency_seconds": pace.total_seconds,
        "mock_inflight_at_start": sequence.inflight_at_start,
        "mock_max_inflight": service.engine.most_inflight,
        "mock_capacity": service.engine.capacity,
        "mock_overload": max(sequence.inflight_at_start - service.engine.capacity, 0),
        "mock_request_index": sequence.index,
        "mock_pod": service.settings.pod,
    }
