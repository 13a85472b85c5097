"""Updates of whole RoleSets in passes (roleset 5.1 with its tables, cases 20 to 23)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crds.intorstr import Budget
from planning.managers import in_upgrade_order, plan_roles
from planning.members import Member, Role
from planning.names import stateful_pod_name


class Run:
    """Roles whose pods are old and ready at first; between passes deletions end and new pods become ready."""

    def __init__(self, strategy: str, *roles: tuple[str, int, int, int], stateful: bool = False, orders=None) -> None:
        self.strategy, self.stateful, self.orders = strategy, stateful, orders or {}
        self.budgets = {name: Budget(n, s, min(u, n)) for name, n, s, u in roles}
        self.pods = {
            name: [Member(f"old{i}", ready=True, slot=i if stateful else None) for i in range(budget.desired)]
            for name, budget in self.budgets.items()
        }
        self.made = 0

    def roles(self) -> list[Role]:
        return [
            Role(name, budget, self.pods[name], self.stateful, self.orders.get(name), "new", roleset="set")
            for name, budget in self.budgets.items()
        ]

    def counts(self, name: str) -> tuple[int, int]:
        new = sum(member.updated for member in self.pods[name])
        return len(self.pods[name]) - new, new

    def step(self) -> tuple[dict[str, tuple[int, int]], bool]:
        """Deleted and created by role, and whether that was scaling."""
        found = plan_roles(self.strategy, self.roles())
        acted = {}
        for name, moves in found.moves.items():
            acted[name] = (len(moves.deletes), moves.creates)
            gone = {member.name for member in moves.deletes}
            kept = [member for member in self.pods[name] if member.name not in gone]
            slots: list[int | None] = [*moves.slots, *[None] * moves.count]
            self.pods[name] = kept + [self._pod(name, slot) for slot in slots]
        return acted, found.scaling

    def _pod(self, role: str, slot: int | None) -> Member:
        self.made += 1
        name = f"new{self.made}" if slot is None else stateful_pod_name("set", role, "new", slot)
        return Member(name, created=f"{self.made:03}", updated=True, slot=slot)

    def make_ready(self) -> None:
        self.pods = {name: [replace(pod, ready=True) for pod in pods] for name, pods in self.pods.items()}


def passes(run: Run, *names: str):
    """Counts (old, new) of the roles before each pass, with what the pass did."""
    found = []
    while True:
        before = [run.counts(name) for name in names]
        acted, scaling = run.step()
        found.append((*before, acted, scaling))
        if not acted:
            return found
        run.make_ready()


# What one pass does: `roll` or `scale`, pods deleted, pods created.
R, S = "roll", "scale"
TABLES = {
    "S=0 U=1": (
        (3, 0, 1),
        [((3, 0), R, 1, 0), ((2, 0), S, 0, 1), ((2, 1), R, 1, 0), ((1, 1), S, 0, 1), ((1, 2), R, 1, 0),
         ((0, 2), S, 0, 1)],
    ),
    "S=1 U=0": (
        (3, 1, 0),
        [((3, 0), R, 0, 1), ((3, 1), S, 1, 0), ((2, 1), R, 0, 1), ((2, 2), S, 1, 0), ((1, 2), R, 0, 1),
         ((1, 3), S, 1, 0)],
    ),
    "S=0 U=2": ((3, 0, 2), [((3, 0), R, 2, 0), ((1, 0), S, 0, 2), ((1, 2), R, 1, 0), ((0, 2), S, 0, 1)]),
    "S=50% U=0": ((3, 2, 0), [((3, 0), R, 0, 2), ((3, 2), S, 2, 0), ((1, 2), R, 0, 1), ((1, 3), S, 1, 0)]),
}  # fmt: skip
# A stateless role exchanges the last pod in one pass, where a stateful one needs the slot to be free first.
STATELESS = TABLES | {
    "S=1 U=1": ((3, 1, 1), [((3, 0), R, 1, 1), ((2, 1), R, 1, 1), ((1, 2), R, 1, 1)]),
}
# Slot 0 is emptied and slot 1 gets a second pod; then slot 0 is filled and the old pod of slot 1 goes.
STATEFUL = TABLES | {
    "S=1 U=1": ((3, 1, 1), [((3, 0), R, 1, 1), ((2, 1), S, 1, 1), ((1, 2), R, 1, 0), ((0, 2), S, 0, 1)]),
}


def table(run: Run) -> list[tuple[tuple[int, int], str, int, int]]:
    """Each pass of the only role up to the end: counts before it, and what it did."""
    found = []
    for before, acted, scaling in passes(run, "w"):
        deleted, created = acted.get("w", (0, 0))
        found.append((before, S if scaling else R, deleted, created))
    assert found.pop() == ((0, 3), R, 0, 0)
    return found


@pytest.mark.parametrize("strategy", ["Parallel", "Sequential"])
@pytest.mark.parametrize(("budget", "expected"), STATELESS.values(), ids=STATELESS.keys())
def test_a_stateless_role_goes_through_its_table(strategy, budget, expected):
    assert table(Run(strategy, ("w", *budget))) == expected


@pytest.mark.parametrize("strategy", ["Parallel", "Sequential"])
@pytest.mark.parametrize(("budget", "expected"), STATEFUL.values(), ids=STATEFUL.keys())
def test_a_stateful_role_goes_through_its_table(strategy, budget, expected):
    run = Run(strategy, ("w", *budget), stateful=True)
    assert table(run) == expected
    assert sorted(pod.slot for pod in run.pods["w"]) == [0, 1, 2]


def slots_touched(run: Run) -> list[tuple[list[int], list[int]]]:
    """Slots whose old pod goes, and slots that get a pod, by pass."""
    found = []
    while True:
        before = {pod.name: pod for pod in run.pods["w"]}
        acted, _ = run.step()
        if not acted:
            return found
        after = {pod.name: pod for pod in run.pods["w"]}
        gone = sorted(before[name].slot for name in before.keys() - after.keys())
        found.append((gone, sorted(after[name].slot for name in after.keys() - before.keys())))
        run.make_ready()


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ((3, 1, 1), [([0], [1]), ([1], [0]), ([2], []), ([], [2])]),
        ((3, 0, 1), [([0], []), ([], [0]), ([1], []), ([], [1]), ([2], []), ([], [2])]),
        ((3, 1, 0), [([], [0]), ([0], []), ([], [1]), ([1], []), ([], [2]), ([2], [])]),
        ((3, 0, 2), [([0, 1], []), ([], [0, 1]), ([2], []), ([], [2])]),
        ((3, 2, 0), [([], [0, 1]), ([0, 1], []), ([], [2]), ([2], [])]),
    ],
    ids=["S=1 U=1", "S=0 U=1", "S=1 U=0", "S=0 U=2", "S=50% U=0"],
)
def test_slots_are_exchanged_from_0_up(budget, expected):
    assert slots_touched(Run("Parallel", ("w", *budget), stateful=True)) == expected


def test_20_roles_are_sorted_by_order_and_ties_stay_as_listed():
    def sort(*orders):
        listed = [Role(f"r{i}", Budget(1, 0, 1), upgrade_order=order) for i, order in enumerate(orders)]
        found = [(role.name, role.upgrade_order) for role in in_upgrade_order(listed)]
        assert [role.name for role in listed] == [f"r{i}" for i in range(len(orders))]
        return found

    assert [order for _, order in sort(3, 1, 2)] == [1, 2, 3]
    assert [order for _, order in sort(2, None, 1)] == [1, 2, None]
    assert [name for name, _ in sort(1, 1, 1)] == ["r0", "r1", "r2"]
    assert sort(2, None, None, 1) == [("r3", 1), ("r0", 2), ("r1", None), ("r2", None)]


def test_21_sequential_roles_follow_each_other():
    run = Run(
        "Sequential", ("router", 1, 0, 1), ("prefill", 2, 0, 1), ("decode", 2, 0, 1), orders={"router": 1, "prefill": 2}
    )
    found = [entry[-2] for entry in passes(run, "router")]
    minus, plus = (1, 0), (0, 1)
    assert found == [
        {"router": minus}, {"router": plus}, {"prefill": minus}, {"prefill": plus}, {"prefill": minus},
        {"prefill": plus}, {"decode": minus}, {"decode": plus}, {"decode": minus}, {"decode": plus}, {},
    ]  # fmt: skip


@pytest.mark.parametrize("orders", [{"prefill": 1, "decode": 1}, {"prefill": 1}])
def test_22_23_the_second_role_waits_until_the_first_is_ready(orders):
    run = Run("Sequential", ("prefill", 2, 0, 1), ("decode", 2, 0, 1), orders=orders)
    while run.counts("prefill") != (0, 2):
        run.step()
        assert run.counts("decode") == (2, 0)
        if run.counts("prefill") != (0, 2):
            run.make_ready()
    assert run.step() == ({}, False)
    run.make_ready()
    assert run.step() == ({"decode": (1, 0)}, False)


def test_interleaved_roles_advance_step_by_step():
    run = Run("Interleave", ("prefill", 4, 0, 1), ("decode", 2, 0, 1))
    minus, plus = (1, 0), (0, 1)
    both, one = ("prefill", "decode"), ("prefill",)
    assert passes(run, "prefill", "decode") == [
        ((4, 0), (2, 0), dict.fromkeys(both, minus), False),
        ((3, 0), (1, 0), dict.fromkeys(both, plus), True),
        ((3, 1), (1, 1), dict.fromkeys(both, minus), False),
        ((2, 1), (0, 1), dict.fromkeys(both, plus), True),
        ((2, 2), (0, 2), dict.fromkeys(one, minus), False),
        ((1, 2), (0, 2), dict.fromkeys(one, plus), True),
        ((1, 3), (0, 2), dict.fromkeys(one, minus), False),
        ((0, 3), (0, 2), dict.fromkeys(one, plus), True),
        ((0, 4), (0, 2), {}, False),
    ]


def test_interleaved_roles_with_steps_of_different_length():
    run = Run("Interleave", ("prefill", 4, 1, 1), ("decode", 2, 0, 1))
    found = [acted for _, acted, _ in passes(run, "prefill")]
    assert found == [
        {"prefill": (1, 1), "decode": (1, 0)},
        {"decode": (0, 1)},
        {"prefill": (1, 1)},
        {"prefill": (1, 1), "decode": (1, 0)},
        {"decode": (0, 1)},
        {"prefill": (1, 1)},
        {},
    ]


def test_repair_of_any_role_comes_before_updates_of_all():
    run = Run("Parallel", ("a", 2, 0, 1), ("b", 2, 0, 1))
    run.pods["a"].pop()
    assert run.step() == ({"a": (0, 1)}, True)


def test_a_role_that_waits_after_a_failure_holds_no_other_back():
    run = Run("Parallel", ("a", 2, 0, 1), ("b", 2, 0, 1))
    run.pods["a"].pop()
    found = plan_roles("Parallel", run.roles(), frozenset({"create-pods/a"}))
    assert not found.scaling
    assert len(found.moves["b"].deletes) == 1


@pytest.mark.parametrize("strategy", ["", "Unknown"])
def test_an_unknown_strategy_is_sequential(strategy):
    run = Run(strategy, ("a", 1, 0, 1), ("b", 1, 0, 1))
    assert run.step()[0] == {"a": (1, 0)}


def test_an_old_pod_that_never_becomes_ready_does_not_hold_an_interleaved_update_up():
    run = Run("Interleave", ("a", 2, 0, 1))
    run.pods["a"] = [Member("broken"), Member("new0", ready=True, updated=True)]
    assert run.step() == ({"a": (1, 0)}, False)
