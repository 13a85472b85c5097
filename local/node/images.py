"""The image table: what an image name means on this machine.

    - pattern: "aibrix/vllm-mock:*"     glob over name and tag (`:latest` when it has none)
      command: [python3, app.py]        used when the container names no command
      environment: {PATH: "..."}
      workingDir: /app                  made when missing
      files: {/app: "{checkout}/..."}   files and folders bound read-only into the root
      requires: [nginx]                 programs without which the image counts as unknown

Values may use {venv}, {checkout}, {path} (the machine's PATH) and {python} (the interpreter's folder).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from local.node.settings import CHECKOUT

MACHINE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """A resolved entry of the table."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    files: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What stands in imageID: a digest of the name, so it changes with the image."""
        repository = self.name.rsplit("@", 1)[0].rsplit(":", 1)[0]
        return f"{repository}@sha256:{hashlib.sha256(self.name.encode()).hexdigest()}"


def full_name(image: str) -> str:
    """The name with its tag."""
    return image if "@" in image or ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"


def bare_name(name: str) -> str:
    """The name without a registry's host, which has a dot or a port, and without `library/`."""
    host, slash, rest = name.partition("/")
    bare = rest if slash and ("." in host or ":" in host) else name
    return bare.removeprefix("library/")


class ImageTable:
    """The entries in order; the first match wins. Edits of the file are seen at the next look-up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: float | None = None
        self._entries: list[dict[str, Any]] = []

    def find(self, image: str) -> Image | None:
        """The entry for `image`; None when the machine has none."""
        self._reload()
        name = full_name(image)
        for entry in self._entries:
            if fnmatchcase(bare_name(name), entry["pattern"]) or fnmatchcase(name, entry["pattern"]):
                return _resolve(name, entry)
        return None

    def _reload(self) -> None:
        changed_at = self._path.stat().st_mtime
        if changed_at != self._read_at:
            self._entries = yaml.safe_load(self._path.read_text()) or []
            self._read_at = changed_at


def _resolve(name: str, entry: dict[str, Any]) -> Image | None:
    if any(shutil.which(program) is None for program in entry.get("requires", ())):
        return None
    environment = {"PATH": MACHINE_PATH, **entry.get("environment", {})}
    return Image(
        name=name,
        command=tuple(_fill(word) for word in entry.get("command", ())),
        environment={key: _fill(str(value)) for key, value in environment.items()},
        working_directory=_fill(entry.get("workingDir", "/")),
        files={_fill(target): _fill(source) for target, source in entry.get("files", {}).items()},
    )


def _fill(text: str) -> str:
    values = {
        "{venv}": sys.prefix,
        "{checkout}": str(CHECKOUT),
        "{python}": str(Path(sys.base_prefix) / "bin"),
        "{path}": os.environ.get("PATH", MACHINE_PATH),
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text
