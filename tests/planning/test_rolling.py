"""Rollouts of RoleSets (orchestration 10.3, with all its transition tables)."""

from __future__ import annotations

from dataclasses import replace as changed

import pytest

from crds.intorstr import Budget, resolve
from planning.fleet import Fleet, FleetMoves, Replica
from planning.rolling import replace, rewrite
from planning.scaling import scale


class Run:
    """A rollout whose deletions end at once; `late` new RoleSets become ready a pass later than the rest."""

    def __init__(self, desired: int, surge: int, unavailable: int) -> None:
        self.budget = Budget(desired, surge, min(unavailable, desired))
        self.members = [Replica(f"old{i}", revision="old", ready=True, settled=True) for i in range(desired)]
        self.made = 0

    @property
    def fleet(self) -> Fleet:
        return Fleet(self.members, "old", "new", self.budget)

    @property
    def counts(self) -> tuple[int, int]:
        old = sum(member.revision == "old" for member in self.members)
        return old, len(self.members) - old

    def step(self) -> FleetMoves:
        moves = scale(self.fleet)
        if not moves.acted:
            moves = replace(self.fleet)
        gone = {member.name for member in moves.deletes}
        self.members = [member for member in self.members if member.name not in gone]
        for _, count in moves.creates:
            for _ in range(count):
                self.made += 1
                self.members.append(Replica(f"new{self.made}", revision="new"))
        return moves

    def make_ready(self) -> None:
        self.members = [changed(member, ready=True, settled=True) for member in self.members]


def passes(desired, surge, unavailable):
    """Each pass as (old, new, deleted, created)."""
    run, found = Run(desired, surge, unavailable), []
    while True:
        before = run.counts
        moves = run.step()
        if not moves:
            return [*found, (*before, 0, 0)]
        found.append((*before, len(moves.deletes), sum(count for _, count in moves.creates)))
        run.make_ready()


TABLES = {
    "N=3 S=1 U=1": ((3, 1, 1), [(3, 0, 1, 1), (2, 1, 1, 1), (1, 2, 1, 1), (0, 3, 0, 0)]),
    "N=3 S=0 U=1": (
        (3, 0, 1),
        [(3, 0, 1, 0), (2, 0, 0, 1), (2, 1, 1, 0), (1, 1, 0, 1), (1, 2, 1, 0), (0, 2, 0, 1), (0, 3, 0, 0)],
    ),
    "N=3 S=1 U=0": (
        (3, 1, 0),
        [(3, 0, 0, 1), (3, 1, 1, 0), (2, 1, 0, 1), (2, 2, 1, 0), (1, 2, 0, 1), (1, 3, 1, 0), (0, 3, 0, 0)],
    ),
    "N=10 25%/25%": (
        (10, 3, 2),
        [(10, 0, 2, 3), (8, 3, 1, 0), (7, 3, 2, 3), (5, 6, 1, 0), (4, 6, 2, 3), (2, 9, 1, 0), (1, 9, 1, 1),
         (0, 10, 0, 0)],
    ),
    "N=1 S=1 U=0": ((1, 1, 0), [(1, 0, 0, 1), (1, 1, 1, 0), (0, 1, 0, 0)]),
    "N=1 S=0 U=1": ((1, 0, 1), [(1, 0, 1, 0), (0, 0, 0, 1), (0, 1, 0, 0)]),
    "N=4 S=2 U=1": ((4, 2, 1), [(4, 0, 1, 2), (3, 2, 1, 0), (2, 2, 1, 2), (1, 4, 1, 0), (0, 4, 0, 0)]),
    "N=4 S=0 U=2": ((4, 0, 2), [(4, 0, 2, 0), (2, 0, 0, 2), (2, 2, 2, 0), (0, 2, 0, 2), (0, 4, 0, 0)]),
    "N=5 S=3 U=0": ((5, 3, 0), [(5, 0, 0, 3), (5, 3, 3, 0), (2, 3, 0, 2), (2, 5, 2, 0), (0, 5, 0, 0)]),
}  # fmt: skip


@pytest.mark.parametrize(("budget", "expected"), TABLES.values(), ids=TABLES.keys())
def test_a_rollout_goes_through_its_table(budget, expected):
    assert passes(*budget) == expected


def test_the_percentages_of_the_table_resolve_to_its_numbers():
    assert resolve("25%", "25%", 10) == (3, 2)


def test_deletions_that_end_before_new_ones_are_ready_hold_the_rollout_back():
    run = Run(3, 1, 1)
    first = run.step()
    assert (len(first.deletes), first.creates) == (1, [("new", 1)])
    assert run.counts == (2, 1)
    second = run.step()
    assert (len(second.deletes), second.creates) == (0, [("new", 1)])
    run.make_ready()
    third = run.step()
    assert ([member.name for member in third.deletes], third.creates) == (["old1"], ())
    assert run.counts == (1, 2)
    fourth = run.step()
    assert (len(fourth.deletes), fourth.creates) == (1, [("new", 1)])
    assert run.counts == (0, 3)
    assert not run.step()
    run.make_ready()
    assert not run.step()


def test_of_two_older_revisions_the_half_started_one_goes_first_and_free():
    members = [Replica(f"a{i}", revision="first", ready=True, settled=True) for i in range(3)]
    members.append(Replica("b0", revision="second"))
    found = replace(Fleet(members, "first", "third", Budget(3, 1, 0)))
    assert [member.name for member in found.deletes] == ["b0"]
    assert found.creates == []


def test_without_unavailable_no_ready_roleset_goes_before_a_new_one_is_ready():
    run = Run(3, 1, 0)
    for _ in range(5):
        moves = run.step()
        assert not [member for member in moves.deletes if member.ready]


def in_place(text: str, unavailable: int, desired: int | None = None) -> list[str]:
    """`O`/`o` outdated, `S` rewritten and settled, `r` rewritten and still updating, `R` the same and ready."""
    members = [
        Replica(
            f"{letter}{i}",
            revision="old" if letter in "Oo" else "new",
            ready=letter in "OSR",
            settled=letter in "OS",
        )
        for i, letter in enumerate(text)
    ]
    found = rewrite(Fleet(members, "old", "new", Budget(desired or len(text), 0, unavailable), in_place=True))
    return [member.name for member in found.rewrites]


@pytest.mark.parametrize(
    ("text", "unavailable", "rewritten"),
    [
        ("O", 1, ["O0"]),
        ("OOO", 1, ["O0"]),
        ("OOO", 0, ["O0"]),
        ("rOO", 1, []),
        ("ROO", 1, []),
        ("SOO", 1, ["O1"]),
        ("OOO", 2, ["O0", "O1"]),
        ("rOOO", 2, ["O1"]),
        ("OoO", 1, ["o1"]),
        ("OoO", 2, ["o1", "O0"]),
        ("SSS", 1, []),
    ],
)
def test_rolesets_are_rewritten_in_place_within_unavailable(text, unavailable, rewritten):
    assert in_place(text, unavailable) == rewritten
