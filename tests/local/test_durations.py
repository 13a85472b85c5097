"""Durations of steps are remembered and said before the step is done again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import local.progress
from local.durations import Durations, spoken
from local.progress import Steps


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (9.96, "10.0 s"), (12.4, "12 s"), (60, "1 min 0 s"), (290, "4 min 50 s")]
)
def test_durations_are_spoken_as_people_do(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


def test_a_duration_is_remembered_by_its_step(tmp_path: Path) -> None:
    durations = Durations(tmp_path / "durations.json")
    assert durations.last("building") is None
    durations.remember("building", 290.04)
    durations.remember("starting", 5)
    assert Durations(tmp_path / "durations.json").last("building") == 290.0


def test_a_broken_file_counts_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    for content in ("{", "[1]", '{"a": "x"}'):
        path.write_text(content)
        assert Durations(path).last("a") is None
    Durations(path).remember("a", 1)
    assert Durations(path).last("a") == 1


def test_a_step_says_what_is_done_and_how_long_it_took_last_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.progress, "SHORT_STEP_SECONDS", 0.0)
    durations = Durations(tmp_path / "durations.json")
    durations.remember("building", 290)
    output = io.StringIO()
    with Steps(Console(file=output, width=100), durations).step("building"):
        pass
    before, after = output.getvalue().splitlines()
    assert before == "  building ... (last time 4 min 50 s)"
    assert after.split() == ["building", "0.0", "s"]
    assert durations.last("building") == 0.0


def test_a_failed_step_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.progress, "SHORT_STEP_SECONDS", 0.0)
    durations = Durations(tmp_path / "durations.json")
    with pytest.raises(OSError, match="no space"), Steps(Console(file=io.StringIO()), durations).step("building"):
        raise OSError("no space")
    assert durations.last("building") is None
