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
        paths = [ROOT / file] if "/" in file else ROOT.glob(f"tests/*/{file}")
        if not any(path.exists() and f"def {name}(" in path.read_text() for path in paths):
            missing.append(f"{file}::{name}")
    assert not missing
