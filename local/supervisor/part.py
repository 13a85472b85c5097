"""What the supervisor knows about a part. Everything here can be written as JSON and read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LARGE_FILE_BYTES = 4 * 1024 * 1024


class PartError(ValueError):
    """A description that cannot be run. Final."""


@dataclass(frozen=True)
class HttpCheck:
    """A GET that answers 200 when the part is healthy. `ca` verifies TLS; `certificate` and `key` authenticate us."""

    url: str
    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True)
class Part:
    """One process of the system.

    - `environment` is all it gets: nothing is inherited.
    - `after` names parts that must be healthy before this one is started the first time.
    - `drain` is a command that lets the part finish its work; it runs before SIGTERM when the part is stopped, and ends
      with it after `stop_seconds`.
    - `open_files` is how many files it may have open, as far as this machine allows; 0: as many as the supervisor.
    - `teardown` is a command that removes what the part leaves behind on purpose; it runs when the system goes down.
    - `fingerprint` changes with whatever should cause a restart; see `fingerprint_of`.
    """

    name: str
    command: tuple[str, ...]
    check: HttpCheck
    address: str
    environment: dict[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    teardown: tuple[str, ...] = ()
    open_files: int = 0
    stop_seconds: float = 10.0
    ready_seconds: float = 60.0
    fingerprint: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Part:
        """Raises PartError if the document is none of ours."""
        try:
            lists = {name: tuple(document.get(name, ())) for name in ("command", "after", "drain", "teardown")}
            return cls(**{**document, **lists, "check": HttpCheck(**document["check"])})
        except (KeyError, TypeError) as error:
            raise PartError(f"not the description of a part: {error}") from None


def fingerprint_of(command: Iterable[str], environment: dict[str, str], files: Iterable[Path]) -> str:
    """A hash of a command, its environment and the content of files; folders count with their Python files.

    A file that is not there counts as such; of a large one (a binary) size and time stand for the content.
    """
    digest = hashlib.sha256(json.dumps([list(command), sorted(environment.items())]).encode())
    for path in sorted(files):
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"\0{source}\0".encode() + _content_mark(source))
    return digest.hexdigest()[:16]


def sources() -> str:
    """A fingerprint of the supervisor's own code, which tells a running one from the one in the checkout."""
    return fingerprint_of((), {}, [Path(__file__).parent])


def _content_mark(path: Path) -> bytes:
    try:
        status = path.stat()
    except FileNotFoundError:
        return b"missing"
    if status.st_size > LARGE_FILE_BYTES:
        return f"{status.st_size} {status.st_mtime_ns}".encode()
    return path.read_bytes()


def generations(parts: Iterable[Part]) -> list[list[Part]]:
    """Parts grouped so that each needs only parts of earlier groups. Needs outside of `parts` count as met.

    Raises PartError for a circle.
    """
    waiting = {part.name: part for part in parts}
    groups = []
    while waiting:
        group = [part for part in waiting.values() if not any(name in waiting for name in part.after)]
        if not group:
            raise PartError(f"parts that wait for each other: {', '.join(sorted(waiting))}")
        groups.append(group)
        waiting = {name: part for name, part in waiting.items() if part not in group}
    return groups
