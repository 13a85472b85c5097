"""The engine's state: which sequences wait, which run, and what of their output is visible.

The HTTP side knows four things only: `Engine.submit` gives a `Batch`, `Batch.progress` waits for news,
`Sequence.visible` says how many tokens may be shown, `Batch.abort` ends it early. How sequences share the engine is
decided here: first come first served, into a limited number of slots and KV blocks, each at the pace of the latency
model. A step-wise scheduler can take this module's place without a change elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from simulator.errors import QueueFullError
from simulator.latency import LatencyModel, Pace, Work
from simulator.reply import Reply
from simulator.statistics import EngineStatistics


class Timer(Protocol):
    """A call that is due later."""

    def when(self) -> float: ...

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time in seconds and calls at a time; an event loop is one."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[Sequence], None], sequence: Sequence, /) -> Timer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Sizes of the simulated engine."""

    max_num_seqs: int = 256
    max_waiting: int = 1000
    block_tokens: int = 16
    num_blocks: int = 16384
    max_model_tokens: int = 16384

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)


@dataclass(frozen=True, slots=True)
class Draft:
    """One sequence before it enters the engine."""

    prompt_tokens: int
    reply: Reply
    random: Random
    max_tokens: int | None


class Batch:
    """The sequences of one HTTP request, and the place where its handler waits."""

    def __init__(self, engine: Engine, *, streamed: bool) -> None:
        self._engine = engine
        self._news = asyncio.Event()
        self.streamed = streamed
        self.sequences: list[Sequence] = []

    @property
    def finished(self) -> bool:
        return all(sequence.finish_reason for sequence in self.sequences)

    def notify(self) -> None:
        self._news.set()

    async def progress(self) -> None:
        """Return as soon as a sequence has changed since the last call; only the end counts unless streamed."""
        await self._news.wait()
        self._news.clear()

    def abort(self) -> None:
        """Free what unfinished sequences hold. Does nothing to finished ones."""
        for sequence in self.sequences:
            if sequence.finish_reason is None:
                self._engine.abort(sequence)


class Sequence:
    """One prompt and the tokens that answer it. Only the engine changes it."""

    __slots__ = (
        "admitted", "arrived", "batch", "draft", "finish_reason", "index", "inflight_at_start", "pace", "timer",
        "visible",
    )  # fmt: skip

    def __init__(self, draft: Draft, batch: Batch, index: int, arrived: float) -> None:
        self.draft = draft
        self.batch = batch
        self.index = index
        self.arrived = arrived
        self.admitted = arrived
        self.inflight_at_start = 0
        self.pace: Pace | None = None
        self.visible = 0
        self.finish_reason: str | None = None
        self.timer: Timer | None = None

    @property
    def total_tokens(self) -> int:
        return self.draft.prompt_tokens + len(self.draft.reply.pieces)


class Engine:
    """Admits sequences, makes their tokens visible in time, and counts. Sleeps when it has nothing to do."""

    def __init__(self, limits: EngineLimits, latency: LatencyModel, clock: Clock) -> None:
        self.limits = limits
        self.statistics = EngineStatistics()
        self.most_inflight = 0
        self._latency = latency
        self._clock = clock
        self._waiting: deque[Sequence] = deque()
        self._running: dict[Sequence, None] = {}
        self._reserved_blocks = 0
        self._submitted = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def capacity(self) -> int:
        return self._latency.capacity

    @property
    def cache_usage(self) -> float:
        """Share of the KV blocks that hold tokens, 0 to 1."""
        tokens = (sequence.draft.prompt_tokens + sequence.visible for sequence in self._running)
        return sum(map(self.limits.blocks, tokens)) / self.limits.num_blocks

    def require_room(self, sequences: int) -> None:
        """Raise QueueFullError unless that many more sequences may enter."""
        free_slots = self.limits.max_num_seqs - self.running
        if self.waiting + sequences > self.limits.max_waiting + max(free_slots, 0):
            self.statistics.rejected += sequences
            raise QueueFullError(self.limits.max_waiting)

    def submit(self, drafts: Iterable[Draft], *, streamed: bool) -> Batch:
        """Take sequences in and return their batch; they may be finished already when latency is zero."""
        batch = Batch(self, streamed=streamed)
        now = self._clock.time()
        for draft in drafts:
            sequence = Sequence(draft, batch, self._submitted, now)
            self._submitted += 1
            batch.sequences.append(sequence)
            self._waiting.append(sequence)
        self.most_inflight = max(self.most_inflight, self.running + self.waiting)
        self._admit(now)
        return batch

    def abort(self, sequence: Sequence) -> None:
        """End an unfinished sequence at once."""
        now = self._clock.time()
        if sequence in self._running:
            self._show(sequence, now)
        else:
            self._waiting.remove(sequence)
        if sequence.finish_reason is None:
            self._end(sequence, "abort")
        self._admit(now)

    def advance(self) -> None:
        """Bring counters up to date, for sequences that nobody watches token by token."""
        now = self._clock.time()
        for sequence in tuple(self._running):
            self._show(sequence, now)
        self._admit(now)

    def generation_throughput(self) -> float:
        return self.statistics.generation_throughput.rate(self._clock.time())

    def prompt_throughput(self) -> float:
        return self.statistics.prompt_throughput.rate(self._clock.time())

    def _admit(self, now: float) -> None:
        while self._waiting and self._fits(self._waiting[0]):
            sequence = self._waiting.popleft()
            self._running[sequence] = None
            self._reserved_blocks += self.limits.blocks(sequence.total_tokens)
            self._start(sequence, now)

    def _fits(self, sequence: Sequence) -> bool:
        needed = self._reserved_blocks + self.limits.blocks(sequence.total_tokens)
        return self.running < self.limits.max_num_seqs and needed <= self.limits.num_blocks

    def _start(self, sequence: Sequence, now: float) -> None:
        work = Work(sequence.draft.prompt_tokens, len(sequence.draft.reply.pieces))
        sequence.admitted = now
        sequence.inflight_at_start = self.running
        sequence.pace = self._latency.pace(work, self.running, sequence.draft.random)
        self._show(sequence, now)

    def _on_timer(self, sequence: Sequence) -> None:
        sequence.timer = None
        now = self._clock.time()
        self._show(sequence, now)
        self._admit(now)

    def _show(self, sequence: Sequence, now: float) -> None:
        """Make visible what is due, then either finish or set the next timer."""
        pace = sequence.pace
        if pace is None or sequence.finish_reason is not None:
            return
        visible = pace.visible(now - sequence.admitted)
        if visible > sequence.visible:
            self._count(sequence, pace, visible, now)
            sequence.visible = visible
            if sequence.batch.streamed:
                sequence.batch.notify()
        if visible >= pace.output_tokens:
            self._end(sequence, sequence.draft.reply.finish_reason)
        else:
            self._set_timer(sequence, pace)

    def _set_timer(self, sequence: Sequence, pace: Pace) -> None:
        next_token = sequence.visible if sequence.batch.streamed else pace.output_tokens - 1
        when = sequence.admitted + pace.due_seconds(next_token)
        if sequence.timer is not None:
            if sequence.timer.when() == when:
                return
            sequence.timer.cancel()
        sequence.timer = self._clock.call_at(when, self._on_timer, sequence)

    def _count(self, sequence: Sequence, pace: Pace, visible: int, now: float) -> None:
        fresh = visible - sequence.visible
        self.statistics.count_output(fresh, now)
        if sequence.visible == 0:
            queued = sequence.admitted - sequence.arrived
            self.statistics.count_prompt(sequence.draft.prompt_tokens, now)
            self.statistics.time_to_first_token.observe(queued + pace.first_token_seconds)
            fresh -= 1
        if fresh:
            self.statistics.inter_token_latency.observe(pace.inter_token_seconds, fresh)

    def _end(self, sequence: Sequence, reason: str) -> None:
        sequence.finish_reason = reason
        self.statistics.finished[reason] += 1
        if sequence.timer is not None:
            sequence.timer.cancel()
            sequence.timer = None
        if sequence in self._running:
            del self._running[sequence]
            self._reserved_blocks -= self.limits.blocks(sequence.total_tokens)
        if sequence.pace is not None and reason != "abort":
            self._observe_end(sequence, sequence.pace)
        sequence.batch.notify()

    def _observe_end(self, sequence: Sequence, pace: Pace) -> None:
        statistics, draft = self.statistics, sequence.draft
        queued = sequence.admitted - sequence.arrived
        statistics.end_to_end.observe(queued + pace.total_seconds)
        statistics.queue_time.observe(queued)
        statistics.inference_time.observe(pace.total_seconds)
        statistics.prefill_time.observe(pace.first_token_seconds)
        statistics.decode_time.observe(pace.total_seconds - pace.first_token_seconds)
        statistics.time_per_output_token.observe(pace.inter_token_seconds)
        statistics.request_prompt_tokens.observe(draft.prompt_tokens)
        statistics.request_generation_tokens.observe(sequence.visible)
        statistics.request_max_tokens.observe(draft.max_tokens or sequence.visible)
