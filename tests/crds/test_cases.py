"""The table of cases names every case once at least, and only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "crds-cases.md").read_text()
COUNTS = {"A": 51, "B": 33, "C": 40}


def test_every_named_test_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)
    assert len(named) > 50
    for file, test in named:
        path = ROOT / file if "/" in file else ROOT / "tests" / "crds" / file
        assert f"def {test}(" in path.read_text(), f"{file}::{test}"


def test_every_case_is_named():
    cells = [line.split("|")[1] for line in TABLE.splitlines() if line.startswith("| ")]
    for letter, count in COUNTS.items():
        found: set[int] = set()
        for cell in cells:
            for first, last in re.findall(rf"\b{letter}(\d+)(?: to {letter}(\d+))?", cell):
                found |= set(range(int(first), int(last or first) + 1))
        assert found >= set(range(1, count + 1)), f"{letter}: {sorted(set(range(1, count + 1)) - found)}"


def test_the_page_of_samples_names_each_of_them_and_no_other():
    page = (ROOT / "docs" / "samples.md").read_text()
    named = {name for line in page.splitlines() if "|" in line for name in re.findall(r"`([\w-]+\.yaml)`", line)}
    assert named == {path.name for path in (ROOT / "deploy" / "samples").glob("*.yaml")}
