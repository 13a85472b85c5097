"""The tables of cases name only tests that exist, and the StormService's names each of its cases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = sorted((ROOT / "docs" / "cases").glob("*.md"))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_named_test_exists(table):
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", table.read_text())
    assert named
    for file, test in named:
        path = ROOT / file if "/" in file else ROOT / "tests" / "planning" / file
        assert f"def {test}(" in path.read_text(), f"{file}::{test}"


def test_every_case_of_a_storm_service_is_named():
    lines = (ROOT / "docs" / "cases" / "stormservice.md").read_text().splitlines()
    found: set[int] = set()
    for line in lines:
        cell = line.split("|")[1] if line.startswith("| ") else ""
        for first, last in re.findall(r"(?<![\d.])(\d+)(?: to (\d+))?(?![\d.])", cell):
            found |= set(range(int(first), int(last or first) + 1))
    assert found >= set(range(1, 55)), sorted(set(range(1, 55)) - found)
