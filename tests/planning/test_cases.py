"""The tables of `docs/cases` name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize("table", sorted((ROOT / "docs" / "cases").glob("*.md")), ids=lambda path: path.stem)
def test_every_test_that_a_table_names_exists(table: Path) -> None:
    missing = []
    for file, name in NAMED.findall(table.read_text()):
        path = ROOT / file if "/" in file else ROOT / "tests" / "planning" / file
        if not path.exists() or f"def {name}(" not in path.read_text():
            missing.append(f"{file}::{name}")
    assert not missing
