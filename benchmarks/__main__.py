"""`make bench`: every figure in one table, with the machine's state.

Figures come from here and never from a test. Machines are shared and noisy: compare the ratios, which are taken in the
same run, before the absolute values. `--only NAME` runs one of them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Figure, machine
from benchmarks.whole import whole_system

ALONE = ("kernel", "scrape", "planner", "admission", "gateway", "pace", "streams", "simulator")
ON_A_SYSTEM = ("resident", "node_start", "creation", "rollouts", "at_rest")
SUITES = (*ALONE, *ON_A_SYSTEM)
PROGRAMS = {"wrk": "wrk", "nginx": "nginx-light"}


def install_missing(console: Console) -> None:
    """The load generator and the engines of the request path come from Debian's packages."""
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if missing:
        console.print(f"installing {', '.join(missing)}")
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )


def measure(console: Console, names: list[str]) -> dict[str, list[Figure]]:
    """The figures by suite. One whole system serves all suites that need one."""
    found = {name: take(console, name) for name in names if name in ALONE}
    if wanted := [name for name in ON_A_SYSTEM if name in names]:
        console.print("starting a system of its own")
        with whole_system():
            found |= {name: take(console, name) for name in wanted}
    return found


def take(console: Console, name: str) -> list[Figure]:
    console.print(f"measuring {name}")
    return list(importlib.import_module(f"benchmarks.{name}").figures())


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
    console = Console(width=max(120, Console().width))
    if {"gateway", "pace"} & set(names):
        install_missing(console)
    console.print(table(measure(console, names)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
