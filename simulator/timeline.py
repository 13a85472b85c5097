"""What a timeline is: the part of the engine that turns work into time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

CLOCK_TOLERANCE_SECONDS = 1e-6
"""A timer may fire this much early; what is due within it counts as due."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much faster than real time the engine runs; decoding can be faster still."""

    speedup: float = 1.0
    decode_speedup: float = 1.0

    @property
    def decode(self) -> float:
        return self.speedup * self.decode_speedup


class Timeline(Protocol):
    """Moves sequences on."""

    @property
    def capacity(self) -> int:
        """Sequences that the engine serves at full speed."""
        ...

    def set_speed(self, model: Any, scale: Scale) -> None:
        """Go on with another model of the same kind."""
        ...

    def turn(self, now: float) -> float | None:
        """Do everything that is due; return when something will be due next, None when nothing runs."""
        ...

    def advance(self, now: float) -> None:
        """Bring counters up to date for sequences that nobody watches token by token."""
        ...
