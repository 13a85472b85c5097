"""How much one decision may ask for: recorded decisions stay small and one pass stays short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

Item = TypeVar("Item")
MAX_CREATES: Final = 500
# A target costs about 150 bytes; the decision has to stay below 32 KB together with the page a person sees.
MAX_TARGETS: Final = 150


class Allowance:
    """What is left of a decision's size; the rest comes with the next pass."""

    def __init__(self, creates: int = MAX_CREATES, targets: int = MAX_TARGETS) -> None:
        self._creates = creates
        self._targets = targets

    def creates(self, wanted: int) -> int:
        granted = min(wanted, self._creates)
        self._creates -= granted
        return granted

    def targets(self, wanted: Iterable[Item]) -> Sequence[Item]:
        granted = list(wanted)[: self._targets]
        self._targets -= len(granted)
        return granted
