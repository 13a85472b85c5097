"""Surge and unavailable (orchestration cases 10 and 11, CRD cases B17 and B18)."""

from __future__ import annotations

import pytest

from crds.intorstr import Budget, IntOrStringError, resolve, scaled
from tests.crds.objects import role, storm


@pytest.mark.parametrize(
    ("surge", "unavailable", "total", "expected"),
    [
        (None, None, 10, (0, 1)),
        (3, 2, 10, (3, 2)),
        ("50%", "30%", 10, (5, 3)),
        (2, "25%", 8, (2, 2)),
        ("33%", 1, 10, (4, 1)),
        (1, "33%", 10, (1, 3)),
        ("25%", "20%", 10, (3, 2)),
        (1, 1, 0, (1, 1)),
        (0, 0, 5, (0, 1)),
        ("0%", "1%", 2, (0, 1)),
        ("1%", "25%", 1, (1, 0)),
    ],
)
def test_surge_rounds_up_unavailable_down_and_never_both_are_zero(surge, unavailable, total, expected):
    assert resolve(surge, unavailable, total) == expected


@pytest.mark.parametrize("value", ["50", "abc", "", "-5%", "5.5%", "%", " 5%", -1, True, 1.5])
def test_what_is_neither_number_nor_percentage_is_refused(value):
    with pytest.raises(IntOrStringError):
        scaled(value, 10, round_up=True)


def test_a_budget_knows_its_floor_and_its_ceiling():
    budget = Budget(desired=10, surge=3, unavailable=2)
    assert (budget.min_available, budget.most, budget.step) == (8, 13, 5)
    assert Budget(4, 0, 0).step == 1


@pytest.mark.parametrize(
    ("case", "replicas", "strategy", "expected"),
    [
        ("B17", 2, {"maxUnavailable": "1%", "maxSurge": "0%"}, (0, 1)),
        ("B18", 1, {"maxUnavailable": "25%", "maxSurge": "1%"}, (1, 0)),
        ("both zero", 3, {"maxUnavailable": 0, "maxSurge": 0}, (0, 1)),
        ("none said", 3, {}, (0, 1)),
    ],
)
def test_b17_b18_a_stored_strategy_leaves_room_for_one_step(api, webhooks, case, replicas, strategy, expected):
    """Of a StormService and of a role, as the API server keeps them."""
    spec = api.ask(
        storm(role(updateStrategy=strategy, replicas=replicas), replicas=replicas, updateStrategy=strategy)
    ).body["spec"]
    for part in (spec, spec["template"]["spec"]["roles"][0]):
        kept = part["updateStrategy"]
        assert resolve(kept.get("maxSurge"), kept.get("maxUnavailable"), part["replicas"]) == expected
