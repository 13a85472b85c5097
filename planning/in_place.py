"""Updates of running pods by another image: which pods are patched in one pass, within the same budget as deletions.

A pod whose update is under way counts as not ready, so the budget knows it. One that cannot finish is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

from planning.members import Member, Moves, Role
from planning.stateful import slots_of
from planning.stateless import expected_updated


def roll(role: Role) -> Moves:
    """One pass: pods that serve nobody first, then the newest."""
    overdue, candidates = _candidates(role)
    newest_first = sorted(candidates, key=lambda member: (member.created, member.name), reverse=True)
    ordered = sorted(newest_first, key=lambda member: (member.ready, member.drained_since is None))
    return _chosen(overdue, ordered, len(ordered), _spare(role))


def roll_by_step(role: Role, step: int) -> Moves:
    """As `roll`, but with those under way not more than `step` times surge plus unavailable updated pods."""
    overdue, candidates = _candidates(role)
    expected = expected_updated(role, step)
    updated, outdated = _progress(role)
    flying = sum(member.flies_to(role.template_hash) for member in role.active)
    limit = max(0, expected - updated - flying)
    spare = min(_spare(role), outdated - role.budget.desired + expected)
    newest_first = sorted(candidates, key=lambda member: (member.created, member.name), reverse=True)
    ordered = sorted(newest_first, key=lambda m: m.slot or 0 if role.stateful else m.ready)
    return _chosen(overdue, ordered, limit, spare)


def _candidates(role: Role) -> tuple[list[Member], list[Member]]:
    """Pods whose update has failed, and pods whose update can begin; of a stateful role only those alone in a slot."""
    if role.stateful:
        found = [slot[0] for slot in slots_of(role).slots if len(slot) == 1 and not slot[0].updated]
    else:
        found = role.outdated
    flying = [member for member in found if member.flies_to(role.template_hash)]
    return [member for member in flying if member.overdue], [member for member in found if member not in flying]


def _spare(role: Role) -> int:
    ready = slots_of(role).ready if role.stateful else role.ready
    return ready - role.budget.min_available


def _progress(role: Role) -> tuple[int, int]:
    if role.stateful:
        seen = slots_of(role)
        return seen.updated, seen.outdated
    return role.updated, len(role.outdated)


def _chosen(overdue: Sequence[Member], ordered: Sequence[Member], limit: int, spare: int) -> Moves:
    chosen: list[Member] = []
    for member in ordered:
        if len(chosen) == limit:
            break
        if member.ready:
            if spare <= 0:
                continue
            spare -= 1
        chosen.append(member)
    return Moves(deletes=tuple(overdue), patches=tuple(chosen))
