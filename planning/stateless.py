"""Roles whose pods are interchangeable: scaling, rolling updates, and updates in steps."""

from __future__ import annotations

from planning.members import Member, Moves, Role, deletion_order


def scale(role: Role) -> Moves:
    """Towards the desired number; ended pods go. A surge pod survives while taking a ready one would cost too much."""
    surplus = len(role.active) - role.budget.desired
    if surplus > 0:
        return Moves(deletes=(*role.ended, *_surplus(role, surplus)))
    return Moves(count=min(-surplus, role.free_places), deletes=tuple(role.ended))


def _surplus(role: Role, surplus: int) -> list[Member]:
    """As many as the floor allows; beyond N + surge, pods that are not ready go even behind a ready one that stays."""
    ready, chosen, floor_met = role.ready, list[Member](), False
    for member in deletion_order(role.active):
        if len(chosen) == surplus:
            break
        if member.ready:
            floor_met = floor_met or ready <= role.budget.min_available
        if floor_met and (member.ready or len(role.active) - len(chosen) <= role.budget.most):
            continue
        ready -= member.ready
        chosen.append(member)
    return chosen


def roll(role: Role) -> Moves:
    """One pass of a rolling update; everything that the budget allows at once."""
    return _exchange(role, role.budget.desired, role.ready - role.budget.min_available)


def roll_by_step(role: Role, step: int) -> Moves:
    """As `roll`, but only until `step` times surge plus unavailable pods are updated."""
    expected = expected_updated(role, step)
    if role.updated >= expected:
        return Moves()
    of_step = len(role.outdated) - role.budget.desired + expected
    return _exchange(role, expected, min(of_step, role.ready - role.budget.min_available))


def expected_updated(role: Role, step: int) -> int:
    return min((role.budget.surge + role.budget.unavailable) * step, role.budget.desired)


def _exchange(role: Role, wanted_updated: int, ready_to_spare: int) -> Moves:
    chosen = []
    for member in deletion_order(role.outdated):
        if member.ready:
            if ready_to_spare <= 0:
                break
            ready_to_spare -= 1
        chosen.append(member)
    count = max(0, min(role.free_places, wanted_updated - role.updated))
    return Moves(count=count, deletes=tuple(chosen))


def is_all_ready(role: Role) -> bool:
    """Everything updated and ready, nothing leaving: the next role may start."""
    return role.is_calm and not role.outdated and len(role.active) == role.budget.desired


def check_step(role: Role) -> tuple[bool, int]:
    """Whether the role is done, and which step of an interleaved update it may take."""
    desired, length, settled = role.budget.desired, role.budget.step, role.updated_ready
    done = role.is_calm and not any(member.ready for member in role.outdated) and settled >= desired
    return done, step_of(settled, role.updated, len(role.outdated), desired, length, calm=role.is_update_calm)


def step_of(settled: int, updated: int, outdated: int, desired: int, length: int, *, calm: bool) -> int:
    """The step that `settled` updated-and-ready members are in; the next one once this one is through.

    The division truncates towards zero: none settled is step 0 for steps of one member, else step 1.
    """
    step = int((settled - 1) / length) + 1
    through = calm and settled == length * step
    return step + (through or updated > length * step or outdated < desired - length * step)
