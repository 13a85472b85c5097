"""What blocks an object: for how long, by which of a few causes, and when that is worth an Event."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from activities.metrics import Metrics
from planning.trouble import blocked_class

STABLE_SECONDS: Final = 5.0
"""What blocks for a shorter time is not worth an Event."""
REPEAT_SECONDS: Final = 60.0
"""The same trouble in other words (a longer back-off) is told again after so long at the earliest."""


@dataclass(slots=True)
class _Known:
    sentence: str
    since: float
    told_cause: str = ""
    told: str = ""
    told_at: float = 0.0


class BlockedNews:
    """Says when an object's trouble should be told, once for each trouble and process."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def look(self, uid: str, sentence: str, now: float) -> tuple[bool, float]:
        """Whether to tell it, and the seconds after which to look again (infinite: not without a change)."""
        if not sentence:
            self.forget(uid)
            return False, float("inf")
        known = self._known.setdefault(uid, _Known(sentence, now))
        if known.sentence != sentence:
            known.sentence, known.since = sentence, now
        if known.told == sentence:
            return False, float("inf")
        due = known.since + STABLE_SECONDS
        if known.told_cause == blocked_class(sentence):
            due = max(due, known.told_at + REPEAT_SECONDS)
        if now < due:
            return False, due - now
        known.told, known.told_at, known.told_cause = sentence, now, blocked_class(sentence)
        return True, float("inf")

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)


class BlockedClock:
    """Counts while one poll looks after an object; inside `with` at most one cause runs at a time."""

    def __init__(self, metrics: Metrics, kind: str) -> None:
        self._metrics = metrics
        self._kind = kind
        self._cause = ""
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.turn("")

    def turn(self, sentence: str) -> None:
        """What blocks from this moment on; an empty sentence: nothing."""
        self.tick()
        cause = blocked_class(sentence)
        if cause == self._cause:
            return
        if self._cause:
            self._metrics.blocked.labels(self._kind, self._cause).dec()
        if cause:
            self._metrics.blocked.labels(self._kind, cause).inc()
        self._cause = cause

    def tick(self) -> None:
        """Count the time since the last call."""
        now = time.monotonic()
        if self._cause:
            self._metrics.blocked_seconds.labels(self._kind, self._cause).inc(now - self._since)
        self._since = now
