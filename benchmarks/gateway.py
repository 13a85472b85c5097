"""Requests per second through bare Envoy and through Envoy with the gateway, inside it and beside it, and their ratios.

    python -m benchmarks.gateway [--starts 3] [--rounds 2] [--seconds 4] [--body-kb 1 --body-kb 16]

wrk with 32 connections asks eight nginx servers with a fixed answer. All fronts render the shipped Envoy configuration;
the one called "bare" lacks the gateway's filter and spreads over a static cluster. Sides alternate within a round, so
that a noisy machine hits all of them. All Envoys are started anew after some rounds: how one lies in memory is worth a
tenth of its speed for as long as it lives. Needs `wrk` and `nginx` (Debian packages `wrk` and `nginx-light`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import chunks
from benchmarks.figure import Figure, machine
from csrc.binding import Pod, SegmentWriter, Settings
from gateway.envoy import EnvoyValues, environment_for, render
from gateway.settings import GatewaySettings, Host
from gateway.tokens import provide

ENGINES = 8
CONNECTIONS = 32
WARM_UP_SECONDS = 2
MODEL = "bench"
BARE = "bare"
TARGETS = {(Host.MODULE, 1): 0.80, (Host.MODULE, 16): 0.85, (Host.GRPC, 1): 0.10}
ENVOY = Path(sys.executable).parent / "envoy"
ANSWER = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a fixed answer"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 8, "total_tokens": 208},
})  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What wrk saw in one run."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


def missing_programs() -> list[str]:
    """What has to be installed first."""
    programs = {"wrk": shutil.which("wrk"), "nginx": shutil.which("nginx"), "envoy": ENVOY.exists()}
    return [name for name, found in programs.items() if not found]


Measured = dict[str, list[Run]]
"""All runs with one body, by front."""


def figures(starts: int = 3, rounds: int = 2, seconds: int = 4, sizes_kb: Sequence[int] = (1, 16)) -> list[Figure]:
    """Medians over all rounds of each front and body size, and the ratio of their requests per second to bare Envoy."""
    if missing := missing_programs():
        raise SystemExit(f"missing: {', '.join(missing)} (apt-get install wrk nginx-light)")
    measured: dict[int, Measured] = {size: {} for size in sizes_kb}
    for start in range(starts):
        with tempfile.TemporaryDirectory(prefix="brixbench-") as folder, fronts(Path(folder)) as ports:
            for size, runs in measured.items():
                measure(ports, write_script(Path(folder), size), rounds, seconds, runs)
            if start == 0:
                found = [stream(Path(folder), name, port, seconds) for name, port in ports.items()]
    for size, runs in measured.items():
        for front in runs:
            print(line(front, size, runs))
            found += medians(f"{front} {size} KB", runs[front])
        found += [
            Figure(f"{host} {size} KB: ratio to bare Envoy", ratio(host, runs), "", target(host, size)) for host in Host
        ]
    return found


def stream(folder: Path, front: str, port: int, seconds: int) -> Figure:
    """Response chunks a second that one front passes on."""
    run = ask(port, chunks.write_script(folder), seconds)
    assert run.failed == 0, f"{front}: {run.failed} streams failed"
    rate = run.requests_per_second * chunks.CHUNKS
    print(f"{front}: {rate:,.0f} response chunks/s")
    return Figure(f"{front}: response chunks", rate, "1/s")


def measure(ports: Mapping[str, int], script: Path, rounds: int, seconds: int, runs: Measured) -> None:
    """Add `rounds` runs of each front to `runs`."""
    for port in ports.values():
        ask(port, script, WARM_UP_SECONDS)
    for _ in range(rounds):
        for name, port in ports.items():
            runs.setdefault(name, []).append(ask(port, script, seconds))


def line(front: str, size: int, runs: Measured) -> str:
    """One front and body size in words."""
    rate = statistics.median(run.requests_per_second for run in runs[front])
    p99 = statistics.median(run.p99_ms for run in runs[front])
    return f"{front} {size} KB: {rate:,.0f} requests/s, p99 {p99:.1f} ms, ratio {ratio(front, runs):.2f}"


def target(host: Host, size: int) -> str:
    """What was promised for this host and body size."""
    promised = TARGETS.get((host, size))
    return f">= {promised:.2f}" if promised else ""


def medians(name: str, runs: list[Run]) -> list[Figure]:
    """Medians of one front."""
    return [
        Figure(f"{name}: requests", statistics.median(run.requests_per_second for run in runs), "1/s"),
        Figure(f"{name}: p50", statistics.median(run.p50_ms for run in runs), "ms"),
        Figure(f"{name}: p99", statistics.median(run.p99_ms for run in runs), "ms"),
        Figure(f"{name}: failed", sum(run.failed for run in runs), "", "0"),
    ]


def ratio(front: str, runs: Measured) -> float:
    """Median over the rounds of this front over bare Envoy: neighbours in time are compared."""
    pairs = zip(runs[front], runs[BARE], strict=True)
    return statistics.median(ours.requests_per_second / bare.requests_per_second for ours, bare in pairs)


@contextlib.contextmanager
def fronts(folder: Path, *pace: str) -> Iterator[dict[str, int]]:
    """All Envoys with everything behind them; the port of each. `pace` is that of the engine that streams."""
    engines = [free_port() for _ in range(ENGINES)]
    given = {
        "BRIXFLOW_SEGMENT_PATH": str(folder / "segment"),
        "BRIXFLOW_GATEWAY_HOST": Host.GRPC,
        "BRIXFLOW_EXT_PROC_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    settings = GatewaySettings.from_environment(given)
    values = {name: envoy_values(folder, settings, name) for name in (BARE, *Host)}
    with contextlib.ExitStack() as stack, SegmentWriter.open(settings.segment_path) as writer:
        source = free_port()
        models = {MODEL: pods(engines), chunks.MODEL: pods([source])}
        writer.publish(models, Settings(default_strategy="least-request"))
        assert provide(settings.segment_path), "no vocabulary: embeddings would not be counted"
        run(stack, folder, "nginx", "nginx", "-c", str(write_nginx(folder, engines)))
        run(stack, folder, "chunks", sys.executable, "-m", "benchmarks.chunks", str(source), *pace)
        for index in range(settings.processes):
            command = (sys.executable, "-m", "gateway.ext_proc", str(index))
            run(stack, folder, f"ext_proc-{index}", *command, env=os.environ | given)
        for name, one in values.items():
            text = without_gateway(render(one), engines, source) if name == BARE else render(one)
            run_envoy(stack, folder, name, text, environment_for(one))
        wait_for(lambda: all(Path(each.removeprefix("unix:")).exists() for each in settings.sockets))
        ports = {name: one.listen_port for name, one in values.items()}
        wait_for(lambda: all(answers(port) for port in ports.values()))
        yield ports


def pods(engines: list[int]) -> list[Pod]:
    """The engines as the collector would tell the kernel."""
    return [
        Pod(key=f"uid-{port}", namespace="bench", name=f"engine-{port}", address=f"127.0.0.1:{port}", ready=True)
        for port in engines
    ]


def envoy_values(folder: Path, settings: GatewaySettings, name: str) -> EnvoyValues:
    """The shipped configuration on ports of its own."""
    return EnvoyValues(
        host=Host.MODULE if name == BARE else Host(name), segment=settings.segment_path, ext_proc=settings.sockets,
        listen_port=free_port(), admin_port=free_port(), http="127.0.0.1:9",
        access_log=folder / f"{name}-access.log", listen_address="127.0.0.1",
    )  # fmt: skip


def without_gateway(text: str, engines: list[int], source: int) -> str:
    """The same Envoy without the gateway: every request goes round-robin to the engines, streams to their source."""
    config: dict[str, Any] = yaml.safe_load(text)
    resources = config["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = manager["http_filters"][1:]
    (host,) = manager["route_config"]["virtual_hosts"]
    streams = {"prefix": "/", "headers": [{"name": chunks.HEADER, "present_match": True}]}
    host["routes"] = [
        {"match": streams, "route": {"cluster": "chunks", "timeout": "0s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "engines", "timeout": "0s"}},
    ]
    (cluster, *_) = resources["clusters"]
    del cluster["original_dst_lb_config"]
    resources["clusters"] = [static(cluster, "engines", engines), static(cluster, "chunks", [source])]
    return yaml.safe_dump(config)


def static(cluster: dict[str, Any], name: str, ports: list[int]) -> dict[str, Any]:
    """The cluster under this name, over fixed ports."""
    addresses = [{"socket_address": {"address": "127.0.0.1", "port_value": port}} for port in ports]
    group = {"lb_endpoints": [{"endpoint": {"address": address}} for address in addresses]}
    assigned = {"cluster_name": name, "endpoints": [group]}
    return cluster | {"name": name, "type": "STATIC", "lb_policy": "ROUND_ROBIN", "load_assignment": assigned}


def write_nginx(folder: Path, engines: list[int]) -> Path:
    """One nginx process that is all engines."""
    listens = "".join(f"listen 127.0.0.1:{port} reuseport;" for port in engines)
    scratch = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log /dev/null crit;"
        "events { worker_connections 4096; }"
        f"http {{ access_log off; {scratch} keepalive_requests 1000000000; keepalive_timeout 600s;"
        "client_body_buffer_size 128k; client_max_body_size 64m;"
        f"server {{ {listens} location / {{ default_type application/json; return 200 '{ANSWER}'; }} }} }}\n"
    )
    return config


def write_script(folder: Path, body_kb: int) -> Path:
    """wrk's request: one chat with a body of about `body_kb` KB."""
    text = "tell me more " * (body_kb * 1024 // 13)
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 64})
    script = folder / "chat.lua"
    script.write_text(
        'wrk.method = "POST"\nwrk.path = "/v1/chat/completions"\n'
        f'wrk.headers["content-type"] = "application/json"\nwrk.body = [==[{body}]==]\n'
    )
    return script


def ask(port: int, script: Path, seconds: int) -> Run:
    """One run of wrk."""
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/",
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert rate, out
    return Run(float(rate[1]), milliseconds(out, "50%"), milliseconds(out, "99%"), int(failed[1]) if failed else 0)


def milliseconds(out: str, percentile: str) -> float:
    """A percentile of wrk's latency table."""
    found = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", out)
    assert found, out
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def run_envoy(stack: contextlib.ExitStack, folder: Path, name: str, text: str, environment: Mapping[str, str]) -> None:
    """Start an Envoy with one worker."""
    config = folder / f"envoy-{name}.yaml"
    config.write_text(text)
    command = (str(ENVOY), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warn")
    run(stack, folder, f"envoy-{name}", *command, env=os.environ | environment)


def run(stack: contextlib.ExitStack, folder: Path, name: str, *command: str, env: dict[str, str] | None = None) -> None:
    """Start a process that ends with `stack`."""
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env)
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """True when somebody listens; OSError when nobody does."""
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def wait_for(check: Callable[[], object], seconds: float = 15) -> None:
    """Return once `check` is true and raises no OSError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if check():
                return
        time.sleep(0.05)
    raise TimeoutError(f"not ready within {seconds} s")


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--body-kb", type=int, action="append")
    asked = parser.parse_args()
    print(machine())
    for figure in figures(asked.starts, asked.rounds, asked.seconds, asked.body_kb or (1, 16)):
        print(f"{figure.name:<42} {figure.value:>10.2f} {figure.unit:<4} {figure.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
