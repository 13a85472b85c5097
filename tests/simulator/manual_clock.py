"""An engine on a clock that moves only when told."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from random import Random

from simulator.block_hash import BlockHasher
from simulator.engine import Engine, EngineSettings, LatencyModel
from simulator.kv_events import AdapterKey, CacheEvent
from simulator.lora_slots import LoraLimits
from simulator.reply import Reply
from simulator.scheduler import EngineLimits
from simulator.sequence import Draft
from simulator.timeline import Scale


class ManualTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, ManualTimer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(callback)
        heapq.heappush(self._due, (when, next(self._order), timer))
        return timer

    def move(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            when, _, timer = heapq.heappop(self._due)
            self.now = max(self.now, when)
            if timer.callback is not None:
                timer.callback()
        self.now = max(self.now, end)


class Bench:
    """One engine with its clock and everything that it has told about its cache."""

    def __init__(
        self,
        latency: LatencyModel,
        limits: EngineLimits | None = None,
        lora: LoraLimits | None = None,
        scale: Scale | None = None,
    ) -> None:
        limits = limits or EngineLimits()
        self.clock = ManualClock()
        self.events: list[CacheEvent] = []
        settings = EngineSettings(
            limits=limits,
            latency=latency,
            scale=scale or Scale(),
            lora=lora or LoraLimits(),
            hasher=BlockHasher(limits.block_tokens),
        )
        self.engine = Engine(settings, self.clock, self.events.extend)

    def submit(self, *drafts: Draft, streamed: bool = False):
        return self.engine.submit(drafts, streamed=streamed)

    def run(self, draft: Draft):
        """Submit one sequence and let it finish."""
        sequence = self.submit(draft).sequences[0]
        self.clock.move(10_000)
        assert sequence.finish_reason is not None
        return sequence


def draft(prompt: int | Sequence[int], output_tokens: int = 4, adapter: str | None = None, **more) -> Draft:
    """Return a draft; a number stands for a prompt of so many equal tokens."""
    tokens = [7] * prompt if isinstance(prompt, int) else list(prompt)
    reply = Reply((" word",) * output_tokens, "length", None, tuple(range(100, 100 + output_tokens)))
    key = None if adapter is None else AdapterKey(1, adapter)
    return Draft(prompt=tokens, reply=reply, random=Random(0), max_tokens=output_tokens, adapter=key, **more)
