"""Pods with gauges and loads as a test wants them, and the ten-line oracle of every strategy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from csrc.binding import Decision, Limits, Pod, SegmentReader, SegmentWriter, Settings

NOW = 1000.0
MISSING = float("nan")


@dataclass(frozen=True)
class Candidate:
    """One pod: requests that this node has on it, and its gauges (those that are left out are missing)."""

    running: int = 0
    gauges: Mapping[str, float] | None = field(default_factory=dict)

    def gauge(self, name: str) -> float:
        return MISSING if self.gauges is None else self.gauges.get(name, MISSING)

    @property
    def load(self) -> float:
        return self.running + max(0.0, self.gauge("remote")) if self.gauge("remote") > 0 else float(self.running)

    def grown(self, value: float, least: float) -> float:
        """A gauge with what the node's load grew by since it was taken."""
        if self.gauges is None:
            return MISSING
        ran = self.gauge("running")
        since = max(0.0, self.running - self.gauge("local")) if self.gauge("local") >= 0 else 0.0
        return value + since / ((max(0, ran)) + 1) * max(value, least)


def raw_scores(strategy: str, pods: Sequence[Candidate], prompt_tokens: int = 0) -> list[float]:
    """routing.md 5, with the better rules: one KV metric, no host cache is an empty one, work that is outstanding."""
    if strategy == "least-request":
        return [pod.load for pod in pods]
    if strategy == "throughput":
        return [(2 * pod.gauge("prompt_length") + pod.gauge("generation_length")) * (1 + pod.load) for pod in pods]
    if strategy == "least-latency":
        return [latency(pod, pods, prompt_tokens) for pod in pods]
    if strategy == "least-kv-cache":
        host = [0.0 if math.isnan(pod.gauge("cpu_cache")) else pod.gauge("cpu_cache") for pod in pods]
        return [pod.grown(pod.gauge("kv_cache") + more, 0.01) for pod, more in zip(pods, host, strict=True)]
    name = {"least-busy-time": "busy", "least-gpu-cache": "gpu_cache", "least-utilization": "utilization"}[strategy]
    return [pod.grown(pod.gauge(name), 0.01) for pod in pods]


def latency(pod: Candidate, pods: Sequence[Candidate], prompt_tokens: int) -> float:
    prompt = prompt_tokens or mean([each.gauge("prompt_length") for each in pods], 10)
    generation = mean([each.gauge("generation_length") for each in pods], 100)
    prefill, decode = pod.gauge("prefill_time"), pod.gauge("decode_time")
    if pod.gauge("prompt_length") > 0:
        prefill = prefill / pod.gauge("prompt_length") * prompt
    if pod.gauge("generation_length") > 0:
        decode = decode / pod.gauge("generation_length") * generation
    return pod.grown(pod.gauge("queue_time") + prefill + decode, 0.001)


def mean(values: Sequence[float], otherwise: float) -> float:
    positive = [value for value in values if value > 0]
    return sum(positive) / len(positive) if positive else otherwise


def normalised(scores: Sequence[float], larger: bool = False) -> list[float]:
    """routing.md 4.1, step 3."""
    known = [score for score in scores if math.isfinite(score)]
    if not known:
        return [0.0] * len(scores)
    least, most = min(known), max(known)
    if least == most:
        return [1.0 if math.isfinite(score) else 0.0 for score in scores]
    parts = [((score - least) if larger else (most - score)) / (most - least) for score in scores]
    return [part if math.isfinite(score) else 0.0 for part, score in zip(parts, scores, strict=True)]


def best(finals: Sequence[float]) -> set[int]:
    """Indexes whose score is the greatest, but for rounding."""
    known = [final for final in finals if not math.isnan(final)]
    return {
        index for index, final in enumerate(finals) if not known or final >= max(known) - 1e-6 * abs(max(known)) - 2e-9
    }


@contextmanager
def published(writer: SegmentWriter, reader: SegmentReader, pods: Sequence[Candidate]) -> Iterator[None]:
    """A model `m` with these pods, `pod-0` first."""
    listed = [
        Pod(f"uid-{n}", "default", f"pod-{n}", f"10.0.0.{n + 1}:8000", ready=True, labels={"n": str(n)})
        for n in range(len(pods))
    ]
    writer.publish({"m": listed}, Settings(default_strategy="random"))
    for number, pod in enumerate(pods):
        given = {} if pod.gauges is None else pod.gauges
        writer.set_gauges(f"uid-{number}", 1.0 if pod.gauges is None else NOW, given)
    held = [reader.decide("m", "random", f"n={number}") for number, pod in enumerate(pods) for _ in range(pod.running)]
    try:
        yield
    finally:
        for decision in held:
            reader.finish(decision)


def chosen(reader: SegmentReader, strategy: str, seed: int = 1, prompt_tokens: int = 0) -> int:
    """Index of the pod that is picked now."""
    decision: Decision = reader.decide("m", strategy, random=seed, now=NOW + 1, prompt_tokens=prompt_tokens)
    reader.finish(decision)
    return int(decision.pod.removeprefix("pod-"))


def often(reader: SegmentReader, strategy: str, times: int = 200) -> set[int]:
    """All pods that are picked over many tries."""
    return {chosen(reader, strategy, seed * 7919) for seed in range(times)}


@contextmanager
def many(path: str) -> Iterator[tuple[SegmentWriter, SegmentReader]]:
    """A segment with room for more pods than the other tests need."""
    limits = Limits(models=2, pods=2048, members=2048, text_bytes=1 << 20, readers=4)
    with SegmentWriter.open(path, limits) as writer:
        writer.publish({})
        writer.sweep()
        with SegmentReader.open(path, flows=4) as reader:
            yield writer, reader
