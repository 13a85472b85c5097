"""Time for models that time a whole step: all running sequences get their next token when it ends.

A step holds one token of each decoding sequence, then chunks of running prefills, then what is admitted, until the
token budget is spent.
"""

from __future__ import annotations

from typing import Any

from simulator.scheduler import Scheduler
from simulator.sequence import Sequence
from simulator.step_latency import StepLoad, StepModel
from simulator.timeline import CLOCK_TOLERANCE_SECONDS, Scale


class SteppedTimeline:
    """One step at a time."""

    def __init__(self, scheduler: Scheduler, model: StepModel, scale: Scale) -> None:
        self._scheduler = scheduler
        self._model = model
        self._scale = scale
        self._step: list[tuple[Sequence, int]] = []
        self._end = 0.0

    @property
    def capacity(self) -> int:
        return self._model.capacity

    def set_speed(self, model: Any, scale: Scale) -> None:
        self._model, self._scale = model, scale

    def turn(self, now: float) -> float | None:
        """End the step that is due and begin the next; return when it ends, None when nothing runs."""
        begin = now
        while True:
            if self._step:
                if self._end > now + CLOCK_TOLERANCE_SECONDS:
                    return self._end
                begin = self._end
                self._finish_step()
            if not self._begin_step(begin):
                return None

    def advance(self, now: float) -> None:
        """Do nothing: every token is counted when its step ends."""

    def _finish_step(self) -> None:
        step, self._step = self._step, []
        tokens = 0
        for sequence, epoch in step:
            if sequence.epoch == epoch and sequence.work:
                tokens += self._scheduler.complete(sequence, sequence.work, self._end)
        self._scheduler.statistics.count_iteration(tokens)

    def _begin_step(self, begin: float) -> bool:
        self._scheduler.preempted = False
        self._assign_running()
        while self._scheduler.admit(begin) is not None:
            pass
        working = [sequence for sequence in self._scheduler.running if sequence.work]
        if not working:
            return False
        self._step = [(sequence, sequence.epoch) for sequence in working]
        self._end = begin + self._seconds(working)
        for sequence in working:
            sequence.gap_seconds = self._end - begin
            sequence.due = self._end
        return True

    def _assign_running(self) -> None:
        """Give work to those that run: decodes first, then prefills in the order of admission."""
        running = tuple(self._scheduler.running)
        for sequence in running:
            if not sequence.prefilling and sequence in self._scheduler.running:
                self._scheduler.assign(sequence, 1, 1)
        for sequence in running:
            if sequence.prefilling and sequence in self._scheduler.running:
                chunk = min(sequence.prefill_end - sequence.computed, self._scheduler.budget)
                if chunk > 0:
                    self._scheduler.assign(sequence, chunk, chunk)

    def _seconds(self, working: list[Sequence]) -> float:
        decoding = [sequence for sequence in working if not sequence.prefilling]
        cache = self._scheduler.cache
        load = StepLoad(
            prefill_tokens=sum(sequence.work for sequence in working if sequence.prefilling),
            decodes=len(decoding),
            context_tokens=sum(sequence.computed for sequence in decoding),
            cache_share=cache.held_blocks / cache.num_blocks,
        )
        time = self._model.step(load)
        swap = max((sequence.swap_seconds for sequence in working), default=0.0)
        for sequence in working:
            sequence.swap_seconds = 0.0
        return (time.prefill_seconds + swap) / self._scale.speedup + time.decode_seconds / self._scale.decode
