"""A whole local system for the figures that need one, beside whatever runs already."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.settings import CHECKOUT, LocalSettings

SLOT = 15
BIN = Path(sys.executable).parent


@contextmanager
def whole_system() -> Iterator[LocalSettings]:
    """Within the block a system with the sample runs and the environment points at it; afterwards it is purged."""
    settings = LocalSettings.beside(CHECKOUT / ".brixflow-bench", SLOT)
    before = dict(os.environ)
    os.environ.update(settings.environment(), KUBECONFIG=str(settings.kubeconfig), PATH=f"{BIN}:{os.environ['PATH']}")
    try:
        brixflow("down", "--purge")
        brixflow("up")
        yield settings
    finally:
        brixflow("down", "--purge")
        os.environ.clear()
        os.environ.update(before)


def brixflow(*words: str) -> None:
    """Run the command; its output is shown only when it fails, as SystemExit."""
    done = subprocess.run([str(BIN / "brixflow"), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"brixflow {' '.join(words)}: {done.stdout}{done.stderr}")
