"""Tokens to server-sent events, as they become visible."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator

from simulator.requests import CompletionRequest
from simulator.responses import (
    STREAM_END,
    Choice,
    Dialect,
    Envelope,
    Json,
    Usage,
    chunk,
    event,
    opening_chunk,
    piece_frame,
    quoted,
    usage_chunk,
)
from simulator.sequence import Batch, Sequence
from simulator.wire import SendNow, Stream

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def stream(batch: Batch, asked: CompletionRequest, dialect: Dialect, envelope: Envelope) -> Stream:
    """Return the answer that shows tokens as they become visible; a reader that leaves aborts the batch."""
    writers = [
        ChoiceWriter(sequence, place, asked, dialect, envelope) for place, sequence in enumerate(batch.sequences)
    ]

    def fresh() -> bytes:
        if len(writers) == 1:
            return b"".join(writers[0].fresh())
        return b"".join([data for writer in writers for data in writer.fresh()])

    def send_directly(send: SendNow) -> None:
        batch.listener = lambda: send(fresh)

    return Stream(_pieces(batch, fresh, asked, dialect, envelope), headers=STREAM_HEADERS, direct=send_directly)


async def _pieces(
    batch: Batch, fresh: Callable[[], bytes], asked: CompletionRequest, dialect: Dialect, envelope: Envelope
) -> AsyncGenerator[bytes, None]:
    try:
        while True:
            finished = batch.finished
            if events := fresh():
                yield events
            if finished:
                break
            await batch.progress()
        if asked.shape.include_usage:
            yield event(usage_chunk(dialect, envelope, usage(asked, batch)))
        yield STREAM_END
    finally:
        batch.abort()


def usage(asked: CompletionRequest, batch: Batch) -> Usage:
    """Return the counts of the whole call: each prompt once, each choice's tokens."""
    prompts = batch.sequences[:: asked.choices]
    return Usage(
        prompt_tokens=sum(map(len, asked.prompts)),
        completion_tokens=sum(sequence.visible for sequence in batch.sequences),
        cached_tokens=sum(sequence.cached_tokens or 0 for sequence in prompts),
    )


class ChoiceWriter:
    """The events of one choice. All but the first and the last differ in their text only."""

    def __init__(
        self, sequence: Sequence, place: int, asked: CompletionRequest, dialect: Dialect, envelope: Envelope
    ) -> None:
        self._sequence = sequence
        self._place = place
        self._asked = asked
        self._dialect = dialect
        self._envelope = envelope
        self._sent = 0
        self._closed = False
        self._plain = not (asked.shape.usage_in_every_chunk or asked.token_ids)
        self._frame = piece_frame(dialect, envelope, place) if self._plain else (b"", b"")

    def fresh(self) -> Iterator[bytes]:
        """Yield an event for each token not yet sent."""
        sequence = self._sequence
        sent = self._sent
        if self._plain and 0 < sent == sequence.visible - 1 and sequence.finish_reason is None:
            before, after = self._frame
            self._sent = sent + 1
            yield before + quoted(sequence.draft.reply.pieces[sent]) + after
            return
        pieces, last = sequence.draft.reply.pieces, sequence.output_tokens - 1
        for index in range(self._sent, sequence.visible):
            if index == 0:
                yield from self._opening()
            if index == last:
                yield self._last(pieces[index], index + 1)
            elif self._plain:
                before, after = self._frame
                yield before + quoted(pieces[index]) + after
            else:
                token_ids = [sequence.draft.reply.tokens[index]] if self._asked.token_ids else None
                yield self._event(self._dialect.piece(self._place, pieces[index], token_ids), index + 1)
        self._sent = sequence.visible
        if sequence.finish_reason == "abort" and not self._closed:
            yield self._last("", sequence.visible)

    def _opening(self) -> Iterator[bytes]:
        opening = opening_chunk(self._dialect, self._envelope, self._place)
        if opening is not None:
            if self._asked.token_ids:
                opening["prompt_token_ids"] = self._sequence.draft.prompt
            yield event(self._with_usage(opening, 0))

    def _last(self, text: str, tokens: int) -> bytes:
        self._closed = True
        sequence, reply = self._sequence, self._sequence.draft.reply
        reason = sequence.finish_reason or reply.finish_reason
        choice = Choice(
            index=self._place,
            text=text,
            finish_reason=reason,
            stop_reason=None if reason == "abort" else reply.stop_reason,
            token_ids=list(reply.tokens[tokens - 1 : tokens]) if self._asked.token_ids else None,
        )
        return self._event(self._dialect.last_piece(choice), tokens, last=True)

    def _event(self, piece: Json, tokens: int, *, last: bool = False) -> bytes:
        data = chunk(self._dialect, self._envelope, [piece])
        if last and not self._asked.shape.include_usage:
            data["system_fingerprint"] = self._envelope.fingerprint
        return event(self._with_usage(data, tokens))

    def _with_usage(self, data: Json, tokens: int) -> Json:
        if self._asked.shape.usage_in_every_chunk:
            data["usage"] = Usage(self._sequence.prompt_tokens, tokens).counts()
        return data
