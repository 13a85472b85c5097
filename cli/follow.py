"""Prints a log file, and goes on with what is added to it, also when the file is emptied by rotation."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

from local.supervisor.logs import last_lines

POLL_SECONDS = 0.2


def print_log(path: Path, lines: int, *, follow: bool) -> None:
    """The last lines; with `follow` until interrupted."""
    position = path.stat().st_size
    for line in last_lines(path, lines):
        print(line)
    with suppress(KeyboardInterrupt, BrokenPipeError):
        while follow:
            position = _print_from(path, position)
            time.sleep(POLL_SECONDS)


def _print_from(path: Path, position: int) -> int:
    size = path.stat().st_size
    with path.open("rb") as source:
        source.seek(position if position <= size else 0)
        added = source.read()
        sys.stdout.write(added.decode(errors="replace"))
        sys.stdout.flush()
        return source.tell()
