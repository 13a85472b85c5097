"""docs/simulator.md names every setting and only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from simulator.options import OPTIONS
from simulator.routes import handler, routes
from simulator.settings import read_settings

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "simulator.md").read_text()
ACCEPTANCE_CASES = 48


def test_every_setting_is_in_the_table():
    for option in OPTIONS:
        flags = ", ".join(f"`{flag}`" for flag in option.flag.split(",")) if option.flag else ""
        default = f"`{option.default}`" if option.default else ""
        assert f"| {flags} | `{option.variable}` | {default} | {option.meaning} |" in PAGE


def test_every_acceptance_case_names_a_test_that_exists():
    rows = re.findall(r"^\| ([\d, ]+) \| .* \| `(\w+\.py)::(\w+)` \|$", PAGE, re.MULTILINE)
    cases = {int(number) for numbers, _, _ in rows for number in numbers.split(",")}
    assert cases == set(range(1, ACCEPTANCE_CASES + 1))
    for _, file, name in rows:
        text = (Path(__file__).parent / file).read_text()
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), name


def test_every_route_of_every_flavour_has_its_handler():
    for flavour in ("vllm", "sglang", "trtllm", "xllm"):
        settings = read_settings(["--enable-sleep-mode"], {"LLM_ENGINE": flavour, "VLLM_SERVER_DEV_MODE": "1"})
        for methods in routes(settings).values():
            for name in methods.values():
                assert callable(handler(name))
