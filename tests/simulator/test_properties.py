"""Random loads on an engine with few blocks: nothing is lost, blocks are conserved, events equal the cache."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import Engine
from simulator.errors import QueueFullError
from simulator.kv_cache import replayed
from simulator.kv_events import BlockRemoved, BlocksStored
from simulator.latency import ConstantLatency, MockLatency, PerTokenLatency
from simulator.lora_slots import LoraLimits
from simulator.scheduler import EngineLimits
from simulator.statistics import Histogram, Throughput
from simulator.step_latency import PolynomialLatency, RooflineLatency
from tests.simulator.manual_clock import Bench, draft

EXAMPLES = 150
"""At least so many loads for each model; the profile may ask for more."""

SMALL = EngineLimits(
    max_num_seqs=4, max_num_batched_tokens=40, max_waiting=6, block_tokens=4, num_blocks=24, max_model_tokens=96
)
MODELS = {
    "mock": MockLatency(),
    "constant": ConstantLatency(first_token_seconds=0.2, inter_token_seconds=0.05, inter_token_deviation_seconds=0.02),
    "instant": ConstantLatency(),
    "per-token": PerTokenLatency(load_factor=2, max_num_seqs=4),
    "polynomial": PolynomialLatency(),
    "roofline": RooflineLatency(),
}

prompts = st.builds(
    lambda start, length: [start % 3, *range(start, start + length)], st.integers(0, 5), st.integers(0, 55)
)
actions = st.one_of(
    st.tuples(
        st.just("submit"),
        prompts,
        st.integers(1, 40),
        st.sampled_from([None, "a", "b", "c"]),
        st.sampled_from([0, 0.3]),
    ),
    st.tuples(st.just("move"), st.floats(0, 2)),
    st.tuples(st.just("abort"), st.integers(0, 30)),
    st.tuples(st.just("scrape")),
    st.tuples(st.just("reset"), st.booleans()),
    st.tuples(st.just("unload"), st.sampled_from("abc")),
    st.tuples(st.just("sleep")),
)


def counters(engine: Engine) -> list[float]:
    """Every number of the statistics that may only grow."""
    found: list[float] = []
    for value in vars(engine.statistics).values():
        if isinstance(value, Histogram):
            found += [*value.counts, value.sum]
        elif isinstance(value, dict):
            found += value.values()
        elif isinstance(value, int | float):
            found.append(value)
        else:
            assert isinstance(value, Throughput) or hasattr(value, "failed")
    return found


def assert_consistent(bench: Bench) -> None:
    """Blocks are free, held or fresh and counted once; holders and references agree; the events say what is cached."""
    engine, cache = bench.engine, bench.engine.cache
    assert engine.running <= SMALL.max_num_seqs
    assert engine.scheduler.booked <= SMALL.max_num_batched_tokens + SMALL.max_num_seqs
    assert engine.scheduler.booked == sum(sequence.booked for sequence in engine.scheduler.running)
    assert len(engine.slots.running) <= 2
    held: dict[int, int] = {}
    for sequence in engine.scheduler.running:
        assert len(sequence.blocks) >= SMALL.blocks(sequence.computed)
        for block in sequence.blocks:
            held[block] = held.get(block, 0) + 1
    assert cache.references() == held
    assert cache.free_blocks + len(held) == SMALL.num_blocks
    assert cache.cached_hashes == replayed(bench.events)


def assert_leaves_leave_first(bench: Bench) -> None:
    """Replay the events: no block is stored after its parent has gone, none is removed before its children."""
    children: dict[bytes | None, set[bytes]] = {}
    parents: dict[bytes, bytes | None] = {}
    for event in bench.events:
        if isinstance(event, BlocksStored):
            for parent, name in zip((event.parent, *event.hashes[:-1]), event.hashes, strict=True):
                assert parent is None or parent in parents
                assert name not in parents
                parents[name] = parent
                children.setdefault(parent, set()).add(name)
        elif isinstance(event, BlockRemoved):
            assert not children.get(event.hash)
            children[parents.pop(event.hash)].discard(event.hash)
        else:
            parents.clear()
            children.clear()


@pytest.mark.parametrize("model", MODELS)
def test_random_loads_conserve_blocks_lose_nothing_and_tell_the_truth(model):
    @settings(deadline=None, max_examples=max(EXAMPLES, settings().max_examples))
    @given(st.lists(actions, min_size=12, max_size=40), st.booleans())
    def check(plan, streamed):
        bench = Bench(MODELS[model], SMALL, LoraLimits(device_slots=2, host_slots=3, swap_seconds=0.1))
        batches = []
        for action in plan:
            before = counters(bench.engine)
            perform(bench, batches, action, streamed=streamed)
            assert_consistent(bench)
            after = counters(bench.engine)
            assert all(old <= new or math.isclose(old, new) for old, new in zip(before, after, strict=True))
        finish(bench, batches)

    check()


def perform(bench: Bench, batches: list, action: tuple, *, streamed: bool) -> None:
    engine = bench.engine
    match action:
        case ("submit", prompt, output_tokens, adapter, delay):
            try:
                engine.require_room(1)
            except QueueFullError:
                return
            remote = len(prompt) if delay else 0
            work = draft(prompt, output_tokens, adapter, delay_seconds=delay, remote_tokens=remote)
            batches.append(bench.submit(work, streamed=streamed))
        case ("move", seconds):
            bench.clock.move(seconds)
        case ("abort", number) if batches:
            batches[number % len(batches)].abort()
        case ("reset", preempt):
            engine.reset_prefix_cache(preempt=preempt)
        case ("unload", name):
            engine.forget_adapter(name)
        case ("sleep",):
            engine.sleep("discard_all")
            engine.wake()
        case _:
            engine.advance()


def finish(bench: Bench, batches: list) -> None:
    engine = bench.engine
    bench.clock.move(10_000)
    assert_consistent(bench)
    assert_leaves_leave_first(bench)
    sequences = [sequence for batch in batches for sequence in batch.sequences]
    assert (engine.running, engine.waiting, engine.cache_usage) == (0, 0, 0)
    assert all(batch.finished for batch in batches)
    assert sum(engine.statistics.finished.values()) == len(sequences)
    assert engine.statistics.generation_tokens == sum(sequence.visible for sequence in sequences)
    for sequence in sequences:
        assert sequence.finish_reason == "abort" or sequence.visible == sequence.output_tokens
