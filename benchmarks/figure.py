"""One line of the table that `make bench` prints, and the machine it was taken on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A measured value with its unit; `target` says what it should be, empty where nothing was promised."""

    name: str
    value: float
    unit: str
    target: str = ""


def machine() -> str:
    """Cores, memory, load and kernel: without them a figure means nothing."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    memory = Path("/proc/meminfo").read_text().split("\n", 1)[0].split()[1]
    return f"{os.cpu_count()} cores, {int(memory) // 1048576} GB, load {load}, Linux {platform.release()}"
