"""Stateful roles, one pass each (roleset section 5)."""

from __future__ import annotations

import pytest

from crds.intorstr import Budget
from planning import stateful
from planning.members import Member, Role
from planning.names import stateful_pod_name


def role(*slots: str, desired: int, surge: int = 0, unavailable: int = 1, misplaced: str = "") -> Role:
    """Pods by slot, letters as for stateless roles; `misplaced` have no slot."""
    members = [_pod(letter, slot, place) for slot, letters in enumerate(slots) for place, letter in enumerate(letters)]
    members += [_pod(letter, None, place) for place, letter in enumerate(misplaced)]
    return Role(
        "worker", Budget(desired, surge, unavailable), members, stateful=True, template_hash="new", roleset="set"
    )


def _pod(letter: str, slot: int | None, place: int) -> Member:
    hash_ = "new" if letter in "UuXF" else f"old{place}"
    name = f"{letter}-{slot}" if letter not in "XF" or slot is None else stateful_pod_name("set", "worker", hash_, slot)
    return Member(
        name,
        ready=letter in "OU",
        updated=letter in "UuXF",
        leaving=letter in "xX",
        ended=letter == "F",
        slot=slot,
    )


def shown(moves):
    return list(moves.slots), sorted(member.name for member in moves.deletes)


@pytest.mark.parametrize(
    ("case", "seen", "expected"),
    [
        ("empty slots are filled", role("U", "", "", desired=3), ([1, 2], [])),
        ("a leaving pod takes a place", role("U", "x", "", desired=3), ([1], [])),
        ("a surplus slot goes", role("U", "U", "U", desired=2), ([], ["U-2"])),
        ("but serves on while its betters do not", role("u", "u", "U", desired=2), ([], [])),
        ("the twin takes over once it is ready", role("OU", desired=1), ([], ["O-0"])),
        ("until then both stay", role("Ou", desired=1, surge=1), ([], [])),
        ("of three the spare one goes", role("Oou", desired=1, surge=2), ([], ["o-0"])),
        ("a twin of its own name waits for it", role("X", desired=1, surge=1), ([], [])),
        ("a failed pod goes before its place is filled", role("F", desired=1), ([], ["set-worker-new-0"])),
    ],
)
def test_scale(case, seen, expected):
    assert shown(stateful.scale(seen)) == expected


def test_pods_of_a_role_that_was_stateless_go_within_the_budget():
    assert shown(stateful.scale(role(desired=3, misplaced="OOO"))) == ([], ["O-None"])
    seen = role("", "", "", desired=3, misplaced="OO")
    assert shown(stateful.scale(seen)) == ([0], [])
    assert shown(stateful.scale(role("U", "", "", desired=3, misplaced="OO"))) == ([], ["O-None"])


@pytest.mark.parametrize(
    ("case", "seen", "expected"),
    [
        ("one by one from slot 0", role("O", "O", "O", desired=3), ([], ["O-0"])),
        ("one goes and one gets a twin", role("O", "O", "O", desired=3, surge=1), ([1], ["O-0"])),
        ("only twins without unavailable", role("O", "O", desired=2, surge=1, unavailable=0), ([0], [])),
        ("what serves nobody goes free", role("O", "o", desired=2, surge=1, unavailable=0), ([0], ["o-1"])),
        ("updated slots are left alone", role("U", "U", desired=2), ([], [])),
        ("the floor holds", role("O", "u", desired=2), ([], [])),
    ],
)
def test_roll(case, seen, expected):
    assert shown(stateful.roll(seen)) == expected
