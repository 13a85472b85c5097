"""How long one step of the whole batch takes: the polynomial, table and roofline models.

In these every running sequence gets its next token at the end of a common step, so a long prefill delays the decodes
beside it, as in a real engine.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLoad:
    """What one step computes: new prompt tokens, decoding sequences, and the cache they read."""

    prefill_tokens: int
    decodes: int
    context_tokens: int
    """Tokens in the cache that the step's sequences attend to, summed."""
    cache_share: float
    """Held blocks over all blocks, 0 to 1."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step, by what takes them."""

    prefill_seconds: float
    decode_seconds: float


@runtime_checkable
class StepModel(Protocol):
    """Anything that times a step."""

    @property
    def capacity(self) -> int: ...

    def step(self, load: StepLoad, /) -> StepTime: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialLatency:
    """The fit that NVIDIA Dynamo's mock engine uses, in milliseconds.

    Prefill 4.209989e-7 T^2 + 1.518344e-2 T + 16.50142 for T new tokens; decode max(1, -25.74 u^2 + 54.01 u + 5.74)
    for a cache used to the share u.
    """

    capacity: int = 1

    def step(self, load: StepLoad, /) -> StepTime:
        tokens, share = load.prefill_tokens, load.cache_share
        prefill = 4.209989e-7 * tokens**2 + 1.518344e-2 * tokens + 16.50142 if tokens else 0.0
        decode = max(1.0, -25.74 * share**2 + 54.01 * share + 5.74) if load.decodes else 0.0
        return StepTime(prefill / 1000, decode / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLatency:
    """Measured times, linear in between and beyond: prefill by new tokens, decode by cached tokens and mean context."""

    prefill_tokens: tuple[float, ...]
    prefill_ms: tuple[float, ...]
    decode_cached_tokens: tuple[float, ...]
    decode_context: tuple[float, ...]
    decode_ms: tuple[tuple[float, ...], ...]
    """One row per entry of `decode_cached_tokens`, one column per entry of `decode_context`."""
    capacity: int = 1

    def step(self, load: StepLoad, /) -> StepTime:
        prefill = interpolate(self.prefill_tokens, self.prefill_ms, load.prefill_tokens) if load.prefill_tokens else 0.0
        decode = 0.0
        if load.decodes:
            mean = load.context_tokens / load.decodes
            by_row = [interpolate(self.decode_context, row, mean) for row in self.decode_ms]
            decode = interpolate(self.decode_cached_tokens, by_row, load.context_tokens)
        return StepTime(max(prefill, 0.0) / 1000, max(decode, 0.0) / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineLatency:
    """A step takes what its arithmetic needs at the device's peak or its memory traffic at full bandwidth, the longer.

    Arithmetic: 2 * parameters per token, and 4 * layers * hidden per token and token of context. Traffic: the weights
    once, and the keys and values of all context.
    """

    parameters: float = 8e9
    layers: int = 32
    hidden: int = 4096
    heads: int = 32
    kv_heads: int = 8
    type_bytes: int = 2
    device_tflops: float = 989.0
    device_gigabytes_per_second: float = 3350.0
    efficiency: float = 0.6
    capacity: int = 1

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * (self.hidden // self.heads) * self.type_bytes

    def step(self, load: StepLoad, /) -> StepTime:
        if not load.prefill_tokens + load.decodes:
            return StepTime(0.0, 0.0)
        prefill = self._arithmetic(load.prefill_tokens, load.prefill_tokens / 2)
        decode = self._arithmetic(load.decodes, load.context_tokens / max(load.decodes, 1))
        moved = self.parameters * self.type_bytes + load.context_tokens * self.kv_bytes_per_token
        memory = moved / (self.device_gigabytes_per_second * 1e9 * self.efficiency)
        stall = max(memory - prefill - decode, 0.0)
        return StepTime(prefill, decode + stall) if load.decodes else StepTime(prefill + stall, 0.0)

    def _arithmetic(self, tokens: int, mean_context: float) -> float:
        operations = 2 * self.parameters * tokens + 4 * self.layers * self.hidden * tokens * mean_context
        return operations / (self.device_tflops * 1e12 * self.efficiency)


def interpolate(places: Sequence[float], values: Sequence[float], place: float) -> float:
    """Return the value at `place` on the line through the neighbouring points, or beyond the outer two."""
    if len(places) == 1:
        return values[0]
    right = min(max(bisect_right(places, place), 1), len(places) - 1)
    left = right - 1
    share = (place - places[left]) / (places[right] - places[left])
    return values[left] + share * (values[right] - values[left])


def read_table(path: Path, capacity: int = 1) -> TableLatency:
    """Return the table in a JSON file; raises ValueError naming what is wrong, OSError when it cannot be read.

    Form: {"prefill": {"tokens": [...], "ms": [...]}, "decode": {"kv_tokens": [...], "context": [...], "ms": [[...]]}}.
    """
    value = json.loads(path.read_text())
    try:
        prefill, decode = value["prefill"], value["decode"]
        table = TableLatency(
            prefill_tokens=_axis(prefill, "tokens"),
            prefill_ms=_numbers(prefill["ms"]),
            decode_cached_tokens=_axis(decode, "kv_tokens"),
            decode_context=_axis(decode, "context"),
            decode_ms=tuple(_numbers(row) for row in decode["ms"]),
            capacity=capacity,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a latency table: {error!r}") from error
    columns = {len(row) for row in table.decode_ms}
    shape = (len(table.prefill_ms), len(table.decode_ms), columns)
    if shape != (len(table.prefill_tokens), len(table.decode_cached_tokens), {len(table.decode_context)}):
        raise ValueError(f"{path}: the number of times does not fit the axes")
    return table


def _axis(values: Mapping[str, object], name: str) -> tuple[float, ...]:
    axis = _numbers(values[name])
    if not axis or any(left >= right for left, right in pairwise(axis)):
        raise ValueError(f"the axis {name} does not rise")
    return axis


def _numbers(values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise TypeError("a list of numbers is missing")
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers
