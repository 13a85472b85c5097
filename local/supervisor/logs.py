"""Log files of the parts, bounded in size.

A part writes to its file directly and in append mode. A file that grew too large is copied aside and cut to nothing,
which the writer never notices; the few lines written in between are the price.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LIMIT_BYTES = 20 * 1024 * 1024
KEPT_FILES = 2
PRIVATE = 0o600


def log_path(home: Path, part: str) -> Path:
    return home / "logs" / f"{part}.log"


@contextmanager
def opened_log(home: Path, part: str) -> Iterator[IO[bytes]]:
    path = log_path(home, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE), "ab") as output:
        yield output


def rotate(path: Path, limit_bytes: int = LIMIT_BYTES) -> bool:
    """Copy a file that is larger than the limit to `.1`, the older copy to `.2`, and empty it. Tells whether it did."""
    if not path.exists() or path.stat().st_size <= limit_bytes:
        return False
    for number in range(KEPT_FILES, 1, -1):
        newer = path.with_name(f"{path.name}.{number - 1}")
        if newer.exists():
            newer.rename(path.with_name(f"{path.name}.{number}"))
    shutil.copy(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file, none if there is no file. Reads at most 64 KiB."""
    if not path.exists():
        return []
    with path.open("rb") as source:
        source.seek(max(0, path.stat().st_size - 65536))
        return source.read().decode(errors="replace").splitlines()[-count:]
