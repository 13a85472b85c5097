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


@pytest.mark.parametrize(
    ("table", "last"), [("stormservice", 54), ("gateway", 100), ("gateway-cache", 60), ("gateway-ops", 40)]
)
def test_every_case_of_a_document_is_named(table: str, last: int) -> None:
    found: set[int] = set()
    for line in (ROOT / "docs" / "cases" / f"{table}.md").read_text().splitlines():
        cell = line.split("|")[1] if line.startswith("| ") else ""
        for first, end in re.findall(r"(?<![\d.])(\d+)(?: to (\d+))?(?![\d.])", cell):
            found |= set(range(int(first), int(end or first) + 1))
    assert not set(range(1, last + 1)) - found
