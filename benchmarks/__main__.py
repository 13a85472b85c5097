"""`make bench`: every figure in one table, with the machine's state.

Figures come from here and never from a test. Machines are shared and noisy: compare the ratios, which are taken in the
same run, before the absolute values. `--only NAME` runs one of them.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Figure, machine

SUITES = ("kernel", "planner", "admission", "gateway", "creation", "node_start", "resident")


def measure(console: Console, names: list[str]) -> dict[str, list[Figure]]:
    found: dict[str, list[Figure]] = {}
    for name in names:
        console.print(f"measuring {name} …")
        found[name] = list(importlib.import_module(f"benchmarks.{name}").figures())
    return found


def table(found: dict[str, list[Figure]]) -> Table:
    grid = Table(title=f"brixflow on {machine()}")
    for heading, side in (
        ("suite", "left"),
        ("figure", "left"),
        ("value", "right"),
        ("unit", "left"),
        ("target", "left"),
    ):
        grid.add_column(heading, justify="right" if side == "right" else "left")
    for suite, figures in found.items():
        for figure in figures:
            grid.add_row(suite, figure.name, f"{figure.value:,.2f}", figure.unit, figure.target)
    return grid


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=SUITES, action="append", help="run just this suite (may be repeated)")
    names = parser.parse_args().only or list(SUITES)
    console = Console()
    console.print(table(measure(console, names)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
