"""From pages to gauges: averages of what finished between two scrapes, rates, busy time, and what fades."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import MessageUnreadable, SegmentReader, SegmentWriter
from tests.csrc.messages import pod

KEY = "uid-1"
LENGTHS = ("prompt", "generation")


def page(running: int = 0, waiting: int = 0, **histograms: tuple[float, float]) -> bytes:
    """A vLLM page; `queue_time=(sum, count)` and so on."""
    lines = [f"vllm:num_requests_running {running}", f"vllm:num_requests_waiting {waiting}"]
    for name, (total, count) in histograms.items():
        family = f"request_{name}_tokens" if name in LENGTHS else f"request_{name}_seconds"
        lines += [f"vllm:{family}_sum {total}", f"vllm:{family}_count {count}"]
    return "\n".join(lines).encode()


@pytest.fixture
def one(writer: SegmentWriter) -> SegmentWriter:
    writer.publish({"m": [pod(1)]})
    return writer


def after(writer: SegmentWriter, now: float, text: bytes, local: int = 0) -> dict[str, float]:
    writer.scrape(KEY, text, local, now)
    return writer.gauges(now)[KEY]


def test_the_first_page_gives_the_means_of_a_life(one: SegmentWriter) -> None:
    found = after(one, 100, page(2, queue_time=(6, 3), prefill_time=(3, 3), decode_time=(9, 3), prompt=(30, 3)))
    assert found["queue_time"] == 2
    assert (found["prefill_time"], found["decode_time"], found["prompt_length"]) == (1, 3, 10)
    assert "generation_length" not in found


def test_an_engine_that_never_finished_a_request_is_tried(one: SegmentWriter) -> None:
    found = after(one, 100, page(queue_time=(0, 0), prefill_time=(0, 0), decode_time=(0, 0)))
    assert (found["queue_time"], found["prefill_time"], found["decode_time"]) == (0, 0, 0)


@given(
    st.lists(
        st.tuples(st.floats(0.05, 4), st.integers(0, 5), st.floats(0, 30)),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_averages_are_those_of_the_last_ten_seconds(
    one: SegmentWriter, reader: SegmentReader, steps: list[tuple[float, int, float]]
) -> None:
    """The oracle keeps every page; the kernel only one a second, so that its window begins up to a second off."""
    one.publish({"m": []})
    one.sweep()
    one.publish({"m": [pod(1)]})
    now, total, count = 100.0, 5.0, 2.0
    history = [(now, total, count)]
    found = after(one, now, page(1, prefill_time=(total, count)))
    assert found["prefill_time"] == pytest.approx(2.5)
    for pause, finished, taken in steps:
        now, count = now + pause, count + finished
        total += taken if finished else 0
        found = after(one, now, page(1, prefill_time=(total, count)))
        marks = [each for each in history if now - 12 - max(p for p, _, _ in steps) <= each[0]]
        possible = [(total - s) / (count - c) for _, s, c in marks if count > c]
        if possible:
            assert min(possible) - 1e-6 <= found["prefill_time"] <= max(possible) + 1e-6
        history.append((now, total, count))


def test_an_average_is_that_between_two_pages(one: SegmentWriter) -> None:
    after(one, 100, page(1, decode_time=(100, 10)))
    assert after(one, 101, page(1, decode_time=(101, 12)))["decode_time"] == 0.5


def test_what_is_older_than_the_window_is_forgotten(one: SegmentWriter) -> None:
    after(one, 100, page(1, decode_time=(0, 0)))
    after(one, 101, page(1, decode_time=(90, 9)))
    for second in range(102, 113):
        after(one, second, page(1, decode_time=(90, 9)))
    assert after(one, 113, page(1, decode_time=(91, 10)))["decode_time"] == 1


def test_averages_stay_while_an_engine_works_and_fade_while_it_idles(one: SegmentWriter) -> None:
    after(one, 100, page(1, decode_time=(0, 0), queue_time=(0, 0)))
    busy = [after(one, 100 + n, page(1, decode_time=(8, 2), queue_time=(4, 2))) for n in range(1, 30)]
    assert {each["decode_time"] for each in busy} == {4.0}
    idle = [after(one, 130 + n, page(0, decode_time=(8, 2), queue_time=(4, 2))) for n in range(30)]
    times = [each["decode_time"] for each in idle]
    assert times == sorted(times, reverse=True)
    assert times[-1] < 0.4
    assert {each["queue_time"] for each in idle} == {0.0}


def test_a_restarted_engine_begins_anew(one: SegmentWriter) -> None:
    after(one, 100, page(1, decode_time=(500, 100)))
    after(one, 102, page(1, decode_time=(510, 101)))
    assert after(one, 104, page(1, decode_time=(3, 3)))["decode_time"] == 1


def test_busy_time_is_the_share_of_time_with_work(one: SegmentWriter) -> None:
    assert after(one, 100, page(1))["busy"] == 1
    assert after(one, 100.2, page(3))["busy"] == 1
    falling = [after(one, 100.2 + 0.2 * n, page(0))["busy"] for n in range(1, 100)]
    assert falling == sorted(falling, reverse=True)
    assert 0.3 < falling[24] < 0.45  # after five seconds, about 1/e
    assert falling[-1] < 0.05


def test_rates_are_tokens_a_second(one: SegmentWriter) -> None:
    text = "vllm:num_requests_running 1\nvllm:prompt_tokens_total {}\nvllm:generation_tokens_total {}"
    assert "prompt_rate" not in after(one, 100, text.format(1000, 500).encode())
    found = after(one, 102, text.format(1100, 520).encode())
    assert (found["prompt_rate"], found["generation_rate"]) == (50, 10)


def test_an_engine_that_tells_its_rate_is_believed(one: SegmentWriter) -> None:
    assert after(one, 100, b"sglang:gen_throughput 42\nsglang:token_usage 0.1")["generation_rate"] == 42


def test_what_an_engine_does_not_tell_is_derived(one: SegmentWriter) -> None:
    """TensorRT-LLM: no prefill, no decode, no lengths. SGLang: lengths by counters."""
    names = ("request_queue_time_seconds", "time_to_first_token_seconds", "e2e_request_latency_seconds")
    sums = dict(zip(names, (2, 6, 20), strict=True))
    text = "\n".join(f"trtllm_{name}_sum {total}\ntrtllm_{name}_count 2" for name, total in sums.items())
    found = after(one, 100, text.encode())
    assert (found["queue_time"], found["prefill_time"], found["decode_time"]) == (1, 2, 7)
    one.publish({"m": []})
    one.publish({"m": [pod(1)]})
    text = "sglang:num_requests_total 4\nsglang:prompt_tokens_total 400\nsglang:generation_tokens_total 40"
    found = after(one, 200, text.encode())
    assert (found["prompt_length"], found["generation_length"]) == (100, 10)


def test_requests_of_other_nodes_count_when_two_pages_show_them(one: SegmentWriter) -> None:
    assert after(one, 100, page(5, 2), local=3)["remote"] == 0
    assert after(one, 100.2, page(6, 2), local=3)["remote"] == 4
    assert after(one, 100.4, page(1), local=3)["remote"] == 0


def test_a_page_that_cannot_be_read_changes_nothing(one: SegmentWriter) -> None:
    before = after(one, 100, page(3))
    with pytest.raises(MessageUnreadable):
        one.scrape(KEY, b"<html>", 0, 101)
    assert one.gauges(101)[KEY] == before
    one.scrape("unknown", page(1), 0, 101)


def test_time_that_goes_back_begins_anew(one: SegmentWriter) -> None:
    after(one, 100, page(1, decode_time=(10, 1)))
    found = after(one, 50, page(1, decode_time=(30, 2)))
    assert found["decode_time"] == 15
    assert not any(math.isnan(value) for value in found.values())
