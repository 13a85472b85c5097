"""The engine as the HTTP side sees it.

`submit` gives a `Batch`, `Batch.progress` waits for news, `Sequence.visible` says how many tokens may be shown,
`Batch.abort` ends it early. Inside, the scheduler decides who runs and a timeline when it is done; the engine owns the
clock and sleeps when there is nothing to do. Cache events leave at the end of each turn, in order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from simulator.block_hash import BlockHasher
from simulator.errors import EngineAsleepError, QueueFullError
from simulator.kv_cache import KVCache
from simulator.kv_events import CacheEvent
from simulator.latency import MockLatency, PacedModel
from simulator.lora_slots import LoraLimits, LoraSlots
from simulator.paced import PacedTimeline
from simulator.scheduler import EngineLimits, Scheduler
from simulator.sequence import Batch, Draft, Sequence
from simulator.statistics import EngineStatistics
from simulator.step_latency import StepModel
from simulator.stepped import SteppedTimeline
from simulator.timeline import Scale, Timeline

TIMER_SECONDS = 0.001
"""Timers fire at multiples of this, so that what is due at almost the same time costs one wake-up."""

LatencyModel: TypeAlias = PacedModel | StepModel
SleepState = Literal["awake", "weights_offloaded", "discard_all"]
EventSink = Callable[[list[CacheEvent]], None]


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time in seconds and calls at a time; an event loop is one."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None], /) -> Timer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """One engine: sizes, speed, and how blocks are named."""

    limits: EngineLimits = field(default_factory=EngineLimits)
    latency: LatencyModel = field(default_factory=MockLatency)
    scale: Scale = field(default_factory=Scale)
    lora: LoraLimits = field(default_factory=LoraLimits)
    hasher: BlockHasher = field(default_factory=lambda: BlockHasher(16))


class Engine:
    """Admits sequences, makes their tokens visible in time, and counts."""

    def __init__(self, settings: EngineSettings, clock: Clock, sink: EventSink | None = None) -> None:
        self.limits = settings.limits
        self.statistics = EngineStatistics(settings.limits.max_model_tokens)
        self.slots = LoraSlots(settings.lora)
        self.most_inflight = 0
        self.sleep_state: SleepState = "awake"
        self._events: list[CacheEvent] = []
        self._sink = sink
        record = self._events.append if sink is not None else None
        self.cache = KVCache(self.limits.num_blocks, self.limits.block_tokens, record)
        self.scheduler = Scheduler(self.limits, self.cache, settings.hasher, self.slots, self.statistics)
        self.latency = settings.latency
        self.scale = settings.scale
        self._timeline = _timeline(self.scheduler, settings.latency, settings.scale)
        self._clock = clock
        self._timer: Timer | None = None
        self._timer_due = math.inf
        self._delayed: set[Sequence] = set()
        self._submitted = 0
        self._idle_waiters: list[asyncio.Event] = []

    @property
    def running(self) -> int:
        return len(self.scheduler.running)

    @property
    def waiting(self) -> int:
        return len(self.scheduler.waiting) + len(self._delayed)

    @property
    def deferred(self) -> int:
        """How many wait for an adapter slot or a transfer rather than for their turn."""
        return self.scheduler.deferred() + len(self._delayed)

    @property
    def capacity(self) -> int:
        return self._timeline.capacity

    @property
    def cache_usage(self) -> float:
        """Share of the KV blocks that sequences hold, 0 to 1."""
        return self.cache.held_blocks / self.cache.num_blocks

    def require_room(self, sequences: int) -> None:
        """Raise EngineAsleepError, or QueueFullError unless that many more sequences may enter."""
        if self.sleep_state != "awake":
            raise EngineAsleepError
        free_slots = self.limits.max_num_seqs - self.running
        if self.waiting + sequences > self.limits.max_waiting + max(free_slots, 0):
            self.statistics.rejected += sequences
            raise QueueFullError(self.limits.max_waiting)

    def submit(self, drafts: Iterable[Draft], *, streamed: bool) -> Batch:
        """Take sequences in and return their batch; they may be finished already when latency is zero."""
        batch = Batch(self.abort, streamed=streamed)
        now = self._clock.time()
        for draft in drafts:
            sequence = Sequence(draft, batch, self._submitted, now)
            self._submitted += 1
            batch.sequences.append(sequence)
            if draft.delay_seconds > 0:
                self._delay(sequence, now)
            else:
                self.scheduler.waiting.append(sequence)
        self.most_inflight = max(self.most_inflight, self.running + self.waiting)
        self._turn(now)
        return batch

    def abort(self, sequence: Sequence) -> None:
        """End an unfinished sequence at once."""
        self._timeline.advance(self._clock.time())
        if sequence.finish_reason is None:
            self._delayed.discard(sequence)
            self.scheduler.finish(sequence, "abort", self._clock.time())
        self._turn()

    def advance(self) -> None:
        """Bring counters up to date, for sequences that nobody watches token by token."""
        self._timeline.advance(self._clock.time())
        self._turn()

    def reset_prefix_cache(self, *, preempt: bool) -> bool:
        """Empty the prefix cache; False while sequences run, unless they are sent back to the queue."""
        if self.scheduler.running and not preempt:
            return False
        for sequence in reversed(tuple(self.scheduler.running)):
            self.scheduler.preempt(sequence)
        self.cache.clear()
        self._turn()
        return True

    def sleep(self, state: SleepState) -> None:
        """Abort what is inside, empty the cache and refuse work until `wake`."""
        for sequence in (*self.scheduler.running, *self.scheduler.waiting, *self._delayed):
            self.scheduler.finish(sequence, "abort", self._clock.time())
        self._delayed.clear()
        self.cache.clear()
        self.sleep_state = state
        self._turn()

    async def idle(self) -> None:
        """Return as soon as nothing runs or waits."""
        if self.running + self.waiting:
            waiter = asyncio.Event()
            self._idle_waiters.append(waiter)
            await waiter.wait()

    def wake(self) -> None:
        self.sleep_state = "awake"

    def forget_adapter(self, name: str) -> None:
        """Drop an unloaded adapter; its blocks go first when room is needed."""
        self.slots.forget(name)
        self.cache.disfavour(name)

    def waiting_adapters(self) -> set[str]:
        """Return the names of the adapters that waiting sequences ask for."""
        waiting = (sequence.draft.adapter for sequence in (*self.scheduler.waiting, *self._delayed))
        return {adapter.name for adapter in waiting if adapter is not None}

    def set_speed(self, latency: LatencyModel, scale: Scale) -> None:
        """Go on with other numbers of the same kind of latency model."""
        self.latency, self.scale = latency, scale
        self._timeline.set_speed(latency, scale)

    def generation_throughput(self) -> float:
        return self.statistics.generation_throughput.rate(self._clock.time())

    def prompt_throughput(self) -> float:
        return self.statistics.prompt_throughput.rate(self._clock.time())

    def _delay(self, sequence: Sequence, now: float) -> None:
        self._delayed.add(sequence)
        self._clock.call_at(now + sequence.draft.delay_seconds, lambda: self._arrive(sequence))

    def _arrive(self, sequence: Sequence) -> None:
        if sequence in self._delayed:
            self._delayed.discard(sequence)
            self.scheduler.waiting.append(sequence)
            self._turn()

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_due = math.inf
        self._turn()

    def _turn(self, now: float | None = None) -> None:
        due = self._timeline.turn(self._clock.time() if now is None else now)
        if self._events and self._sink is not None:
            events = self._events.copy()
            self._events.clear()
            self._sink(events)
        if self._idle_waiters and not self.running + self.waiting:
            for waiter in self._idle_waiters:
                waiter.set()
            self._idle_waiters.clear()
        if due is not None:
            self._arm(math.ceil(due / TIMER_SECONDS) * TIMER_SECONDS)

    def _arm(self, due: float) -> None:
        """Have the timer fire at `due` at the latest; one that fires too early only finds nothing to do."""
        if due >= self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_at(due, self._on_timer)
        self._timer_due = due


def _timeline(scheduler: Scheduler, model: LatencyModel, scale: Scale) -> Timeline:
    if isinstance(model, StepModel):
        return SteppedTimeline(scheduler, model, scale)
    return PacedTimeline(scheduler, model, scale)
