"""The kernel under the sanitizers: mutated input for memory and behaviour, threads over one mapping for races."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csrc.build_binding import ROOT, module_sources, sources

SECONDS = 4
WARNINGS = ["-std=c11", "-g", "-Wall", "-Wextra", "-Werror", "-Icsrc"]
FLAGS = [*WARNINGS, "-O1"]
MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COVERED = ["-fsanitize-coverage=trace-pc,trace-cmp"]
THREADS = ["-fsanitize=thread"]
MAPPED = ["-Wl,--wrap=mmap,--wrap=munmap", "-lpthread"]
STORES = "-Wl,--wrap=mmap,--wrap=munmap,--wrap=memcpy,--wrap=memmove,--wrap=memset,--wrap=link,--wrap=rename"
TARGETS = ("body", "page", "segment", "answer")


def gcc(*arguments: str | Path) -> None:
    subprocess.run(["gcc", *map(str, arguments)], cwd=ROOT, check=True)


def objects(folder: Path, given: list[str], flags: list[str]) -> list[Path]:
    """The sources compiled, two at a time."""
    made = [folder / f"{Path(source).stem}.o" for source in given]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: gcc(*flags, "-c", pair[0], "-o", pair[1]), zip(given, made, strict=True)))
    return made


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The kernel under AddressSanitizer and UndefinedBehaviorSanitizer, telling its coverage."""
    return objects(tmp_path_factory.mktemp("checked"), sources(), [*FLAGS, *MEMORY, *COVERED])


@pytest.fixture(scope="module")
def announced(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The kernel, announcing each access to memory: to ThreadSanitizer, or to tests/csrc/stores.c."""
    return objects(tmp_path_factory.mktemp("announced"), sources(), [*FLAGS, *THREADS])


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Link objects and sources of this folder, run the program, return what it printed."""

    def link_and_run(given: list[str | Path], *arguments: object) -> str:
        program = tmp_path / "program"
        gcc(*FLAGS, *given, "-o", program)
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Sanitizer" not in done.stderr
        return done.stdout

    return link_and_run


def test_mutated_requests_touch_no_memory_of_others_and_finish_once(
    checked: list[Path], run: Callable[..., str], segment_path: Path
) -> None:
    given = ["tests/csrc/fuzz.c", "tests/csrc/targets/quiet.c", *checked, *MEMORY]
    assert "every one finished once" in run(given, segment_path, SECONDS, 7)


def test_every_order_of_envoys_hooks_finishes_each_request_once(
    checked: list[Path], run: Callable[..., str], segment_path: Path
) -> None:
    cut = ["-DBRIX_MODULE_HOOK_NS=0", "-DBRIX_MODULE_COUNTED=16u"]  # every hook that counts stops after 16 bytes
    given = ["tests/csrc/envoy_host.c", "tests/csrc/targets/quiet.c", *module_sources(), *checked, *MEMORY, *cut]
    assert "every one finished once" in run(given, segment_path, SECONDS, 11)


def test_writer_and_readers_race_nowhere(announced: list[Path], run: Callable[..., str], segment_path: Path) -> None:
    run(["tests/csrc/threads.c", *announced, *THREADS, *MAPPED], segment_path, SECONDS)


@pytest.mark.parametrize("kills", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_kill_before_any_store_leaves_a_segment_that_serves_and_counts(
    announced: list[Path], run: Callable[..., str], segment_path: Path, kills: int
) -> None:
    """Each of four lives is ended so many times: 3,000 is before every single store of each."""
    given = ["tests/csrc/kills.c", "tests/csrc/stores.c", *announced, STORES]
    assert run(given, segment_path, kills).count(f"{kills} kills") == 4


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", TARGETS)
def test_inputs_that_reach_ever_more_code_break_nothing(
    checked: list[Path], run: Callable[..., str], tmp_path: Path, target: str, seconds: int
) -> None:
    """An input that breaks something is left in the test's folder as `crash`."""
    given = [f"tests/csrc/targets/{target}.c", "tests/csrc/targets/guided.c", *checked, *MEMORY]
    told = run(given, seconds, 3, tmp_path / "crash")
    runs, kept = int(told.split()[0]), int(told.split()[2])
    assert (runs > 100, kept > 5) == (True, True), told


@pytest.mark.parametrize("of", ["range", "bytes"])
def test_each_vector_path_agrees_with_its_reference(run: Callable[..., str], of: str) -> None:
    assert run([f"tests/csrc/{of}.c", *MEMORY]) == "agree\n"
