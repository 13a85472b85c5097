"""How long 50 trivial pods take from creation to Running, and what they and the agent cost at rest.

Uses the cluster of KUBECONFIG and the agent whose state is in BRIXFLOW_HOME, and removes the pods.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from benchmarks.figure import Figure

LABEL = "benchmark=node-start"
TICKS = os.sysconf("SC_CLK_TCK")
PODS, IMAGE = 50, "busybox:1.36"
LIMIT_SECONDS, SETTLE_SECONDS, REST_SECONDS = 120.0, 5.0, 20.0


def kubectl(*words: str, given: bytes | None = None) -> bytes:
    """Runs kubectl; returns its output."""
    return subprocess.run(["kubectl", *words], input=given, check=True, capture_output=True).stdout


def manifest(count: int, image: str) -> bytes:
    """A list of `count` pods that only sleep."""
    container = {"name": "main", "image": image, "command": ["sleep", "100000"]}
    key, value = LABEL.split("=")
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"node-start-{at}", "labels": {key: value}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        }
        for at in range(count)
    ]
    return orjson.dumps({"apiVersion": "v1", "kind": "List", "items": pods})


def running() -> int:
    """How many of the pods are Running."""
    listed = orjson.loads(kubectl("get", "pods", "-l", LABEL, "-o", "json"))
    return sum(pod["status"].get("phase") == "Running" for pod in listed["items"])


def wait_until_running(count: int, limit: float) -> float:
    """Seconds until all are Running."""
    began = time.monotonic()
    while running() < count:
        if time.monotonic() - began > limit:
            raise SystemExit(f"only {running()} of {count} pods run after {limit:.0f} s")
        time.sleep(0.25)
    return time.monotonic() - began


def processes(home: Path) -> dict[str, list[int]]:
    """The agent's and the shims' process ids."""
    found: dict[str, list[int]] = {"agent": [], "shims": []}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if words[0] == str(home / "node" / "shim").encode():
            found["shims"].append(int(entry.name))
        elif f"BRIXFLOW_HOME={home}".encode() in environment and {b"local.node", b"node-agent"} & set(words):
            found["agent"].append(int(entry.name))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that the processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_kib(pids: list[int]) -> int:
    """Resident memory in KiB."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def figures() -> Iterator[Figure]:
    """Seconds until Running, then CPU at rest and memory of the agent and of the shims."""
    began = time.monotonic()
    kubectl("apply", "--server-side", "-f", "-", given=manifest(PODS, IMAGE))
    try:
        wait_until_running(PODS, LIMIT_SECONDS)
        yield Figure(f"{PODS} pods until Running", time.monotonic() - began, "s", "at most 15")
        time.sleep(SETTLE_SECONDS)
        yield from at_rest(processes(Path(os.environ["BRIXFLOW_HOME"]).absolute()))
    finally:
        kubectl("delete", "pods", "-l", LABEL, "--wait=true")


def at_rest(found: dict[str, list[int]]) -> Iterator[Figure]:
    before = {name: cpu_seconds(pids) for name, pids in found.items()}
    time.sleep(REST_SECONDS)
    shares = {name: 100 * (cpu_seconds(pids) - before[name]) / REST_SECONDS for name, pids in found.items()}
    yield Figure(f"agent and shims at rest with {PODS} pods", sum(shares.values()), "% of a core", "below 3")
    for name, pids in found.items():
        yield Figure(f"{name} ({len(pids)} processes): resident memory", memory_kib(pids) / 1024, "MiB")
