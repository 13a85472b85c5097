"""Time for models that give each sequence a pace of its own: every sequence has its own next moment.

The token budget bounds what is under way at any moment: a prefill chunk counts with its tokens, a decode with one. A
sequence that nobody watches token by token decodes in leaps of up to a block.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from simulator.latency import Pace, PacedModel, Work
from simulator.scheduler import Scheduler
from simulator.sequence import Sequence
from simulator.timeline import CLOCK_TOLERANCE_SECONDS, Scale


class PacedTimeline:
    """Due times in a heap; entries of sequences that were preempted or ended meanwhile are skipped."""

    def __init__(self, scheduler: Scheduler, model: PacedModel, scale: Scale) -> None:
        self._scheduler = scheduler
        self._model = model
        self._scale = scale
        self._due: list[tuple[float, int, int, Sequence]] = []
        self._pushed = 0
        self._stalled: list[Sequence] = []

    @property
    def capacity(self) -> int:
        return self._model.capacity

    def set_speed(self, model: Any, scale: Scale) -> None:
        self._model, self._scale = model, scale

    def turn(self, now: float) -> float | None:
        """Do everything that is due; return when something will be due next, None when nothing runs."""
        tokens = 0
        self._scheduler.preempted = False
        while True:
            while (sequence := self._next_due(now)) is not None:
                at = sequence.due
                tokens += self._scheduler.complete(sequence, sequence.work, at)
                if sequence.finish_reason is None:
                    self._continue(sequence, at)
            if not self._start_more(now):
                break
        self._scheduler.statistics.count_iteration(tokens)
        return self._due[0][0] if self._due else None

    def advance(self, now: float) -> None:
        """Account for the tokens of leaps under way that are due already."""
        tokens = 0
        for sequence in tuple(self._scheduler.running):
            if sequence.work > 1 and not sequence.prefilling and sequence.gap_seconds > CLOCK_TOLERANCE_SECONDS:
                left = int((sequence.due - now) / sequence.gap_seconds) + 1
                if (done := sequence.work - left) > 0:
                    tokens += self._scheduler.complete(sequence, done, sequence.due - left * sequence.gap_seconds)
        self._scheduler.statistics.count_iteration(tokens)

    def _next_due(self, now: float) -> Sequence | None:
        heap = self._due
        while heap:
            due, _, epoch, sequence = heap[0]
            if sequence.epoch != epoch:
                heappop(heap)
            elif due > now + CLOCK_TOLERANCE_SECONDS:
                return None
            else:
                heappop(heap)
                return sequence
        return None

    def _start_more(self, now: float) -> bool:
        """Resume stalled prefills, then admit; return whether anything began."""
        began = False
        stalled, self._stalled = self._stalled, []
        for sequence in stalled:
            if sequence in self._scheduler.running and not sequence.work:
                self._continue(sequence, now)
                began = began or bool(sequence.work)
        while (admitted := self._scheduler.admit(now)) is not None:
            self._begin(admitted, now)
            began = True
        return began

    def _begin(self, sequence: Sequence, now: float) -> None:
        sequence.pace = pace = self._pace(sequence)
        chunk = sequence.work
        self._push(sequence, now + self._share(sequence, pace, chunk))

    def _pace(self, sequence: Sequence) -> Pace:
        running, random = len(self._scheduler.running), sequence.draft.random
        known = sequence.known_tokens
        work = Work(known, sequence.output_tokens - sequence.visible, sequence.prefill_start)
        pace = self._model.pace(work, running, random)
        first = pace.first_token_seconds
        if sequence.prefill_start > (sequence.cached_tokens or 0):
            first = self._model.gap(pace, running, random)
        first = (first + sequence.swap_seconds) / self._scale.speedup
        return Pace(first, pace.inter_token_seconds / self._scale.decode)

    @staticmethod
    def _share(sequence: Sequence, pace: Pace, chunk: int) -> float:
        """Return the part of the prefill's time that a chunk takes."""
        return pace.first_token_seconds * chunk / (sequence.prefill_end - sequence.prefill_start)

    def _continue(self, sequence: Sequence, at: float) -> None:
        """Give a sequence without work its next: a chunk, or tokens to decode."""
        pace = sequence.pace
        assert pace is not None
        if sequence.prefilling:
            chunk = min(sequence.prefill_end - sequence.computed, self._scheduler.budget)
            if chunk < 1:
                self._stalled.append(sequence)
            elif self._scheduler.assign(sequence, chunk, chunk):
                self._push(sequence, at + self._share(sequence, pace, chunk))
            return
        leap = self._leap(sequence)
        if self._scheduler.assign(sequence, leap, 1):
            running = len(self._scheduler.running)
            sequence.gap_seconds = self._model.gap(pace, running, sequence.draft.random)
            self._push(sequence, at + sequence.gap_seconds * leap)

    def _leap(self, sequence: Sequence) -> int:
        if sequence.batch.streamed or not self._model.steady:
            return 1
        size = self._scheduler.limits.block_tokens
        return min(size - sequence.computed % size, sequence.output_tokens - sequence.visible)

    def _push(self, sequence: Sequence, due: float) -> None:
        sequence.due = due
        self._pushed += 1
        heappush(self._due, (due, self._pushed, sequence.epoch, sequence))
