"""The block cache alone: sharing, order of eviction, and the evictions of a real engine."""

from __future__ import annotations

import pytest

from simulator.block_hash import BlockHasher, as_integer, fnv_1a, hash_function
from simulator.kv_cache import KVCache, replayed
from simulator.kv_events import AdapterKey, AllBlocksCleared, BlockRemoved, BlocksStored
from simulator.latency import ConstantLatency
from simulator.scheduler import EngineLimits
from tests.simulator.manual_clock import Bench, draft
from tests.simulator.recorded import recorded_batches

FOUR = EngineLimits(block_tokens=4, num_blocks=6, max_model_tokens=24)


def bench(limits: EngineLimits = FOUR) -> Bench:
    return Bench(ConstantLatency(), limits)


def stored(events) -> list[BlocksStored]:
    return [event for event in events if isinstance(event, BlocksStored)]


def test_only_full_blocks_are_announced_with_their_tokens_and_parent():
    engine = bench()
    engine.run(draft(range(10), 1))
    engine.run(draft([*range(8), 20, 21, 22, 23], 1))
    first, second = stored(engine.events)
    assert first.tokens == tuple(range(8))
    assert (first.parent, first.block_tokens, len(first.hashes)) == (None, 4, 2)
    assert (second.parent, second.tokens) == (first.hashes[-1], (20, 21, 22, 23))


def test_generated_tokens_fill_blocks_too():
    engine = bench()
    engine.run(draft(range(3), 6))
    assert [event.tokens for event in stored(engine.events)] == [(0, 1, 2, 100), (101, 102, 103, 104)]


def test_the_oldest_leaves_go_first_and_are_told_before_what_takes_their_place():
    engine = bench()
    engine.run(draft([1] * 9, 1))
    old = stored(engine.events)[0].hashes
    engine.run(draft([2] * 17, 1))
    kinds = [type(event) for event in engine.events]
    assert kinds == [BlocksStored, BlockRemoved, BlocksStored] or kinds == [
        BlocksStored,
        *[BlockRemoved] * 2,
        BlocksStored,
    ]
    removed = [event.hash for event in engine.events if isinstance(event, BlockRemoved)]
    assert removed == list(reversed(old))[: len(removed)]


def test_equal_blocks_computed_side_by_side_become_one():
    engine = Bench(ConstantLatency(first_token_seconds=1, inter_token_seconds=1), FOUR)
    engine.submit(draft(range(8), 9), draft(range(8), 9))
    engine.clock.move(1.5)
    assert len(stored(engine.events)) == 1
    assert sorted(engine.engine.cache.references().values()) == [1, 1, 2, 2]


def test_blocks_of_an_unloaded_adapter_go_first():
    engine = bench()
    engine.run(draft([1] * 8, 1))
    engine.run(draft([2] * 8, 1, adapter="a"))
    own = stored(engine.events)[1].hashes
    engine.engine.forget_adapter("a")
    engine.run(draft([3] * 16, 1))
    removed = [event.hash for event in engine.events if isinstance(event, BlockRemoved)]
    assert set(removed) == set(own)


def test_clearing_forgets_all_and_says_so():
    engine = bench()
    engine.run(draft(range(8), 1))
    engine.engine.reset_prefix_cache(preempt=False)
    assert engine.events[-1] == AllBlocksCleared()
    assert engine.engine.cache.cached_hashes == frozenset() == replayed(engine.events)
    assert engine.run(draft(range(8), 1)).cached_tokens == 0


def test_acquiring_more_than_there_is_changes_nothing():
    cache = KVCache(4, 4)
    held = cache.acquire((), 3)
    assert held == [0, 1, 2]
    assert cache.acquire((), 2) is None
    assert (cache.free_blocks, cache.held_blocks) == (1, 3)
    cache.release(held)
    assert cache.free_blocks == 4


@pytest.mark.parametrize("name", ["sha256", "xxhash", "fnv"])
def test_names_depend_on_everything_before_them_and_on_the_seed(name):
    hasher, other = (BlockHasher(2, hash_function(name), seed) for seed in ("0", "1"))

    def chain(tokens, extra=b"", by=hasher):
        names = []
        by.extend(names, tokens, len(tokens), extra)
        return names

    assert len(chain([1, 2, 3, 4, 5])) == 2
    assert chain([1, 2, 3, 4])[0] == chain([1, 2])[0]
    assert chain([9, 2, 3, 4])[1] != chain([1, 2, 3, 4])[1]
    assert chain([1, 2], b"adapter") != chain([1, 2]) != chain([1, 2], by=other)
    assert 0 <= as_integer(chain([1, 2])[0]) < 2**64


def test_fnv_gives_the_published_values():
    assert fnv_1a(b"").hex() == "cbf29ce484222325"
    assert fnv_1a(b"foobar").hex() == "85944171f73967e8"


RECORDED_USES = {
    # name: prompt tokens, output tokens, as the replies of the recorded engine count them
    "completion": (12, 8), "completion-long": (277, 4), "completion-long-again-prefix-hit": (280, 4),
    "completion-stream": (3, 4), "completion-stream-usage": (3, 4), "completion-stream-continuous-usage": (3, 3),
    "prompt a": (2, 2), "prompt b": (2, 2), "completion-token-ids": (4, 2), "chat": (27, 4),
    "chat-stream-usage": (27, 4), "chat-multipart-content": (17, 2), "lora-completion": (277, 4),
    "lora2-completion": (2, 2), "fill-0": (842, 2), "fill-1": (842, 2), "fill-2": (842, 2), "fill-3": (842, 2),
    "fill-4": (842, 2), "fill-5": (842, 2),
}  # fmt: skip


def test_the_recorded_traffic_stores_and_evicts_as_the_recorded_engine_did():
    """Equal prompts in equal order into a cache of equal size: batch by batch the same blocks stored and removed."""
    theirs = recorded_batches()
    prompts = {during: batch[1][-1]["token_ids"] for during, batch in theirs}
    limits = EngineLimits(block_tokens=32, num_blocks=119, max_model_tokens=1024)
    engine = Bench(ConstantLatency(), limits)
    names: dict[int, int] = {}
    ours = []
    for number, (name, (prompt_tokens, output_tokens)) in enumerate(RECORDED_USES.items()):
        known = prompts.get("completion-long" if name == "completion-long-again-prefix-hit" else name, [])
        prompt = [*known, *(10_000 * (number + 1) + place for place in range(prompt_tokens - len(known)))]
        adapter = {"lora-completion": "lora1", "lora2-completion": "lora2"}.get(name)
        before = len(engine.events)
        engine.run(draft(prompt, output_tokens, adapter=adapter))
        if len(engine.events) > before:
            ours.append((name, engine.events[before:]))
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (name, events), (_, (_, recorded, _)) in zip(ours, theirs, strict=True):
        assert len(events) == len(recorded), name
        for event, other in zip(events, recorded, strict=True):
            if isinstance(event, BlocksStored):
                assert list(event.tokens) == other["token_ids"]
                names |= dict(zip(other["block_hashes"], map(as_integer, event.hashes), strict=True))
            else:
                assert [as_integer(event.hash)] == [names[hash_] for hash_ in other["block_hashes"]], name


def test_an_adapter_is_part_of_the_event():
    engine = bench()
    engine.run(draft(range(4), 1, adapter="a"))
    assert stored(engine.events)[0].adapter == AdapterKey(1, "a")
