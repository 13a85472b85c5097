"""Surge and unavailable: the integer-or-percent arithmetic that every rolling update shares."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PERCENT = re.compile(r"\A(\d+)%\Z")


class IntOrStringError(ValueError):
    """The value is neither a number of at least 0 nor a percentage."""


def scaled(value: int | str | None, total: int, *, round_up: bool) -> int:
    """`value` of `total`: None is 0, an integer itself, `"p%"` that part of `total`, rounded as asked.

    Raises IntOrStringError for anything else, negative numbers included.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise IntOrStringError(f"{value!r} is neither a number nor a percentage")
    if isinstance(value, int):
        if value < 0:
            raise IntOrStringError(f"{value} is negative")
        return value
    match = _PERCENT.match(value)
    if match is None:
        raise IntOrStringError(f'"{value}" is neither a number nor a percentage')
    parts = int(match.group(1)) * total
    return -(-parts // 100) if round_up else parts // 100


def resolve(max_surge: int | str | None, max_unavailable: int | str | None, total: int) -> tuple[int, int]:
    """Surge rounded up and unavailable rounded down; when both come out 0, unavailable is 1. Not capped."""
    surge = scaled(max_surge, total, round_up=True)
    unavailable = scaled(max_unavailable, total, round_up=False)
    return (surge, unavailable) if surge or unavailable else (0, 1)


@dataclass(frozen=True, slots=True)
class Budget:
    """How far a rolling update may move away from `desired` members: up by `surge`, down by `unavailable`."""

    desired: int
    surge: int
    unavailable: int

    @property
    def min_available(self) -> int:
        return self.desired - self.unavailable

    @property
    def most(self) -> int:
        return self.desired + self.surge

    @property
    def step(self) -> int:
        """Members that one step of an interleaved update exchanges."""
        return max(1, self.surge + self.unavailable)
