"""Who runs: admission in the order of arrival, blocks for what is computed, preemption when they run out.

This module decides and counts but keeps no time. A timeline (`paced`, `stepped`) asks it for the next sequence, gives
each some work, and reports when that is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from simulator.block_hash import BlockHasher
from simulator.kv_cache import KVCache
from simulator.lora_slots import LoraSlots
from simulator.sequence import Sequence
from simulator.statistics import EngineStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Sizes of the simulated engine."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_waiting: int = 1000
    block_tokens: int = 16
    num_blocks: int = 16384
    max_model_tokens: int = 16384
    prefix_caching: bool = True

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)


class Scheduler:
    """The waiting queue, the running set (in the order of admission) and the blocks they hold."""

    def __init__(
        self,
        limits: EngineLimits,
        cache: KVCache,
        hasher: BlockHasher,
        slots: LoraSlots,
        statistics: EngineStatistics,
    ) -> None:
        self.limits = limits
        self.cache = cache
        self.slots = slots
        self.statistics = statistics
        self.waiting: deque[Sequence] = deque()
        self.running: dict[Sequence, None] = {}
        self.booked = 0
        """Tokens of the budget that are taken by work under way."""
        self.preempted = False
        """Whether blocks ran out since the timeline last cleared this."""
        self.on_finish: Callable[[Sequence], None] | None = None
        self._hasher = hasher

    @property
    def budget(self) -> int:
        """Tokens that may still be started."""
        return self.limits.max_num_batched_tokens - self.booked

    def admit(self, now: float) -> Sequence | None:
        """Move the next waiting sequence that fits into the running set, with the work of its first chunk.

        A sequence whose adapter finds no slot is passed over; one that finds no blocks holds up all behind it. After
        a preemption nobody enters until time has passed, lest a sequence be sent out and let in again for ever.
        """
        if self.budget < 1 or len(self.running) >= self.limits.max_num_seqs or (self.preempted and self.running):
            return None
        for place, sequence in enumerate(self.waiting):
            if not self.slots.fits(sequence.draft.adapter):
                continue
            if not self._place(sequence, now):
                return None
            del self.waiting[place]
            self.running[sequence] = None
            return sequence
        return None

    def deferred(self) -> int:
        """Return how many wait for something else than their turn: a slot for their adapter."""
        return sum(not self.slots.fits(sequence.draft.adapter) for sequence in self.waiting)

    def assign(self, sequence: Sequence, tokens: int, booked: int) -> bool:
        """Give a running sequence `tokens` of work; False when it was preempted for want of blocks."""
        if not self._grow(sequence, tokens):
            return False
        sequence.work = tokens
        self._book(sequence, booked)
        return True

    def complete(self, sequence: Sequence, tokens: int, at: float) -> int:
        """Account for `tokens` of the sequence's work, done at `at`; may finish it.

        Returns how many tokens that was: computed ones of a prompt, and those that became visible.
        """
        decoded = not sequence.prefilling
        sequence.computed += tokens
        sequence.work -= tokens
        if not sequence.work:
            self._book(sequence, 0)
        self._seal(sequence)
        if decoded:
            self._show(sequence, tokens, at)
            return tokens
        if sequence.prefilling:
            return tokens
        self._show(sequence, 1, at)
        return tokens + 1

    def preempt(self, sequence: Sequence) -> None:
        """Take a running sequence's blocks and send it back to the head of the queue, to be computed again."""
        self._leave(sequence)
        sequence.preemptions += 1
        self.statistics.preemptions += 1
        self.preempted = True
        self.waiting.appendleft(sequence)

    def finish(self, sequence: Sequence, reason: str, at: float) -> None:
        """End a sequence, waiting or running."""
        if sequence in self.running:
            self._leave(sequence, vacate=False)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        sequence.finish_reason = reason
        self.statistics.count_end(sequence, reason, at)
        if self.on_finish is not None:
            self.on_finish(sequence)
        sequence.batch.conclude()

    def _place(self, sequence: Sequence, now: float) -> bool:
        """Find cached blocks, take what the first chunk needs, and note where the prefill begins and ends."""
        size, known = self.limits.block_tokens, sequence.known_tokens
        cached = self._match(sequence, (known - 1) // size)
        start = max(cached * size, min(sequence.draft.remote_tokens, known - 1) if sequence.visible == 0 else 0)
        chunk = min(known - start, self.budget)
        blocks = self.cache.acquire(sequence.chain[:cached], self.limits.blocks(start + chunk) - cached)
        if blocks is None:
            return False
        sequence.blocks = blocks
        sequence.computed = sequence.prefill_start = start
        sequence.sealed = cached
        sequence.prefill_end = known
        sequence.work = chunk
        sequence.swap_seconds = self.slots.enter(sequence.draft.adapter)
        self._book(sequence, chunk)
        if sequence.admitted is None:
            self._first_admission(sequence, cached * size, now)
        return True

    def _match(self, sequence: Sequence, most: int) -> int:
        if not self.limits.prefix_caching or not most:
            return 0
        self._hasher.extend(sequence.chain, sequence.tokens, most * self.limits.block_tokens, sequence.extra_key)
        return self.cache.match(sequence.chain, most)

    def _first_admission(self, sequence: Sequence, cached: int, now: float) -> None:
        sequence.admitted = now
        sequence.cached_tokens = cached
        sequence.inflight_at_start = len(self.running) + 1
        self.statistics.count_lookup(sequence.prompt_tokens, cached)

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        lacking = self.limits.blocks(sequence.computed + tokens) - len(sequence.blocks)
        if lacking <= 0:
            return True
        while (more := self.cache.acquire((), lacking)) is None:
            victim = next(reversed(self.running))
            self.preempt(victim)
            if victim is sequence:
                return False
        sequence.blocks += more
        return True

    def _seal(self, sequence: Sequence) -> None:
        full = sequence.computed // self.limits.block_tokens
        if full <= sequence.sealed or not self.limits.prefix_caching:
            return
        draft = sequence.draft
        end = full * self.limits.block_tokens
        self._hasher.extend(sequence.chain, sequence.tokens, end, sequence.extra_key)
        chain = sequence.chain[:full]
        self.cache.seal(sequence.blocks, chain, sequence.sealed, sequence.tokens, draft.adapter, draft.salt)
        sequence.sealed = full

    def _show(self, sequence: Sequence, tokens: int, at: float) -> None:
        self.statistics.count_tokens(sequence, tokens, at)
        sequence.visible += tokens
        if sequence.visible >= sequence.output_tokens:
            self.finish(sequence, sequence.draft.reply.finish_reason, at)
        elif sequence.batch.streamed:
            sequence.batch.notify()

    def _leave(self, sequence: Sequence, *, vacate: bool = True) -> None:
        del self.running[sequence]
        self.cache.release(sequence.blocks)
        self.slots.leave(sequence.draft.adapter)
        self._book(sequence, 0)
        sequence.epoch += 1
        if vacate:
            sequence.vacate()

    def _book(self, sequence: Sequence, tokens: int) -> None:
        self.booked += tokens - sequence.booked
        sequence.booked = tokens
