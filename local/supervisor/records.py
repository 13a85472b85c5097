"""What is written down about running processes, so that a later supervisor, or `up`, finds them again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local.supervisor.part import Part, PartError
from local.supervisor.process import Identity


@dataclass(frozen=True)
class Record:
    """A part and the process that runs it."""

    part: Part
    identity: Identity
    since: float
    restarts: int

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """None for a file that is no record (half written by a crash, or of another release)."""
        try:
            document: dict[str, Any] = json.loads(path.read_text())
            part, identity = Part.from_json(document["part"]), Identity(**document["identity"])
            return cls(part, identity, float(document["since"]), int(document["restarts"]))
        except (OSError, ValueError, KeyError, TypeError, PartError):
            return None

    def write(self, home: Path) -> None:
        path = record_path(home, self.part.name)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self)))
        unfinished.rename(path)


def record_path(home: Path, part: str) -> Path:
    return record_directory(home) / f"{part}.json"


def record_directory(home: Path) -> Path:
    return home / "run"


def running_records(home: Path) -> list[Record]:
    """The records of this home whose processes still run, whether somebody supervises them or not."""
    records = [Record.read(path) for path in sorted(record_directory(home).glob("*.json"))]
    return [record for record in records if record and record.identity.is_alive()]
