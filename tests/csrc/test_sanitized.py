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


STORES = ("mmap", "munmap", "memcpy", "memmove", "memset", "link", "rename")


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


@pytest.mark.parametrize("kills", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_kill_before_any_store_leaves_a_segment_that_serves_and_counts(
    tmp_path: Path, segment_path: Path, kills: int
) -> None:
    """Each of four lives is ended so many times: 3,000 is before every single store of each."""
    flags = ["-std=c11", "-O0", "-Wall", "-Wextra", "-Werror", "-c"]
    kernel = [str(ROOT / each) for each in sources()]
    subprocess.run(["gcc", *flags, "-I", str(ROOT / "csrc"), "-fsanitize=thread", *kernel], cwd=tmp_path, check=True)
    given = [str(ROOT / "tests" / "csrc" / each) for each in ("kills.c", "stores.c")]
    subprocess.run(["gcc", *flags, "-I", str(ROOT / "csrc"), *given], cwd=tmp_path, check=True)
    wraps = "-Wl," + ",".join(f"--wrap={each}" for each in STORES)
    program = tmp_path / "kills"
    subprocess.run(["gcc", *map(str, tmp_path.glob("*.o")), wraps, "-o", str(program)], check=True)
    done = subprocess.run([program, segment_path, str(kills)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.parametrize("of", ["range", "bytes"])
def test_each_vector_path_agrees_with_its_reference(tmp_path: Path, of: str) -> None:
    command = ["gcc", *FLAGS, *MEMORY, "-Icsrc", f"tests/csrc/{of}.c", "-o", str(tmp_path / of)]
    subprocess.run(command, cwd=ROOT, check=True)
    done = subprocess.run([tmp_path / of], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "agree\n"), done.stdout + done.stderr
