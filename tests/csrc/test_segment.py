"""The segment's rules: one writer, adoption, slots that the system frees, places and their generations."""

from __future__ import annotations

import json
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from csrc.binding import (
    End,
    LimitReached,
    Limits,
    Origin,
    Outcome,
    Pod,
    SegmentMissing,
    SegmentReader,
    SegmentWriter,
    Settings,
    Verdict,
    WriterBusy,
)
from tests.csrc.conftest import LIMITS
from tests.csrc.messages import CHAT, Request, chat, pod
from tests.csrc.segments import (
    READER_PROCESS,
    SMALL,
    WRITER_PROCESS,
    endings_of,
    open_soon,
    process,
    running,
    small_segment,
    tell,
)


def test_no_segment_before_the_first_publish(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        assert writer.origin is Origin.CREATED
        with pytest.raises(SegmentMissing):
            SegmentReader.open(segment_path)
        writer.publish({})
        SegmentReader.open(segment_path).close()
    assert segment_path.stat().st_mode & 0o777 == 0o660
    assert not segment_path.with_name("segment.new").exists()


def test_there_is_exactly_one_writer(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({})
        with pytest.raises(WriterBusy):
            SegmentWriter.open(segment_path, SMALL)
    SegmentWriter.open(segment_path, SMALL).close()


def test_a_missing_folder_is_the_systems_refusal(segment_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SegmentWriter.open(segment_path.parent / "nowhere" / "segment", SMALL)


def test_memory_that_is_not_there_is_the_writers_error_and_leaves_no_file(segment_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError, match="refused"):
            SegmentWriter.open(segment_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [entry.name for entry in segment_path.parent.iterdir()] == ["segment.lock"]


def test_absurd_limits_are_refused(segment_path: Path) -> None:
    for limits in (Limits(readers=65), Limits(pods=0), Limits(models=1 << 20), Limits(text_bytes=1)):
        with pytest.raises(Exception, match="open segment"):
            SegmentWriter.open(segment_path, limits)


def test_a_writer_killed_in_mid_write_is_followed_by_one_that_adopts(segment_path: Path) -> None:
    for attempt in range(8):
        with process(WRITER_PROCESS, segment_path) as child:
            deadline = time.monotonic() + 20
            while not segment_path.exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            with SegmentReader.open(segment_path, flows=8) as reader:
                for number in range(200):
                    decision = reader.decide("llama2-7b", random=number)
                    assert decision.verdict is Verdict.CHOSEN
                    assert decision.address == decision.pod.replace("pod-", "10.86.0.") + ":8000"
                    reader.finish(decision)
                child.send_signal(signal.SIGKILL)
                child.wait()
                assert reader.decide("llama2-7b").verdict is Verdict.CHOSEN
        with SegmentWriter.open(segment_path, LIMITS) as writer:
            assert writer.origin is Origin.ADOPTED
            writer.publish({"llama2-7b": [pod(1)]}, Settings(default_strategy="random"))
            writer.sweep()
            totals = writer.totals()
            assert totals.anomalies == 0
            assert running(writer) == {}, attempt


def test_an_adopted_segment_keeps_places_counts_and_totals(segment_path: Path) -> None:
    pods = [pod(1), pod(2)]
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        writer.publish({"llama2-7b": pods})
        reader = SegmentReader.open(segment_path, flows=8)
        held = [reader.decide("llama2-7b", "least-request", random=number) for number in range(6)]
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        assert writer.origin is Origin.ADOPTED
        writer.publish({"other": [pod(9)], "llama2-7b": list(reversed(pods))})
        assert running(writer) == {"pod-1": 3, "pod-2": 3}
        for decision in held:
            reader.finish(decision)
        assert running(writer) == {}
        assert {pod.name: pod.routed for pod in writer.totals().pods} == {"pod-9": 0, "pod-2": 3, "pod-1": 3}
    reader.close()


def test_two_reader_processes_count_on_one_pod_and_a_killed_ones_share_goes(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        writer.publish({"llama2-7b": [pod(1)]})
        with process(READER_PROCESS, segment_path, 5) as first, process(READER_PROCESS, segment_path, 7) as second:
            assert running(writer) == {"pod-1": 12}
            assert writer.sweep().slots_live == 2
            second.send_signal(signal.SIGKILL)
            second.wait()
            swept = writer.sweep()
            assert (swept.slots_freed, swept.slots_live) == (1, 1)
            assert running(writer) == {"pod-1": 5}
            assert tell(first, "finish") == "finished"
            assert running(writer) == {}
            assert writer.totals().pods[0].routed == 12
        writer.sweep()
        assert writer.totals().readers == 0


def test_a_dead_readers_cumulative_counters_stay(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        writer.publish({"llama2-7b": [pod(1)]}, Settings(default_strategy="random"))
        for round_number in range(1, 4):
            with SegmentReader.open(segment_path, flows=8) as reader:
                request = Request(reader)
                request.headers()
                request.body(chat())
                request.answer_headers(end=True)
                Request(reader)
                request.close()
            writer.sweep()
            totals = writer.totals()
            model = next(model for model in totals.models if model.name == "llama2-7b")
            assert model.endings == {(Outcome.OK, 200): round_number}
            assert totals.requests == 2 * round_number
            assert totals.in_flight == 0
            assert totals.pods[0].routed == round_number
            assert totals.decisions == {"random": round_number}


def test_what_dead_readers_counted_is_kept_exactly_when_writers_die_in_mid_sweep(segment_path: Path) -> None:
    dice, made = random.Random(3), 0
    for _ in range(8):
        with process(WRITER_PROCESS, segment_path) as child:
            for _ in range(dice.randrange(10, 40)):
                with open_soon(segment_path) as reader:
                    for number in range(5):
                        reader.finish(reader.decide("llama2-7b", random=number))
                        made += 1
            time.sleep(dice.random() / 500)
            child.send_signal(signal.SIGKILL)
            child.wait()
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        assert writer.totals().decisions == {"random": made}
        writer.sweep()
        assert writer.totals().decisions == {"random": made}
        assert writer.totals().anomalies == 0


def test_slots_run_out_and_come_back(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({})
        readers = [SegmentReader.open(segment_path, flows=1) for _ in range(2)]
        with pytest.raises(LimitReached):
            SegmentReader.open(segment_path, flows=1)
        readers.pop().close()
        with pytest.raises(LimitReached):
            SegmentReader.open(segment_path, flows=1)
        writer.sweep()
        readers.append(SegmentReader.open(segment_path, flows=1))
        for reader in readers:
            reader.close()


def test_a_place_is_reused_only_when_nothing_counts_on_it(segment_path: Path) -> None:
    with small_segment(segment_path) as (writer, reader):
        writer.publish({"m": [pod(1), pod(2), pod(3)]})
        held = {name: reader.decide("m", "least-request", random=5) for name in "abc"}
        writer.publish({"m": []})
        assert writer.sweep().places_held == 3
        with pytest.raises(LimitReached):
            writer.publish({"m": [pod(4)]})
        reader.finish(held["a"])
        swept = writer.sweep()
        assert (swept.places_freed, swept.places_held) == (1, 2)
        writer.publish({"m": [pod(4)]})
        decision = reader.decide("m", "least-request")
        assert decision.pod == "pod-4"
        for late in (held["b"], held["c"]):
            reader.finish(late)
        assert running(writer) == {"pod-4": 1}
        reader.finish(decision)
        assert writer.totals().anomalies == 0


def test_a_pod_that_comes_back_finds_its_count(segment_path: Path) -> None:
    with small_segment(segment_path) as (writer, reader):
        writer.publish({"m": [pod(1)]})
        decision = reader.decide("m", "random")
        writer.publish({"m": []})
        writer.sweep()
        writer.publish({"m": [pod(1)]})
        assert running(writer) == {"pod-1": 1}
        reader.finish(decision)
        assert running(writer) == {}


def test_a_new_pod_of_the_same_name_starts_at_zero(segment_path: Path) -> None:
    with small_segment(segment_path) as (writer, reader):
        writer.publish({"m": [pod(1)]})
        decision = reader.decide("m", "random")
        again = Pod("another-uid", "default", "pod-1", "10.86.0.1:8000", ready=True)
        writer.publish({"m": [again]})
        assert running(writer) == {}
        reader.finish(decision)
        assert running(writer) == {}
        assert writer.totals().anomalies == 0


def test_a_model_keeps_its_series_and_gives_its_place_to_another_when_all_are_taken(segment_path: Path) -> None:
    with small_segment(segment_path) as (writer, reader):
        for name in ("a", "b", "a", "c", "d", "e"):
            writer.publish({name: [pod(1)]}, Settings(default_strategy="random"))
            request = Request(reader)
            request.headers()
            request.body(chat(name))
            request.close(End.SHUTDOWN)
            expected = 2 if name == "a" and endings_of(writer, "a") != {(Outcome.SHUTDOWN, 503): 1} else 1
            assert endings_of(writer, name) == {(Outcome.SHUTDOWN, 503): expected}
        assert sum(bool(model.name) for model in writer.totals().models) == 2


def test_publishing_does_not_wait_for_readers_nor_readers_for_it(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        writer.publish({"m": [pod(1)]})
        with SegmentReader.open(segment_path, flows=4) as reader:
            for number in range(500):
                writer.publish({"m": [pod(number)]})
                writer.sweep()
                decision = reader.decide("m", "random")
                assert decision.pod == f"pod-{number}"
                reader.finish(decision)


def test_a_request_sees_the_settings_of_its_moment(
    segment_path: Path, start: Callable[..., Request], writer: SegmentWriter
) -> None:
    request = start()
    writer.publish({"llama2-7b": [pod(1)]}, Settings(api_key="k", default_strategy="random"))
    assert request.headers(path=CHAT).status == 401
    assert json.loads(start().headers(path=CHAT).body or b"")["error"]["code"] == "invalid_api_key"
