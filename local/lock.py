"""One `up` or `down` at a time for a home."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.errors import UpError


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold the home's lock; the system releases it with the process. Raises UpError while somebody else has it."""
    with (home / "up.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpError(f"another `brixflow up` or `down` is at work in {home}: wait until it is done") from None
        yield
