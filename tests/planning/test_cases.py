"""The tables of `docs/cases` name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize("table", sorted((ROOT / "docs" / "cases").glob("*.md")), ids=lambda path: path.stem)
def test_every_test_that_a_table_names_exists(table: Path) -> None:
    """A file without a folder is that of the table's room: `tests/planning`, or `tests/csrc` for routing."""
    missing = []
    for file, name in NAMED.findall(table.read_text()):
        paths = [ROOT / file] if "/" in file else [ROOT / "tests" / room / file for room in ("planning", "csrc")]
        if not any(path.exists() and f"def {name}(" in path.read_text() for path in paths):
            missing.append(f"{file}::{name}")
    assert not missing


def test_every_case_of_a_storm_service_is_named() -> None:
    found: set[int] = set()
    for line in (ROOT / "docs" / "cases" / "stormservice.md").read_text().splitlines():
        cell = line.split("|")[1] if line.startswith("| ") else ""
        for first, last in re.findall(r"(?<![\d.])(\d+)(?: to (\d+))?(?![\d.])", cell):
            found |= set(range(int(first), int(last or first) + 1))
    assert not set(range(1, 55)) - found
