"""Resident memory and idle CPU of each part of the running local system.

Memory is the proportional set size of a part and of all its descendants, so that shared pages count once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.node_start import processes
from local.settings import LocalSettings

IDLE_SECONDS = 20.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def figures() -> Iterator[Figure]:
    """One pair of lines a part, and the sums. Raises SystemExit when no system runs."""
    trees = {name: descendants(pid) for name, pid in running_parts().items()}
    shims = processes(LocalSettings.from_environment().home)["shims"]
    trees[f"{len(shims)} pods"] = [pid for shim in shims for pid in descendants(shim)]
    before = {name: cpu_seconds(pids) for name, pids in trees.items()}
    time.sleep(IDLE_SECONDS)
    idle = {name: (cpu_seconds(pids) - before[name]) / IDLE_SECONDS * 100 for name, pids in trees.items()}
    memory = {name: sum(map(proportional_mib, pids)) for name, pids in trees.items()}
    for name in trees:
        yield Figure(f"{name}: resident memory", memory[name], "MiB")
        yield Figure(f"{name}: idle CPU", idle[name], "% of a core")
    yield Figure("whole system: resident memory", sum(memory.values()), "MiB", "at most 2,500")
    yield Figure("whole system: idle CPU", sum(idle.values()), "% of a core")


def running_parts() -> dict[str, int]:
    command = [str(Path(sys.executable).parent / "brixflow"), "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    parts = json.loads(done.stdout or "{}").get("parts", [])
    pids = {part["name"]: part["pid"] for part in parts if part.get("pid")}
    if not pids:
        raise SystemExit("resident: no local system runs; `make up` first")
    return pids


def descendants(root: int) -> list[int]:
    """The process and everything below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, []))
    return found


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_SECOND


def proportional_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
