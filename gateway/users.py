"""Users and their limits out of a file: a mounted Secret, or any JSON or YAML list of records of the users API.

    [{"name": "ada", "rpm": 60, "tpm": 100000}, ...]      0 or nothing stands for the default

The file is the whole truth: who is not in it is nobody. A file that cannot be read leaves the users as they were.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml

from csrc.binding import User

MOST_BYTES = 64 * 1024 * 1024

log = logging.getLogger("gateway.users")


class UsersUnreadable(ValueError):  # noqa: N818 - named by what happened
    """The text holds no list of users: the message says where it stops being one."""


class UsersFile:
    """One file, looked at again whenever it is another one than before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> dict[str, User] | None:
        """The users of a file that changed since the last call; None when it did not, or cannot be read."""
        try:
            facts = self._path.stat()
            seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if seen == self._seen:
                return None
            self._seen = seen
            return users_of(_read(self._path))
        except (OSError, UsersUnreadable) as refused:
            log.warning("event=users_unreadable path=%s reason=%s", self._path, refused)
            return None


def users_of(text: bytes) -> dict[str, User]:
    """The users that a text lists; raises UsersUnreadable."""
    try:
        document = _document(text)
    except yaml.YAMLError as broken:
        raise UsersUnreadable("it is neither JSON nor YAML") from broken
    if document is None:
        return {}
    if not isinstance(document, list):
        raise UsersUnreadable("it is no list")
    return dict(_user_of(index, each) for index, each in enumerate(document))


def record_of(document: Mapping[str, Any]) -> User:
    """The limits that a record tells; raises UsersUnreadable."""
    return User(_limit(document, "rpm"), _limit(document, "tpm"))


def _document(text: bytes) -> object:
    """JSON at once, YAML where it is none: that takes a second for ten thousand users."""
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    return yaml.safe_load(text)


def _user_of(index: int, document: object) -> tuple[str, User]:
    if not isinstance(document, dict):
        raise UsersUnreadable(f"record {index} is no object")
    name = document.get("name")
    if not isinstance(name, str) or not name.strip():
        raise UsersUnreadable(f"record {index} has no name")
    try:
        return name.strip(), record_of(document)
    except UsersUnreadable as wrong:
        raise UsersUnreadable(f"record {index}: {wrong}") from None


def _limit(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name) or 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsersUnreadable(f"{name} is no number from 0 on")
    return value


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise UsersUnreadable(f"it is larger than {MOST_BYTES} bytes")
        return file.read()
