"""In which order the roles of a RoleSet are updated: all at once, one after another, or step by step together.

Replica repair of every role comes before any update, so starting up is never staggered. A role whose creates wait after
a failure holds nobody else up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from planning import in_place, stateful, stateless
from planning.members import Moves, Role

_LAST: Final = 2**31


@dataclass(frozen=True, slots=True)
class RoleMoves:
    """The moves of all roles in one pass. `scaling`: replicas are repaired, so updates wait."""

    moves: Mapping[str, Moves]
    scaling: bool


def plan_roles(strategy: str, roles: Sequence[Role], held: frozenset[str] = frozenset()) -> RoleMoves:
    """One pass over all roles. `held` are step keys (`create-pods/<role>`, `delete-pods/<role>` …) that wait."""
    scaled = {role.name: _without_held(role, scale(role), held) for role in roles}
    if any(scaled.values()):
        return RoleMoves({name: moves for name, moves in scaled.items() if moves}, scaling=True)
    rolled = {name: _without_held(role, moves, held) for role, name, moves in _rollout(strategy, roles)}
    return RoleMoves({name: moves for name, moves in rolled.items() if moves}, scaling=False)


def _without_held(role: Role, moves: Moves, held: frozenset[str]) -> Moves:
    kind = "podsets" if role.grouped else "pods"
    if f"create-{kind}/{role.name}" in held:
        moves = replace(moves, count=0, slots=())
    if f"delete-{kind}/{role.name}" in held:
        moves = replace(moves, deletes=())
    if f"patch-pods/{role.name}" in held:
        moves = replace(moves, patches=())
    return moves


def kept_behind(strategy: str, roles: Sequence[Role], held: frozenset[str] = frozenset()) -> list[Role]:
    """The roles, those whose turn has not come told so: their missing pods come back at the template they have.

    Only where roles follow each other, and where a pod that is left tells which revision that is.
    """
    if strategy in ("Parallel", "Interleave"):
        return list(roles)
    waiting = set[str]()
    is_turn = True
    for role in in_upgrade_order(roles):
        if not is_turn:
            waiting.add(role.name)
        is_turn = is_turn and is_all_ready(role)
    return [_behind(role, held) if role.name in waiting else role for role in roles]


def _behind(role: Role, held: frozenset[str]) -> Role:
    known = [member for member in role.members if not member.updated and member.revision and member.template_hash]
    if role.grouped or not known or f"old-revision/{role.name}" in held:
        return role
    return replace(role, behind=max(known, key=lambda member: (member.created, member.name)))


def _rollout(strategy: str, roles: Sequence[Role]) -> list[tuple[Role, str, Moves]]:
    match strategy:
        case "Parallel":
            chosen = [(role, roll(role)) for role in roles]
        case "Interleave":
            chosen = _interleaved(roles)
        case _:
            chosen = _sequential(roles)
    return [(role, role.name, moves) for role, moves in chosen]


def in_upgrade_order(roles: Sequence[Role]) -> list[Role]:
    """Lower order first, none last, ties as listed."""
    return sorted(roles, key=lambda role: _LAST if role.upgrade_order is None else role.upgrade_order)


def _sequential(roles: Sequence[Role]) -> list[tuple[Role, Moves]]:
    chosen = []
    for role in in_upgrade_order(roles):
        chosen.append((role, roll(role)))
        if not is_all_ready(role):
            break
    return chosen


def _interleaved(roles: Sequence[Role]) -> list[tuple[Role, Moves]]:
    checked = [(role, check_step(role)) for role in roles]
    open_roles = [(role, step) for role, (done, step) in checked if not done]
    current = min((step for _, step in open_roles), default=1)
    return [(role, roll_by_step(role, current)) for role, step in open_roles if step <= current]


def scale(role: Role) -> Moves:
    return stateful.scale(role) if role.stateful else stateless.scale(role)


def roll(role: Role) -> Moves:
    if role.in_place:
        return in_place.roll(role)
    return stateful.roll(role) if role.stateful else stateless.roll(role)


def roll_by_step(role: Role, step: int) -> Moves:
    if role.in_place:
        return in_place.roll_by_step(role, step)
    return stateful.roll_by_step(role, step) if role.stateful else stateless.roll_by_step(role, step)


def is_all_ready(role: Role) -> bool:
    return stateful.is_all_ready(role) if role.stateful else stateless.is_all_ready(role)


def check_step(role: Role) -> tuple[bool, int]:
    return stateful.check_step(role) if role.stateful else stateless.check_step(role)
