"""Segments that replace others: other limits, foreign files, damage, and more than the limits hold."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from csrc.binding import (
    Limits,
    Origin,
    Outcome,
    Pod,
    SegmentForeign,
    SegmentReader,
    SegmentWriter,
    Settings,
    Verdict,
)
from tests.csrc.conftest import LIMITS
from tests.csrc.messages import Request, chat, pod
from tests.csrc.segments import (
    CHECKOUT,
    SMALL,
    endings_of,
    running,
    small_segment,
)


def test_other_limits_make_a_successor_that_readers_follow(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({"m": [pod(1)]}, Settings(default_strategy="random"))
        reader = SegmentReader.open(segment_path, flows=8)
        done, begun = Request(reader), Request(reader)
        for request in (done, begun):
            request.headers()
            request.body(chat("m"))
        done.answer_headers(end=True)
        done.close()
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        assert writer.origin is Origin.REPLACED
        assert reader.decide("ghost").verdict is Verdict.UNKNOWN_MODEL
        writer.publish({"m": [pod(1)], "n": [pod(2)]}, Settings(default_strategy="random"))
        fresh = reader.decide("n")
        assert fresh.verdict is Verdict.CHOSEN
        assert running(writer) == {"pod-2": 1}
        begun.answer_headers(end=True)
        begun.close()
        reader.finish(fresh)
        writer.sweep()
        totals = writer.totals()
        assert totals.anomalies == 0
        assert totals.requests == 2
        assert endings_of(writer, "m") == {(Outcome.OK, 200): 2}
        reader.close()
        writer.sweep()
        assert endings_of(writer, "m") == {(Outcome.OK, 200): 2}


def test_a_decision_that_outlives_its_segment_is_finished_there(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({"m": [pod(1)]})
        reader = SegmentReader.open(segment_path, flows=8)
        decision = reader.decide("m", "random")
    with SegmentWriter.open(segment_path, LIMITS) as writer:
        writer.publish({"m": [pod(1)]})
        later = reader.decide("m", "random")
        reader.finish(decision)
        assert running(writer) == {"pod-1": 1}
        reader.finish(later)
        assert running(writer) == {}
        assert writer.totals().anomalies == 0
    reader.close()


def test_many_successors_are_followed(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({"m": [pod(1)]})
    with SegmentReader.open(segment_path, flows=8) as reader:
        for number in range(20):
            with SegmentWriter.open(
                segment_path, Limits(models=4 + number, pods=8, members=8, text_bytes=4096, readers=2)
            ) as writer:
                writer.publish({"m": [pod(number)]})
            decision = reader.decide("m", "random")
            assert decision.pod == f"pod-{number}"
            reader.finish(decision)


@pytest.mark.parametrize("damage", ["foreign", "magic", "major", "short", "limits", "empty"])
def test_a_foreign_or_damaged_file_is_refused_and_replaced(segment_path: Path, damage: str) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({"m": [pod(1)]})
    spoil(segment_path, damage)
    spoiled = segment_path.read_bytes()
    with pytest.raises(SegmentForeign):
        SegmentReader.open(segment_path)
    with SegmentWriter.open(segment_path, SMALL) as writer:
        assert writer.origin is Origin.REPLACED
        writer.publish({"m": [pod(1)]})
        with SegmentReader.open(segment_path, flows=4) as reader:
            assert reader.decide("m", "random").verdict is Verdict.CHOSEN
    assert segment_path.with_name("segment.foreign").read_bytes() == spoiled


def spoil(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    match damage:
        case "foreign":
            content = bytearray(b"something else\n" * 1000)
        case "magic":
            content[0] ^= 1
        case "major":
            content[8] += 1
        case "short":
            content = content[:-4096]
        case "limits":
            content[32:52] = b"\xff" * 20
        case "empty":
            content.clear()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(6))
def test_a_segment_full_of_rubbish_never_crashes_a_reader(segment_path: Path, seed: int) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({"m": [pod(1), pod(2)]}, Settings(default_strategy="least-request"))
    content = bytearray(segment_path.read_bytes())
    dice = random.Random(seed)
    for _ in range(4000):
        at = dice.randrange(4096, len(content))
        content[at] = dice.randrange(256)
    segment_path.write_bytes(content)
    program = (
        "import sys\nfrom csrc.binding import SegmentReader\nreader = SegmentReader.open(sys.argv[1], flows=4)\n"
        "for n in range(300):\n    reader.finish(reader.decide('m', filter_text='!a', random=n))\nprint('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(segment_path)], capture_output=True, text=True, cwd=CHECKOUT, check=False
    )
    assert done.returncode in {0, 1}, done
    assert "alive" in done.stdout or "LimitReached" in done.stderr


def test_too_much_leaves_the_last_topology_in_force(segment_path: Path) -> None:
    with small_segment(segment_path) as (writer, reader):
        writer.publish({"m": [pod(1)]})
        too_much: list[dict[str, list[Pod]]] = [
            {"a": [], "b": [], "c": []},
            {"a": [pod(number) for number in range(4)]},
            {"a": [pod(1), pod(2), pod(3)], "b": [pod(1), pod(2)]},
            {"a": [pod(1, note="x" * 3000)]},
            {"x" * 300: []},
            {"": []},
        ]
        for models in too_much:
            with pytest.raises(Exception, match=r"model|pod|publish"):
                writer.publish(models)
            decision = reader.decide("m", "random")
            assert decision.pod == "pod-1"
            reader.finish(decision)


def as_minor(path: Path, minor: int) -> None:
    """Let the file at the path say that it is of this minor version (header: magic, major, minor)."""
    with path.open("r+b") as file:
        file.seek(12)
        file.write(minor.to_bytes(4, "little"))


def test_a_reader_serves_from_a_segment_of_the_first_minor_version(segment_path: Path) -> None:
    """It has no gauges: what needs them picks evenly, until the collector is newer, too."""
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({"m": [pod(1), pod(2)]})
        writer.set_gauges("uid-1", 1000.0, {"kv_cache": 0.1})
        writer.set_gauges("uid-2", 1000.0, {"kv_cache": 0.9})
    as_minor(segment_path, 0)
    with SegmentReader.open(segment_path, flows=4) as reader:
        for strategy in ("least-kv-cache", "least-request,least-latency", "least-request"):
            assert picked(reader, strategy) == {"pod-1", "pod-2"}
        with SegmentWriter.open(segment_path, SMALL) as writer:
            assert writer.origin is Origin.REPLACED
            writer.publish({"m": [pod(1), pod(2)]})
            writer.set_gauges("uid-1", 1000.0, {"kv_cache": 0.1})
            writer.set_gauges("uid-2", 1000.0, {"kv_cache": 0.9})
            assert picked(reader, "least-kv-cache") == {"pod-1"}
            assert writer.totals().without_data == {}


def test_a_segment_of_a_later_minor_version_is_adopted_and_read(segment_path: Path) -> None:
    with SegmentWriter.open(segment_path, SMALL) as writer:
        writer.publish({"m": [pod(1)]})
    as_minor(segment_path, 9)
    with SegmentReader.open(segment_path, flows=4) as reader, SegmentWriter.open(segment_path, SMALL) as writer:
        assert writer.origin is Origin.ADOPTED
        writer.publish({"m": [pod(1)]})
        assert picked(reader, "least-kv-cache") == {"pod-1"}


def picked(reader: SegmentReader, strategy: str) -> set[str]:
    found = set()
    for seed in range(40):
        decision = reader.decide("m", strategy, random=seed * 7919, now=1001)
        reader.finish(decision)
        found.add(decision.pod)
    return found
