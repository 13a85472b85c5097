"""How long an object is blocked, and by which of a few causes: for the metrics."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from activities.metrics import Metrics
from planning.trouble import blocked_class


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
