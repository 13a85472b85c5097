"""Stateless roles, one pass each (roleset cases 1 to 18)."""

from __future__ import annotations

import pytest

from crds.intorstr import Budget
from planning import stateless
from planning.members import Member, Role, deletion_order, role_budget
from tests.planning.world import role as role_spec


def pods(text: str) -> list[Member]:
    """`O` old ready, `o` old not ready, `U` new ready, `u` new not ready, `F` failed, `x` leaving, `g` overdue."""
    return [
        Member(
            f"{letter}{place}",
            created=f"{place:03}",
            ready=letter in "OU",
            updated=letter in "Uu",
            ended=letter == "F",
            leaving=letter == "x",
            gone=letter == "g",
        )
        for place, letter in enumerate(text)
    ]


def role(text: str, desired: int, surge: int = 0, unavailable: int = 1) -> Role:
    return Role("worker", Budget(desired, surge, min(unavailable, desired)), pods(text))


def deleted(moves) -> list[str]:
    return [member.name for member in moves.deletes]


@pytest.mark.parametrize(
    ("case", "text", "budget", "creates", "deletes"),
    [
        (1, "", (3, 1, 0), 3, []),
        (2, "UUUUU", (2, 1, 0), 0, ["U4", "U3", "U2"]),
        (3, "UU", (2, 1, 0), 0, []),
        (4, "UUF", (2, 0, 1), 0, ["F2"]),
        (5, "UUuu", (3, 0, 1), 0, ["u3"]),
        (6, "OOo", (2, 1, 0), 0, ["o2"]),
        (7, "uuuu", (2, 0, 1), 0, ["u3", "u2"]),
        (8, "OOu", (2, 1, 0), 0, []),
        (9, "UUF", (5, 0, 1), 3, ["F2"]),
        ("leaving pods take a place", "Ux", (2, 0, 1), 0, []),
        ("until they are overdue", "Ug", (2, 0, 1), 1, []),
        ("nothing is wanted", "Uu", (0, 0, 0), 0, ["u1", "U0"]),
        ("beyond N + surge what is not ready goes behind a ready one", "OOuuu", (2, 1, 0), 0, ["u4", "u3"]),
        ("and no further than that", "OOuu", (2, 2, 0), 0, []),
        ("without surge all of it goes", "Ouu", (1, 0, 0), 0, ["u2", "u1"]),
    ],
)
def test_scale(case, text, budget, creates, deletes):
    found = stateless.scale(role(text, *budget))
    assert (found.count, deleted(found)) == (creates, deletes)


def test_10_a_surge_pod_is_kept_while_a_user_scales_in_during_an_update():
    seen = role("OOOu", 2, 1, 0)
    assert deleted(stateless.scale(seen)) == ["O2"]
    assert deleted(stateless.scale(role("OOu", 2, 1, 0))) == []
    assert deleted(stateless.scale(role("OOU", 2, 1, 0))) == ["O1"]


@pytest.mark.parametrize(
    ("case", "text", "budget", "creates", "deletes"),
    [
        (11, "OOo", (3, 1, 0), 1, ["o2"]),
        (12, "OOO", (3, 1, 1), 1, ["O2"]),
        (13, "UOO", (3, 1, 1), 1, ["O2"]),
        (14, "UUU", (3, 1, 1), 0, []),
        (15, "UoO", (3, 1, 1), 1, ["o1"]),
        (16, "OOF", (3, 1, 1), 2, []),
        (17, "OOO", (3, 0, 1), 0, ["O2"]),
        (18, "OOO", (3, 1, 0), 1, []),
    ],
)
def test_roll(case, text, budget, creates, deletes):
    found = stateless.roll(role(text, *budget))
    assert (found.count, deleted(found)) == (creates, deletes)


def test_outdated_then_not_ready_then_cheap_then_new_pods_go_first():
    members = [
        Member("updated", updated=True, ready=True, created="9"),
        Member("dear", ready=True, cost=5, created="9"),
        Member("old", ready=True, created="1"),
        Member("young", ready=True, created="2"),
        Member("starting", created="0"),
    ]
    assert [member.name for member in deletion_order(members)] == ["starting", "young", "old", "dear", "updated"]


def test_19_percentages_are_of_the_roles_replicas():
    budget, fault = role_budget(role_spec(replicas=10, maxSurge="20%", maxUnavailable=3))
    assert (budget, fault) == (Budget(10, 2, 3), "")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"replicas": 0, "maxSurge": 2}, Budget(0, 0, 0)),
        ({"replicas": 2, "maxUnavailable": 5}, Budget(2, 0, 2)),
        ({"replicas": -3}, Budget(0, 0, 0)),
        ({"replicas": None}, Budget(1, 0, 1)),
    ],
)
def test_a_budget_never_exceeds_what_there_is(fields, expected):
    assert role_budget(role_spec(**fields)) == (expected, "")


def test_a_percentage_nobody_can_read_is_said_and_moves_nothing():
    budget, fault = role_budget(role_spec(replicas=2, maxSurge="abc"))
    assert budget == Budget(2, 0, 0)
    assert fault == 'role worker: "abc" is neither a number nor a percentage'
