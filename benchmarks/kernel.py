"""What a decision and an ext_proc message cost: the kernel alone in C, and through the Python binding."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc

from benchmarks.figure import Figure
from csrc.binding import Pod, SegmentReader, SegmentWriter, Settings
from csrc.build_binding import COMPILE_FLAGS, ROOT, sources

ROUNDS = 20_000
TARGETS = {
    "decide and finish, 256 pods, least-request, p99": "below 3000",
    "decide and finish, 256 pods, least-kv-cache, p99": "below 3000",
    "decide and finish, 256 pods, least-latency, p99": "below 3000",
    "decide and finish, 256 pods, a list of three, p99": "below 3000",
    "body scanner, 16 KB": "at least 3",
}


def figures() -> Iterator[Figure]:
    """Nanoseconds an operation, and gigabytes a second of the scanner."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="brixflow-bench-") as folder:
        yield from kernel_figures(Path(folder))
        yield from binding_figures(Path(folder))


def kernel_figures(folder: Path) -> Iterator[Figure]:
    program, messages = folder / "kernel", folder / "messages"
    messages.write_bytes(b"".join(b"%d\n%b" % (len(message), message) for message in exchange()))
    build = ["gcc", *COMPILE_FLAGS, "-Icsrc", "benchmarks/kernel.c", *sources(), "-o", str(program)]
    subprocess.run(build, cwd=ROOT, check=True)
    printed = subprocess.run([program, folder / "c", messages], check=True, capture_output=True, text=True).stdout
    for line in printed.splitlines():
        name, value = line.split("\t")
        unit = "GB/s" if name.startswith(("body", "scalar")) else "ns"
        yield Figure(name, float(value), unit, TARGETS.get(name, ""))


def binding_figures(folder: Path) -> Iterator[Figure]:
    pods = [Pod(f"uid-{n}", "default", f"pod-{n}", f"10.86.0.{n}:8000", ready=True) for n in range(1, 9)]
    with SegmentWriter.open(folder / "python") as writer:
        writer.publish({"llama2-7b": pods}, Settings(default_strategy="least-request"))
        with SegmentReader.open(folder / "python", flows=16) as reader:
            messages = exchange()
            begun = time.perf_counter_ns()
            for _ in range(ROUNDS):
                flow = reader.begin()
                for message in messages:
                    flow.process(message)
                flow.close()
            taken = (time.perf_counter_ns() - begun) / ROUNDS
    yield Figure("one message through the Python binding, mean", taken / len(messages), "ns")


def exchange() -> list[bytes]:
    """The messages of one plain chat request with a body of about 1 KB, as Envoy sends them."""
    sent = {":method": "POST", ":path": "/v1/chat/completions", ":scheme": "http", ":authority": "localhost:8888"}
    sent |= {"user-agent": "bench", "content-type": "application/json", "x-forwarded-proto": "http"}
    got = {":status": "200", "content-type": "application/json", "server": "nginx", "date": "today"}
    body = json.dumps({"model": "llama2-7b", "messages": [{"role": "user", "content": "word " * 190}]}).encode()
    usage = {"prompt_tokens": 190, "completion_tokens": 20, "total_tokens": 210}
    answer = json.dumps({"choices": [{"message": {"content": "word " * 20}}], "usage": usage}).encode()
    return [
        ext_proc.ProcessingRequest(request_headers=headers(sent)).SerializeToString(),
        ext_proc.ProcessingRequest(request_body=ext_proc.HttpBody(body=body, end_of_stream=True)).SerializeToString(),
        ext_proc.ProcessingRequest(response_headers=headers(got)).SerializeToString(),
        ext_proc.ProcessingRequest(
            response_body=ext_proc.HttpBody(body=answer, end_of_stream=True)
        ).SerializeToString(),
    ]


def headers(lines: dict[str, str]) -> ext_proc.HttpHeaders:
    message = ext_proc.HttpHeaders()
    for name, value in lines.items():
        message.headers.headers.add(key=name, raw_value=value.encode())
    return message


def main() -> int:
    for figure in figures():
        sys.stdout.write(f"{figure.name:60} {figure.value:10,.2f} {figure.unit:5} {figure.target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
