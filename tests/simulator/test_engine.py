"""The engine alone, on a clock of its own: nothing is lost, limits hold, counters only grow."""

from __future__ import annotations

import heapq
import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import Batch, Draft, Engine, EngineLimits
from simulator.errors import QueueFullError
from simulator.latency import CapacityAwareLatency, FixedLatency, Pace, Work
from simulator.reply import Reply


class ManualClock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, ManualTimer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when, callback, sequence):
        timer = ManualTimer(when, callback, sequence)
        heapq.heappush(self._due, (when, next(self._order), timer))
        return timer

    def move(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            when, _, timer = heapq.heappop(self._due)
            self.now = max(self.now, when)
            timer.fire()
        self.now = end


class ManualTimer:
    def __init__(self, when, callback, sequence) -> None:
        self._when, self._callback, self._sequence, self._live = when, callback, sequence, True

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self._live = False

    def fire(self) -> None:
        if self._live:
            self._callback(self._sequence)


SMALL = EngineLimits(max_num_seqs=3, max_waiting=5, block_tokens=16, num_blocks=12, max_model_tokens=192)


def draft(prompt_tokens: int, output_tokens: int) -> Draft:
    return Draft(prompt_tokens, Reply((" word",) * output_tokens, "length"), Random(0), output_tokens)


def assert_limits_hold(engine: Engine) -> None:
    assert engine.running <= SMALL.max_num_seqs
    assert engine.waiting <= SMALL.max_waiting
    assert 0 <= engine.cache_usage <= 1


def counters(engine: Engine) -> list[float]:
    statistics = engine.statistics
    return [
        statistics.prompt_tokens,
        statistics.generation_tokens,
        *statistics.finished.values(),
        *statistics.end_to_end.counts,
    ]


actions = st.one_of(
    st.tuples(st.just("submit"), st.integers(1, 100), st.integers(1, 60)),
    st.tuples(st.just("move"), st.floats(0, 2), st.just(0)),
    st.tuples(st.just("abort"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("scrape"), st.just(0), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(actions, max_size=40), st.booleans())
def test_random_loads_keep_limits_and_lose_nothing(plan, streamed):
    clock = ManualClock()
    engine = Engine(SMALL, CapacityAwareLatency(), clock)
    batches: list[Batch] = []
    for action, first, second in plan:
        before = counters(engine)
        if action == "submit":
            submit(engine, batches, draft(int(first), second), streamed=streamed)
        elif action == "move":
            clock.move(first)
        elif action == "abort" and batches:
            batches[int(first) % len(batches)].abort()
        else:
            engine.advance()
        assert_limits_hold(engine)
        assert all(old <= new for old, new in zip(before, counters(engine), strict=True))
    clock.move(10_000)
    sequences = [sequence for batch in batches for sequence in batch.sequences]
    assert (engine.running, engine.waiting, engine.cache_usage) == (0, 0, 0)
    assert all(batch.finished for batch in batches)
    assert sum(engine.statistics.finished.values()) == len(sequences)
    assert engine.statistics.generation_tokens == sum(sequence.visible for sequence in sequences)


def submit(engine: Engine, batches: list[Batch], work: Draft, *, streamed: bool) -> None:
    try:
        engine.require_room(1)
    except QueueFullError:
        assert engine.waiting >= SMALL.max_waiting
        return
    batches.append(engine.submit([work], streamed=streamed))


def test_first_come_is_first_served():
    clock = ManualClock()
    engine = Engine(SMALL, FixedLatency(total_seconds=1), clock)
    batches = [engine.submit([draft(10, 10)], streamed=False) for _ in range(8)]
    clock.move(20)
    admitted = [batch.sequences[0].admitted for batch in batches]
    assert admitted == sorted(admitted)
    assert admitted[:3] == [0, 0, 0]
    assert admitted[3] == pytest.approx(1)


def test_a_sequence_waits_for_blocks_even_when_a_slot_is_free():
    clock = ManualClock()
    engine = Engine(SMALL, FixedLatency(total_seconds=1), clock)
    engine.submit([draft(150, 10), draft(100, 10)], streamed=False)
    assert (engine.running, engine.waiting) == (1, 1)
    clock.move(1.1)
    assert (engine.running, engine.waiting) == (1, 0)


def test_tokens_become_visible_at_their_time():
    clock = ManualClock()
    engine = Engine(SMALL, FixedLatency(first_token_seconds=0.5, total_seconds=1.5), clock)
    sequence = engine.submit([draft(10, 11)], streamed=True).sequences[0]
    seen = []
    for _ in range(7):
        clock.move(0.25)
        seen.append(sequence.visible)
    assert seen == [0, 1, 3, 6, 8, 11, 11]
    assert engine.statistics.time_to_first_token.sum == pytest.approx(0.5)


def test_the_mock_formula_gives_first_token_and_total():
    model = CapacityAwareLatency(jitter_seconds=0)
    pace = model.pace(Work(prompt_tokens=500, output_tokens=100), 3, Random(0))
    assert pace.first_token_seconds == pytest.approx(0.03 + 0.01 + 2 * 0.08)
    assert pace.total_seconds == pytest.approx(0.2 + 0.2)
    short = model.pace(Work(10, 1), 1, Random(0))
    assert short.first_token_seconds == short.total_seconds == pytest.approx(0.05)


@given(st.floats(0, 10), st.floats(0, 1), st.integers(1, 500))
def test_each_token_is_visible_at_its_due_time_and_all_at_the_end(first, inter_token, output_tokens):
    pace = Pace(first, inter_token, output_tokens)
    for index in (0, output_tokens // 2, output_tokens - 1):
        assert pace.visible(pace.due_seconds(index)) >= index + 1
    assert pace.visible(pace.total_seconds) == output_tokens
    if first > 0.001:
        assert pace.visible(first - 0.001) == 0
