"""The engine on a clock of its own: order, limits, chunks, preemption, prefix hits, and when tokens become visible."""

from __future__ import annotations

import itertools

import pytest

from simulator.errors import EngineAsleepError, QueueFullError
from simulator.kv_events import AllBlocksCleared
from simulator.latency import ConstantLatency, FixedDuration, MockLatency, PerTokenLatency
from simulator.lora_slots import LoraLimits
from simulator.scheduler import EngineLimits
from simulator.step_latency import PolynomialLatency, StepLoad, StepTime
from simulator.timeline import Scale
from tests.simulator.manual_clock import Bench, draft

SMALL = EngineLimits(max_num_seqs=3, max_waiting=5, block_tokens=16, num_blocks=12, max_model_tokens=192)
SECOND = FixedDuration(total_seconds=1)


class TickingSteps:
    """Every step takes a tenth of a second; the loads are kept."""

    capacity = 1

    def __init__(self) -> None:
        self.loads: list[StepLoad] = []

    def step(self, load: StepLoad) -> StepTime:
        self.loads.append(load)
        return StepTime(0.1, 0.0)


def test_first_come_is_first_served():
    bench = Bench(SECOND, SMALL)
    batches = [bench.submit(draft([number] * 10, 10)) for number in range(8)]
    bench.clock.move(20)
    admitted = [batch.sequences[0].admitted for batch in batches]
    assert admitted == sorted(admitted)
    assert admitted[:3] == [0, 0, 0]
    assert admitted[3] == pytest.approx(1)


def test_a_sequence_waits_for_blocks_even_when_a_slot_is_free():
    bench = Bench(SECOND, SMALL)
    bench.submit(draft([1] * 150, 10), draft([2] * 100, 10))
    assert (bench.engine.running, bench.engine.waiting) == (1, 1)
    bench.clock.move(1.1)
    assert (bench.engine.running, bench.engine.waiting) == (1, 0)


def test_a_full_queue_refuses_and_counts():
    bench = Bench(SECOND, SMALL)
    bench.submit(*(draft([number] * 4) for number in range(8)))
    with pytest.raises(QueueFullError):
        bench.engine.require_room(1)
    assert bench.engine.statistics.rejected == 1


def test_three_hundred_at_once_run_256_and_wait_44():
    bench = Bench(ConstantLatency(first_token_seconds=1, inter_token_seconds=1))
    batch = bench.submit(*(draft([number] * 20, 3) for number in range(300)))
    assert (bench.engine.running, bench.engine.waiting) == (256, 44)
    bench.clock.move(60)
    assert [sequence.finish_reason for sequence in batch.sequences] == ["length"] * 300


def test_tokens_become_visible_at_their_time():
    bench = Bench(FixedDuration(first_token_seconds=0.5, total_seconds=1.5), SMALL)
    sequence = bench.submit(draft(10, 11), streamed=True).sequences[0]
    seen = []
    for _ in range(7):
        bench.clock.move(0.251)
        seen.append(sequence.visible)
    assert seen == [0, 1, 3, 6, 8, 11, 11]
    assert bench.engine.statistics.time_to_first_token.sum == pytest.approx(0.5)


def test_a_scrape_sees_the_tokens_of_a_request_that_nobody_watches():
    bench = Bench(ConstantLatency(inter_token_seconds=1))
    sequence = bench.submit(draft(10, 30)).sequences[0]
    bench.clock.move(4.5)
    bench.engine.advance()
    assert bench.engine.statistics.generation_tokens == sequence.visible == 5
    bench.clock.move(100)
    assert bench.engine.statistics.generation_tokens == 30


def test_a_long_prompt_is_computed_in_chunks_of_the_token_budget():
    steps = TickingSteps()
    bench = Bench(steps, EngineLimits(max_num_batched_tokens=64))
    decoding = bench.submit(draft([1] * 8, 9), streamed=True).sequences[0]
    bench.clock.move(0.35)
    bench.submit(draft([2] * 150, 2))
    bench.clock.move(5)
    prefills = [load.prefill_tokens for load in steps.loads]
    assert [tokens for tokens in prefills if tokens] == [8, 63, 63, 24]
    assert all(load.decodes for load in steps.loads[1:7])
    assert decoding.finish_reason == "length"


def test_the_budget_bounds_what_paced_prefills_have_under_way():
    limits = EngineLimits(max_num_batched_tokens=100)
    bench = Bench(ConstantLatency(first_token_seconds=1), limits)
    bench.submit(*(draft([number] * 60, 1) for number in range(3)))
    assert bench.engine.running == 2
    assert sum(sequence.work for sequence in bench.engine.scheduler.running) == 100
    bench.clock.move(60)
    assert bench.engine.statistics.finished["length"] == 3


@pytest.mark.parametrize("model", [ConstantLatency(inter_token_seconds=0.1), PolynomialLatency()])
def test_the_last_admitted_is_preempted_when_blocks_run_out_and_is_computed_again(model):
    limits = EngineLimits(num_blocks=8, max_model_tokens=128, prefix_caching=False)
    bench = Bench(model, limits)
    first, second = bench.submit(draft([1] * 60, 40), draft([2] * 50, 40)).sequences
    bench.clock.move(1000)
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert (first.visible, second.visible) == (40, 40)
    assert bench.engine.statistics.preemptions == 1
    assert bench.engine.statistics.prompt_tokens == 110
    assert first.last_token_at < second.last_token_at


def test_a_sequence_that_finds_no_blocks_waits_for_those_who_hold_them():
    """One that computes in no time must not be sent out and let in for ever while others take their time."""
    limits = EngineLimits(num_blocks=8, max_num_batched_tokens=70, max_model_tokens=128)
    bench = Bench(ConstantLatency(), limits, LoraLimits(device_slots=2, swap_seconds=1))
    slow, quick = bench.submit(draft([1] * 64, 2, adapter="a"), draft([2] * 60, 60)).sequences
    assert (bench.engine.running, bench.engine.waiting) == (1, 1)
    bench.clock.move(1.5)
    assert (slow.finish_reason, quick.finish_reason) == ("length", "length")
    assert quick.preemptions < 3


def test_an_equal_prompt_needs_its_last_token_only():
    bench = Bench(PerTokenLatency(overhead_seconds=0.03, prefill_seconds_per_token=0.00025))
    tokens = list(range(8192))
    first, second = bench.run(draft(tokens)), bench.run(draft(tokens))
    assert (first.cached_tokens, second.cached_tokens) == (0, 8176)
    cold, warm = (sequence.first_token_at - sequence.arrived for sequence in (first, second))
    assert cold == pytest.approx(0.03 + 8192 * 0.00025)
    assert warm == pytest.approx(0.03 + 16 * 0.00025)
    assert cold > 5 * warm


def test_a_conversation_finds_the_blocks_of_the_reply_before():
    bench = Bench(ConstantLatency())
    first = bench.run(draft(range(40), 30))
    again = bench.run(draft([*first.tokens, 1, 2, 3]))
    assert again.cached_tokens == 64


@pytest.mark.parametrize("change", [{"adapter": "a"}, {"salt": "s"}])
def test_adapter_and_salt_separate_equal_prompts(change):
    bench = Bench(ConstantLatency())
    tokens = list(range(100))
    bench.run(draft(tokens))
    assert bench.run(draft(tokens, **change)).cached_tokens == 0
    assert bench.run(draft(tokens, **change)).cached_tokens == 96


def test_without_prefix_caching_nothing_is_found():
    bench = Bench(ConstantLatency(), EngineLimits(prefix_caching=False))
    bench.run(draft(range(100)))
    assert bench.run(draft(range(100))).cached_tokens == 0
    assert bench.events == []


def test_a_remote_prefill_costs_its_transfer_and_one_decode():
    bench = Bench(PerTokenLatency(overhead_seconds=1, inter_token_seconds=0.01))
    sequence = bench.run(draft(range(1000), 3, remote_tokens=1000, delay_seconds=0.2))
    assert sequence.first_token_at == pytest.approx(0.21)
    assert bench.engine.statistics.transferred_prompt_tokens == 999
    assert bench.run(draft(range(1000))).cached_tokens == 992


def test_a_transfer_counts_as_waiting_for_something_else_than_its_turn():
    bench = Bench(ConstantLatency(), SMALL)
    batch = bench.submit(draft(20, remote_tokens=20, delay_seconds=5))
    assert (bench.engine.waiting, bench.engine.deferred) == (1, 1)
    batch.abort()
    assert (bench.engine.waiting, bench.engine.statistics.finished["abort"]) == (0, 1)
    bench.clock.move(6)
    assert bench.engine.running == 0


def test_no_more_adapters_run_at_once_than_there_are_slots_and_others_pass():
    bench = Bench(SECOND, lora=LoraLimits(device_slots=2, host_slots=4))
    bench.submit(*(draft([number], adapter=name) for number, name in enumerate("abcab")), draft([9]))
    assert (bench.engine.running, bench.engine.waiting, bench.engine.deferred) == (5, 1, 1)
    assert bench.engine.slots.running == ["a", "b"]
    bench.clock.move(5)
    assert bench.engine.statistics.finished["length"] == 6


def test_an_adapter_that_is_not_on_the_device_costs_its_swap():
    lora = LoraLimits(device_slots=1, host_slots=2, load_seconds=2, swap_seconds=0.5)
    bench = Bench(ConstantLatency(first_token_seconds=1), lora=lora)
    waits = [
        sequence.first_token_at - sequence.arrived
        for sequence in (bench.run(draft(4, adapter=name)) for name in "aaba")
    ]
    assert waits == pytest.approx([3.5, 1, 3.5, 1.5])


def test_speed_up_divides_times_and_keeps_tokens():
    def times(scale: Scale) -> tuple[float, float, int]:
        sequence = Bench(PerTokenLatency(), scale=scale).run(draft(500, 20))
        return sequence.first_token_at, sequence.last_token_at - sequence.first_token_at, sequence.visible

    first, rest, tokens = times(Scale())
    assert times(Scale(10, 1)) == pytest.approx((first / 10, rest / 10, tokens))
    assert times(Scale(10, 4)) == pytest.approx((first / 10, rest / 40, tokens))


def test_the_load_factor_slows_a_full_engine():
    model = PerTokenLatency(overhead_seconds=1, prefill_seconds_per_token=0, load_factor=3, max_num_seqs=5)
    bench = Bench(model, EngineLimits(max_num_seqs=5))
    sequences = bench.submit(*(draft([number], 1) for number in range(5))).sequences
    bench.clock.move(10)
    assert [sequence.first_token_at for sequence in sequences] == pytest.approx([1, 1.5, 2, 2.5, 3])


def test_sleep_aborts_empties_the_cache_and_refuses():
    bench = Bench(SECOND)
    batch = bench.submit(draft(100, 50))
    bench.clock.move(0.5)
    bench.engine.sleep("weights_offloaded")
    assert batch.sequences[0].finish_reason == "abort"
    assert bench.events[-1] == AllBlocksCleared()
    with pytest.raises(EngineAsleepError):
        bench.engine.require_room(1)
    bench.engine.wake()
    assert bench.run(draft(100)).cached_tokens == 0


def test_a_reset_waits_for_idleness_unless_it_may_preempt():
    bench = Bench(SECOND)
    sequence = bench.submit(draft(100, 50)).sequences[0]
    bench.clock.move(0.5)
    assert not bench.engine.reset_prefix_cache(preempt=False)
    assert bench.engine.reset_prefix_cache(preempt=True)
    bench.clock.move(5)
    assert (sequence.visible, sequence.preemptions) == (50, 1)


def test_an_iteration_counts_computed_prompt_and_output_tokens():
    bench = Bench(PolynomialLatency())
    for _ in range(2):
        bench.run(draft(range(100), 7))
    statistics = bench.engine.statistics
    assert statistics.iteration_tokens.sum == statistics.prompt_tokens - statistics.cached_prompt_tokens + 14


def test_equal_seeds_give_equal_traces():
    def trace() -> list[float]:
        bench = Bench(ConstantLatency(first_token_seconds=1, inter_token_seconds=1, inter_token_deviation_seconds=0.3))
        sequence = bench.submit(draft(40, 9), streamed=True).sequences[0]
        seen = []
        for _, _ in itertools.product(range(100), range(2)):
            bench.clock.move(0.05)
            seen.append(sequence.visible)
        return seen

    assert trace() == trace()


def test_the_mock_penalises_the_second_of_two():
    bench = Bench(MockLatency(first_token_base_seconds=0.3, jitter_seconds=0))
    first, second = bench.submit(draft([1], 1), draft([2], 1)).sequences
    bench.clock.move(3)
    assert second.first_token_at - first.first_token_at == pytest.approx(0.08)
