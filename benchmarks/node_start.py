"""How long 50 trivial pods take from creation to Running, and what they and the agent cost at rest.

    python benchmarks/node_start.py [--pods 50] [--image busybox:1.36] [--rest 30]

Uses the cluster of KUBECONFIG and the agent whose state is in BRIXFLOW_HOME; prints a table. Removes the pods.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

import orjson

LABEL = "benchmark=node-start"
TICKS = os.sysconf("SC_CLK_TCK")


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


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=50)
    parser.add_argument("--image", default="busybox:1.36")
    parser.add_argument("--rest", type=float, default=30.0)
    options = parser.parse_args()
    began = time.monotonic()
    kubectl("apply", "--server-side", "-f", "-", given=manifest(options.pods, options.image))
    created = time.monotonic() - began
    try:
        seconds = created + wait_until_running(options.pods, 120)
        time.sleep(5)
        found = processes(Path(os.environ["BRIXFLOW_HOME"]).absolute())
        before = {name: cpu_seconds(pids) for name, pids in found.items()}
        time.sleep(options.rest)
        print(f"{options.pods} pods: {created:.1f} s to create, {seconds:.1f} s until Running")
        for name, pids in found.items():
            share = 100 * (cpu_seconds(pids) - before[name]) / options.rest
            print(f"{name}: {len(pids)} processes, {share:.2f} % of a core at rest, {memory_kib(pids) / 1024:.1f} MiB")
    finally:
        kubectl("delete", "pods", "-l", LABEL, "--wait=true")


if __name__ == "__main__":
    main()
