"""Builds the pod shim, once for each version of its source."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "shim"
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-static")


def build_shim(target: Path) -> Path:
    """Compiles `local/shim` to `target` unless it was made from the same source and flags; returns `target`.

    Raises CalledProcessError with the compiler's words. A running shim keeps its own file: the new one is
    renamed into place.
    """
    sources = sorted(SOURCE.glob("*.[ch]"))
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sources:
        digest.update(source.name.encode() + source.read_bytes())
    mark = target.with_suffix(".source")
    if target.exists() and mark.exists() and mark.read_text() == digest.hexdigest():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}")
    units = [str(source) for source in sources if source.suffix == ".c"]
    subprocess.run(["gcc", *FLAGS, "-o", str(fresh), *units], check=True)
    fresh.rename(target)
    mark.write_text(digest.hexdigest())
    return target
