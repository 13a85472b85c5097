"""Metric values pinned by hand, from `METRICS_OVERRIDES` at start and `POST /set_metrics` later.

A pinned value stays until it is replaced; null releases it. Names that mean nothing here are kept out and reported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

NUMERIC_NAMES = frozenset(
    {
        "total", "success_total", "prompt_tokens_total", "generation_tokens_total", "running", "cpu_running", "waiting",
        "swapped", "avg_prompt_throughput", "avg_generation_throughput", "gpu_cache_usage_perc", "kv_cache_usage_perc",
        "cpu_cache_usage_perc", "server_load",
    }
)  # fmt: skip
TEXT_NAMES = frozenset({"model_name"})


class OverridesError(ValueError):
    """The given values are no overrides; nothing was changed."""


class Overrides:
    """The pinned values."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._numbers: dict[str, float] = {}
        self._texts: dict[str, str] = {}
        self.update(values)

    def number(self, name: str, measured: float) -> float:
        """Return the pinned value of `name`, else `measured`."""
        return self._numbers.get(name, measured)

    def text(self, name: str, default: str) -> str:
        return self._texts.get(name, default)

    def pinned(self, name: str) -> float | None:
        return self._numbers.get(name)

    def update(self, values: Mapping[str, object]) -> list[str]:
        """Pin or release all of `values`, or raise OverridesError and change none; return the names not known."""
        for name, value in values.items():
            _check(name, value)
        for name, value in values.items():
            self._set(name, value)
        return sorted(values.keys() - NUMERIC_NAMES - TEXT_NAMES)

    def _set(self, name: str, value: object) -> None:
        if value is None:
            self._numbers.pop(name, None)
            self._texts.pop(name, None)
        elif name in NUMERIC_NAMES and isinstance(value, int | float):
            self._numbers[name] = float(value)
        elif name in TEXT_NAMES and isinstance(value, str):
            self._texts[name] = value


def parse_overrides(text: str) -> dict[str, object]:
    """Return the JSON object in `text`. Raises OverridesError."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OverridesError("not JSON") from error
    if not isinstance(values, dict):
        raise OverridesError("must be a JSON object")
    return values


def _check(name: str, value: object) -> None:
    if value is None:
        return
    if name in NUMERIC_NAMES and not _is_number(value):
        raise OverridesError(f"{name} must be a finite number or null")
    if name in TEXT_NAMES and not isinstance(value, str):
        raise OverridesError(f"{name} must be a string or null")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
