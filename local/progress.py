"""Says what is being done, how long it has taken so far and how long it took last time.

On a terminal the line of the running step moves; elsewhere a step that may take long is one line when it begins, and
every step that could be felt is one line when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from local.durations import Durations, spoken

SHORT_STEP_SECONDS = 0.3
LONG_STEP_SECONDS = 2.0
WIDTH = 44


class Steps:
    """The steps of one command, one after the other."""

    def __init__(self, console: Console, durations: Durations) -> None:
        self._console = console
        self._durations = durations

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step. Its duration is remembered if it succeeds and was long enough to be felt."""
        last = self._durations.last(name)
        expected = f"(last time {spoken(last)})" if last is not None else ""
        began = time.monotonic()
        with self._shown(name, expected, last):
            yield
        seconds = time.monotonic() - began
        if seconds >= SHORT_STEP_SECONDS:
            self._durations.remember(name, seconds)
            self.say(f"  {name:{WIDTH}} {spoken(seconds)}")

    def say(self, text: str = "") -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def report(self, event: dict[str, Any]) -> None:
        """Show what the supervisor reports about its parts."""
        match event:
            case {"event": "changed", "part": part}:
                self.say(f"    {part} changed: restarting it")
            case {"event": "ready", "part": part, "seconds": float(seconds)} if seconds >= SHORT_STEP_SECONDS:
                self.say(f"    {part} is ready after {spoken(seconds)}")

    @contextmanager
    def _shown(self, name: str, expected: str, last: float | None) -> Iterator[None]:
        if not self._console.is_terminal:
            if last is None or last >= LONG_STEP_SECONDS:
                self.say(f"  {name} ... {expected}".rstrip())
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn(expected))
        with Progress(*columns, console=self._console, transient=True) as progress:
            progress.add_task(name, total=None)
            yield
