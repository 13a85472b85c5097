"""What the engine works on: a draft before it enters, a sequence inside, the batch that an HTTP request waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from simulator.block_hash import BlockHash
from simulator.kv_events import AdapterKey
from simulator.latency import Pace
from simulator.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One sequence before it enters the engine. The reply is planned whole."""

    prompt: list[int]
    reply: Reply
    random: Random
    max_tokens: int | None = None
    adapter: AdapterKey | None = None
    salt: str | None = None
    remote_tokens: int = 0
    """Prompt tokens whose keys and values come from another engine."""
    delay_seconds: float = 0.0
    """Time that passes before the sequence may be scheduled, such as the transfer of those."""
    choices: int = 1


class Batch:
    """The sequences of one HTTP request, and the place where its handler waits."""

    def __init__(self, abort: Callable[[Sequence], None], *, streamed: bool) -> None:
        self._abort = abort
        self._news = asyncio.Event()
        self.listener: Callable[[], bool] | None = None
        """Told of news first; whoever waits in `progress` wakes at the end, or when it returns False."""
        self.streamed = streamed
        self.sequences: list[Sequence] = []

    @property
    def finished(self) -> bool:
        return all(sequence.finish_reason for sequence in self.sequences)

    def notify(self) -> None:
        """Tell of a change."""
        if self.listener is None or not self.listener():
            self._news.set()

    def conclude(self) -> None:
        """Tell that a sequence has ended."""
        self.notify()
        if self.finished:
            self._news.set()

    async def progress(self) -> None:
        """Return as soon as a sequence has changed since the last call; only the end counts unless streamed."""
        await self._news.wait()
        self._news.clear()

    def abort(self) -> None:
        """Free what unfinished sequences hold. Does nothing to finished ones."""
        for sequence in self.sequences:
            if sequence.finish_reason is None:
                self._abort(sequence)


class Sequence:
    """One prompt and the tokens that answer it. Only the engine changes it.

    `visible` tokens of the reply may be shown; the keys and values of `computed` tokens are in `blocks`; `work` more
    are being computed until `due`. `prefill_end` is where this admission's prefill ends.
    """

    __slots__ = (
        "admitted", "arrived", "batch", "blocks", "booked", "cached_tokens", "chain", "computed", "draft", "due",
        "epoch", "finish_reason", "first_token_at", "gap_seconds", "index", "inflight_at_start", "last_token_at",
        "pace", "preemptions", "prefill_end", "prefill_start", "sealed", "swap_seconds", "tokens", "visible", "work",
    )  # fmt: skip

    def __init__(self, draft: Draft, batch: Batch, index: int, arrived: float) -> None:
        self.draft = draft
        self.batch = batch
        self.index = index
        self.tokens = [*draft.prompt, *draft.reply.tokens]
        self.arrived = arrived
        self.admitted: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at = arrived
        self.inflight_at_start = 0
        self.pace: Pace | None = None
        self.visible = 0
        self.preemptions = 0
        self.cached_tokens: int | None = None
        self.finish_reason: str | None = None
        self.chain: list[BlockHash] = []
        self.epoch = 0
        self.due = arrived
        self.gap_seconds = 0.0
        self.swap_seconds = 0.0
        self.vacate()

    def vacate(self) -> None:
        """Forget what was computed, as after a preemption."""
        self.blocks: list[int] = []
        self.computed = 0
        self.sealed = 0
        self.work = 0
        self.booked = 0
        self.prefill_start = 0
        self.prefill_end = 0

    @property
    def prompt_tokens(self) -> int:
        return len(self.draft.prompt)

    @property
    def output_tokens(self) -> int:
        return len(self.draft.reply.pieces)

    @property
    def known_tokens(self) -> int:
        """Tokens whose values are known: the prompt and what is visible."""
        return len(self.draft.prompt) + self.visible

    @property
    def prefilling(self) -> bool:
        return self.computed < self.prefill_end

    @property
    def extra_key(self) -> bytes:
        """Return what beside its tokens distinguishes this sequence's blocks."""
        adapter = "" if self.draft.adapter is None else self.draft.adapter.name
        salt = self.draft.salt or ""
        return f"{adapter}\0{salt}".encode("utf-8", "surrogatepass") if adapter or salt else b""
