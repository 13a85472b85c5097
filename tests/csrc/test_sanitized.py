"""The kernel compiled under AddressSanitizer and UndefinedBehaviorSanitizer, and driven with mutated input."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from csrc.build_binding import ROOT, sources

SECONDS = 4
FLAGS = [
    "-std=c11",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "fuzz"
    command = ["gcc", *FLAGS, "-Icsrc", "tests/csrc/fuzz.c", *sources(), "-o", str(program)]
    subprocess.run(command, cwd=ROOT, check=True)
    return program


def test_mutated_requests_touch_no_memory_of_others_and_finish_once(fuzzer: Path, segment_path: Path) -> None:
    done = subprocess.run([fuzzer, segment_path, str(SECONDS), "7"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one finished once" in done.stdout
