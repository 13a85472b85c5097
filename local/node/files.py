"""Files that survive a kill at any moment: written beside, then renamed into place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `content` in one step."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    fresh.rename(path)


def write_json(path: Path, value: Any) -> None:
    """Like `write_whole`, for a JSON value."""
    write_whole(path, orjson.dumps(value))


def read_json(path: Path) -> Any | None:
    """The value in `path`; None when there is none or it cannot be read."""
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
