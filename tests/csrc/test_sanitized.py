"""The kernel under the sanitizers: mutated input for memory and behaviour, threads over one mapping for races."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from csrc.build_binding import ROOT, module_sources, sources

SECONDS = 4
FLAGS = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]
MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
THREADS = ["-fsanitize=thread", "-Wl,--wrap=mmap,--wrap=munmap", "-lpthread"]


def build(source: str, flags: list[str], folder: Path, more: list[str] | None = None) -> Path:
    program = folder / source.removesuffix(".c")
    given = [f"tests/csrc/{source}", *sources(), *(more or [])]
    command = ["gcc", *FLAGS, "-Icsrc", *given, "-o", str(program), *flags]
    subprocess.run(command, cwd=ROOT, check=True)
    return program


def test_mutated_requests_touch_no_memory_of_others_and_finish_once(tmp_path: Path, segment_path: Path) -> None:
    fuzzer = build("fuzz.c", MEMORY, tmp_path)
    done = subprocess.run([fuzzer, segment_path, str(SECONDS), "7"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one finished once" in done.stdout


def test_every_order_of_envoys_hooks_finishes_each_request_once(tmp_path: Path, segment_path: Path) -> None:
    host = build("envoy_host.c", MEMORY, tmp_path, module_sources())
    done = subprocess.run([host, segment_path, str(SECONDS), "11"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one finished once" in done.stdout


def test_writer_and_readers_race_nowhere(tmp_path: Path, segment_path: Path) -> None:
    threads = build("threads.c", THREADS, tmp_path)
    done = subprocess.run([threads, segment_path, str(SECONDS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ThreadSanitizer" not in done.stderr


@pytest.mark.parametrize("of", ["range", "bytes"])
def test_each_vector_path_agrees_with_its_reference(tmp_path: Path, of: str) -> None:
    command = ["gcc", *FLAGS, *MEMORY, "-Icsrc", f"tests/csrc/{of}.c", "-o", str(tmp_path / of)]
    subprocess.run(command, cwd=ROOT, check=True)
    done = subprocess.run([tmp_path / of], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "agree\n"), done.stdout + done.stderr
