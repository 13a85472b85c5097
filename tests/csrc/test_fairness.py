"""vtc-basic: rows R51 to R59 of routing.md and an oracle; users that are invented take no memory and no one's place."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import Fairness, MessageUnreadable, Pod, SegmentReader, SegmentWriter, Settings, Verdict
from tests.csrc.messages import Request, chat

NOW = 1000.0
EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EVEN = Fairness(output_weight=1.0)
_epochs = itertools.count(0, 10_000)


def publish(writer: SegmentWriter, count: int = 3, fair: Fairness | None = None) -> None:
    pods = [Pod(f"u{n}", "default", f"pod-{n}", f"10.0.0.{n + 1}:8000", ready=True) for n in range(count)]
    writer.publish({"llama2-7b": pods}, Settings(default_strategy="vtc-basic", fair=fair or Fairness()))


def pick(reader: SegmentReader, user: str, seed: int = 1, tokens: int = 0, strategy: str = "", now: float = NOW) -> str:
    decision = reader.decide("llama2-7b", strategy, random=seed * 7919, user=user, prompt_tokens=tokens, now=now)
    assert decision.verdict is Verdict.CHOSEN
    reader.finish(decision)
    return decision.pod


def picks(reader: SegmentReader, user: str, strategy: str = "", now: float = NOW) -> set[str]:
    return {pick(reader, user, seed, strategy=strategy, now=now) for seed in range(60)}


def test_r51_a_request_charges_its_user_with_estimates(writer: SegmentWriter, reader: SegmentReader) -> None:
    """12 bytes are 3 tokens, and 5 of an answer."""
    publish(writer, fair=EVEN)
    request = Request(reader)
    request.headers(user="ada")
    body = chat()
    body["messages"] = [{"role": "user", "content": "twelve bytes"}]
    assert request.body(body).set["routing-strategy"] == "vtc-basic"
    request.close()
    assert writer.user_tokens("ada", time.monotonic()) == 8


def test_r52_weights_count(writer: SegmentWriter) -> None:
    publish(writer)
    writer.charge("ada", 10, 15, NOW)
    assert writer.user_tokens("ada", NOW) == 40


def test_r53_r54_nobody_is_charged_with_nothing(writer: SegmentWriter) -> None:
    publish(writer)
    with pytest.raises(MessageUnreadable):
        writer.charge("", 10, 15, NOW)
    assert writer.user_tokens("", NOW) == 0
    writer.charge("ada", 0, 0, NOW)
    assert writer.user_tokens("ada", NOW) == 0
    assert writer.users(NOW).least == 1000


def test_r55_a_window_forgets(writer: SegmentWriter) -> None:
    publish(writer, fair=Fairness(window=timedelta(milliseconds=100)))
    writer.charge("ada", 10, 15, NOW)
    assert writer.user_tokens("ada", NOW) == 40
    writer.charge("ada", 15, 0, NOW + 0.010)
    assert writer.user_tokens("ada", NOW + 0.010) == 55
    assert writer.user_tokens("ada", NOW + 0.120) == 0


@pytest.mark.parametrize(("tokens", "index"), [(0, 0), (10_000, 1), (5_000, 1)])
def test_r56_a_lone_user_moves_down_the_row(
    writer: SegmentWriter, reader: SegmentReader, tokens: int, index: int
) -> None:
    publish(writer)
    writer.charge("ada", tokens, 0, NOW)
    writer.users(NOW)
    assert picks(reader, "ada", "vtc-basic,vtc-basic") == {f"pod-{index}"}


def test_r57_without_a_user_any_pod_is_picked(writer: SegmentWriter, reader: SegmentReader) -> None:
    publish(writer)
    assert picks(reader, "") == {"pod-0", "pod-1", "pod-2"}
    assert writer.users(NOW).least == 1000


def test_r58_without_a_user_it_weighs_nothing_in_a_list(writer: SegmentWriter, reader: SegmentReader) -> None:
    publish(writer)
    held = [reader.decide("llama2-7b", "least-request") for _ in range(2)]
    free = {"pod-0", "pod-1", "pod-2"} - {each.pod for each in held}
    assert picks(reader, "", "vtc-basic:9,least-request:1") == free
    for decision in held:
        reader.finish(decision)


def test_in_a_list_nobody_is_charged(writer: SegmentWriter, reader: SegmentReader) -> None:
    publish(writer)
    pick(reader, "ada", tokens=100, strategy="vtc-basic,least-request")
    assert writer.user_tokens("ada", NOW) == 0
    pick(reader, "ada", tokens=100)
    assert writer.user_tokens("ada", NOW) == 100 + 2 * 150


def test_the_only_pod_is_charged_for_too(writer: SegmentWriter, reader: SegmentReader) -> None:
    publish(writer, 1)
    pick(reader, "ada", tokens=10)
    assert writer.user_tokens("ada", NOW) == 40


def test_r59_the_range_is_that_of_the_active(writer: SegmentWriter) -> None:
    publish(writer)
    window = Fairness().window.total_seconds()

    def spread(now: float) -> tuple[float, float]:
        users = writer.users(now)
        return users.least, users.most

    assert spread(NOW) == (1000, 8000)
    writer.charge("user1", 500, 0, NOW)
    assert spread(NOW) == (500, 500)
    writer.charge("user2", 1000, 0, NOW)
    assert spread(NOW) == (500, 1000)
    assert spread(NOW + window + 6) == (1000, 8000)


def test_load_decides_between_pods_that_are_as_near(writer: SegmentWriter, reader: SegmentReader) -> None:
    publish(writer, 3, Fairness(full_load=4, utilization_weight=3))
    writer.charge("ada", 10_000, 0, NOW)
    writer.users(NOW)
    held = [reader.decide("llama2-7b", "least-request", user="x") for _ in range(12)]
    for decision in [each for each in held if each.pod == "pod-0"]:
        reader.finish(decision)
    assert picks(reader, "ada", "vtc-basic,vtc-basic") == {"pod-0"}
    for decision in held:
        reader.finish(decision)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0, 60), st.integers(0, 5000), st.integers(0, 5000)), max_size=25
    ),
    st.floats(0, 200),
)
@EXAMPLES
def test_windows_hold_what_the_oracle_holds(
    writer: SegmentWriter, charges: list[tuple[str, float, int, int]], pause: float
) -> None:
    """The kernel cuts the window into sixty parts: a charge may be forgotten up to one part early."""
    window, now = 60.0, NOW + next(_epochs)
    publish(writer, fair=Fairness(window=timedelta(seconds=window)))
    done: list[tuple[str, float, int]] = []
    for user, later, read, made in charges:
        now += later
        writer.charge(user, read, made, now)
        done.append((user, now, read + 2 * made))
    now += pause
    for user in "abc":
        surely = sum(tokens for name, at, tokens in done if name == user and now - at < window - 1.01)
        perhaps = sum(tokens for name, at, tokens in done if name == user and now - at <= window)
        assert surely <= writer.user_tokens(user, now) <= perhaps


def test_invented_names_leave_those_who_are_active(writer: SegmentWriter, reader: SegmentReader) -> None:
    publish(writer)
    size = writer.totals().bytes
    for number in range(20_000):
        writer.charge(f"invented-{number}", 1, 0, NOW + number * 1e-4)
        if number % 50 == 0:
            writer.charge("ada", 1, 0, NOW + number * 1e-4)
    assert writer.user_tokens("ada", NOW + 2) == 400
    assert writer.totals().bytes == size
    spread = Counter(writer.user_tokens(f"invented-{number}", NOW + 2) for number in range(19_000, 20_000))
    assert spread[1.0] > 300
