"""Metric values pinned by hand, from `METRICS_OVERRIDES` at start and `POST /set_metrics` later.

A pinned value stays until it is replaced; null releases it. Names that mean nothing here are kept out and reported.
A value may also be a function of the time since it was set, written `name:a:b:T`:

    oscillate     a sine between a and b with the period T seconds, from the middle
    ramp          from a to b within T seconds, then b
    rampreset     from a to b within T seconds, again and again
    squarewave    a for T/2 seconds, then b for T/2, again and again
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from time import monotonic

NUMERIC_NAMES = frozenset(
    {
        "total", "success_total", "prompt_tokens_total", "generation_tokens_total", "running", "cpu_running", "waiting",
        "swapped", "avg_prompt_throughput", "avg_generation_throughput", "gpu_cache_usage_perc", "kv_cache_usage_perc",
        "cpu_cache_usage_perc", "server_load",
    }
)  # fmt: skip
TEXT_NAMES = frozenset({"model_name"})

Curve = Callable[[float, float, float, float], float]

CURVES: Mapping[str, Curve] = {
    "oscillate": lambda a, b, period, at: (a + b) / 2 + (b - a) / 2 * math.sin(2 * math.pi * at / period),
    "ramp": lambda a, b, period, at: a + (b - a) * min(at / period, 1),
    "rampreset": lambda a, b, period, at: a + (b - a) * (at % period) / period,
    "squarewave": lambda a, b, period, at: a if at % period < period / 2 else b,
}


class OverridesError(ValueError):
    """The given values are no overrides; nothing was changed."""


class Overrides:
    """The pinned values."""

    def __init__(self, values: Mapping[str, object], clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._numbers: dict[str, Callable[[], float]] = {}
        self._given: dict[str, object] = {}
        self.update(values)

    @property
    def given(self) -> Mapping[str, object]:
        """Return what is pinned, as it was given."""
        return dict(self._given)

    def number(self, name: str, measured: float) -> float:
        """Return the pinned value of `name`, else `measured`."""
        pinned = self._numbers.get(name)
        return measured if pinned is None else pinned()

    def text(self, name: str, default: str) -> str:
        return str(self._given.get(name, default))

    def pinned(self, name: str) -> float | None:
        pinned = self._numbers.get(name)
        return None if pinned is None else pinned()

    def update(self, values: Mapping[str, object]) -> list[str]:
        """Pin or release all of `values`, or raise OverridesError and change none; return the names not known."""
        known = {name: value for name, value in values.items() if name in NUMERIC_NAMES | TEXT_NAMES}
        numbers = {name: self._number(name, value) for name, value in known.items() if name in NUMERIC_NAMES}
        for name in known.keys() & TEXT_NAMES:
            if not isinstance(known[name], str | None):
                raise OverridesError(f"{name} must be a string or null")
        for name, value in known.items():
            self._numbers.pop(name, None)
            self._given.pop(name, None)
            if value is not None:
                self._given[name] = value
        self._numbers.update({name: number for name, number in numbers.items() if number is not None})
        return sorted(values.keys() - known.keys())

    def _number(self, name: str, value: object) -> Callable[[], float] | None:
        if value is None:
            return None
        if isinstance(value, str):
            return _curve(name, value, self._clock)
        if not _is_number(value):
            raise OverridesError(f"{name} must be a finite number, a function or null")
        fixed = float(str(value))
        return lambda: fixed


def parse_overrides(text: str) -> dict[str, object]:
    """Return the JSON object in `text`. Raises OverridesError."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OverridesError("not JSON") from error
    if not isinstance(values, dict):
        raise OverridesError("must be a JSON object")
    return values


def _curve(name: str, text: str, clock: Callable[[], float]) -> Callable[[], float]:
    kind, *parts = text.split(":")
    try:
        curve = CURVES[kind]
        a, b, period = map(float, parts)
    except (KeyError, ValueError) as error:
        raise OverridesError(
            f"{name}: a function is written oscillate:a:b:T, or ramp, rampreset, squarewave"
        ) from error
    if not (all(map(math.isfinite, (a, b, period))) and period > 0):
        raise OverridesError(f"{name}: the numbers of a function are finite and its time is positive")
    start = clock()
    return lambda: curve(a, b, period, clock() - start)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
