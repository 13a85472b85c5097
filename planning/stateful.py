"""Roles whose pods have places: slots 0 to N-1, each with one pod, for a moment with its successor beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planning import names
from planning.members import Member, Moves, Role, deletion_order
from planning.stateless import expected_updated, step_of


@dataclass(frozen=True, slots=True)
class Slots:
    """Active pods by slot; `misplaced` have none, `surplus` have one beyond the desired number."""

    slots: Sequence[Sequence[Member]]
    misplaced: Sequence[Member]
    surplus: Sequence[Member]

    @property
    def ready(self) -> int:
        return sum(any(member.ready for member in slot) for slot in self.slots)

    @property
    def updated(self) -> int:
        return sum(any(member.updated for member in slot) for slot in self.slots)

    @property
    def outdated(self) -> int:
        return sum(bool(slot) and not any(member.updated for member in slot) for slot in self.slots)

    @property
    def settled(self) -> int:
        """Slots with exactly one pod, updated and ready."""
        return sum(len(slot) == 1 and slot[0].updated and slot[0].ready for slot in self.slots)


def slots_of(role: Role) -> Slots:
    slots: list[list[Member]] = [[] for _ in range(role.budget.desired)]
    misplaced, surplus = [], []
    for member in role.active:
        if member.slot is None:
            misplaced.append(member)
        elif member.slot >= len(slots):
            surplus.append(member)
        else:
            slots[member.slot].append(member)
    return Slots(slots, misplaced, surplus)


def scale(role: Role) -> Moves:
    """Fills empty slots, takes ended pods away, and keeps one pod in a slot.

    Pods without a slot come from a role that was stateless until lately, those with one beyond the desired number from
    a role that was larger: they go within the budget, so while too few of the others are ready they serve on.
    """
    seen = slots_of(role)
    crowded = [member for slot in seen.slots if len(slot) > 1 for member in _redundant(slot)]
    deletes = (*role.ended, *crowded, *_spare(role, seen))
    taken = _taken_names(role)
    empty = [slot for slot, found in enumerate(seen.slots) if not found and _name(role, slot) not in taken]
    return Moves(slots=tuple(empty[: role.free_places]), deletes=deletes)


def _redundant(slot: Sequence[Member]) -> list[Member]:
    """Of several pods in one slot those that can go: all but the first updated ready one, if there is one."""
    settled = next((member for member in slot if member.updated and member.ready), None)
    if settled is not None:
        return [member for member in slot if member is not settled]
    serving = next((member for member in slot if member.ready), None)
    coming = next((member for member in slot if member.updated), None)
    return [member for member in slot if member is not serving and member is not coming]


def _spare(role: Role, seen: Slots) -> list[Member]:
    """Pods that no slot needs, as many as may go."""
    unplaced = [*seen.surplus, *seen.misplaced]
    spare = seen.ready + sum(member.ready for member in unplaced) - role.budget.min_available
    chosen = []
    for member in deletion_order(unplaced):
        if member.ready:
            if spare <= 0:
                continue
            spare -= 1
        chosen.append(member)
    return chosen


def _name(role: Role, slot: int) -> str:
    return names.stateful_pod_name(role.roleset, role.name, role.new_hash, slot)


def _taken_names(role: Role) -> set[str]:
    """A pod's name follows from its slot and template: a predecessor that still leaves holds it."""
    return {member.name for member in role.members}


def roll(role: Role) -> Moves:
    seen = slots_of(role)
    return _exchange(role, seen, _to_create(role), seen.ready - role.budget.min_available)


def roll_by_step(role: Role, step: int) -> Moves:
    seen = slots_of(role)
    expected = expected_updated(role, step)
    if seen.updated >= expected:
        return Moves()
    creates = min(_to_create(role), expected - seen.updated)
    deletes = min(seen.ready - role.budget.min_available, seen.outdated - role.budget.desired + expected)
    return _exchange(role, seen, creates, deletes)


def _to_create(role: Role) -> int:
    return role.budget.most - sum(not member.gone for member in role.members)


def _exchange(role: Role, seen: Slots, to_create: int, to_delete: int) -> Moves:
    """In slot order: a pod that serves nobody goes; a ready one goes, or gets its successor beside it."""
    deletes, creates, taken = [], [], _taken_names(role)
    for slot, members in enumerate(seen.slots):
        if len(members) != 1 or members[0].updated:
            continue
        if not members[0].ready:
            deletes.append(members[0])
        elif to_delete > 0:
            to_delete -= 1
            deletes.append(members[0])
        elif to_create > 0 and _name(role, slot) not in taken:
            to_create -= 1
            creates.append(slot)
    return Moves(slots=tuple(creates), deletes=tuple(deletes))


def is_all_ready(role: Role) -> bool:
    seen = slots_of(role)
    return role.is_calm and not role.outdated and all(len(slot) == 1 for slot in seen.slots) and _is_placed(seen)


def _is_placed(seen: Slots) -> bool:
    return not seen.misplaced and not seen.surplus


def check_step(role: Role) -> tuple[bool, int]:
    seen = slots_of(role)
    placed = _is_placed(seen)
    updated = not any(member.ready for member in role.outdated) and seen.settled == role.budget.desired
    done, calm = role.is_calm and placed and updated, role.is_update_calm and placed
    return done, step_of(seen.settled, seen.updated, seen.outdated, role.budget.desired, role.budget.step, calm=calm)
