"""Remembers how long each step of `brixflow up` took, so that the next one can say what to expect."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Durations:
    """Seconds by the name of the step, in one file. A file that cannot be read counts as empty."""

    path: Path

    def last(self, step: str) -> float | None:
        return self._all().get(step)

    def remember(self, step: str, seconds: float) -> None:
        known = {**self._all(), step: round(seconds, 1)}
        unfinished = self.path.with_suffix(".new")
        unfinished.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        unfinished.rename(self.path)

    def _all(self) -> dict[str, float]:
        with suppress(OSError, ValueError):
            known = json.loads(self.path.read_text())
            if isinstance(known, dict):
                return {str(step): float(seconds) for step, seconds in known.items()}
        return {}


def spoken(seconds: float) -> str:
    """`0.4 s`, `12 s`, `4 min 50 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
