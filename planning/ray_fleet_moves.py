"""How large each replica set of a fleet is to be next: rolling, recreating, scaling; all as a Deployment does it.

Each function returns sizes by name, only of those that change; an empty answer means that nothing can move now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from planning.objects import in_order, status_of
from planning.ray_fleet_view import ROLLING_UPDATE, Fleet, ReplicaSet, number

Sizes = Mapping[str, int]


def first_size(fleet: Fleet) -> int:
    """Of a new replica set: what the surge leaves."""
    if fleet.strategy != ROLLING_UPDATE:
        return fleet.budget.desired
    return max(0, min(fleet.budget.most - fleet.total, fleet.budget.desired))


def is_scaled(fleet: Fleet) -> bool:
    """Somebody changed the fleet's replicas since its replica sets were sized."""
    return any(each.size > 0 and each.desired != str(fleet.budget.desired) for each in fleet.sets)


def rolling(fleet: Fleet, new: ReplicaSet) -> Sizes:
    """One move: the new one up, or the old ones down."""
    budget = fleet.budget
    if new.size > budget.desired:
        return {new.name: budget.desired}
    if new.size < budget.desired and fleet.total < budget.most:
        return {new.name: new.size + min(budget.most - fleet.total, budget.desired - new.size)}
    return _shrink(fleet, new)


def _shrink(fleet: Fleet, new: ReplicaSet) -> Sizes:
    """First what is not available anyway, then as much as the budget leaves."""
    room = fleet.total - fleet.budget.min_available - (new.size - new.available)
    if room <= 0:
        return {}
    sizes = {each.name: each.size for each in fleet.old}
    for each in fleet.old:
        cut = min(room, each.size - each.available)
        sizes[each.name] -= cut
        room -= cut
    spare = new.available + sum(each.available for each in fleet.old) - fleet.budget.min_available
    for each in fleet.old:
        cut = max(0, min(sizes[each.name], spare, room))
        sizes[each.name] -= cut
        spare, room = spare - cut, room - cut
    return _changed(fleet.old, sizes)


def recreating(fleet: Fleet, new: ReplicaSet | None) -> Sizes:
    """Old ones to nothing; the new one only when all their clusters are gone."""
    active = {each.name: 0 for each in fleet.old if each.size > 0}
    if active:
        return active
    if new is None or still_there(fleet) or new.size == fleet.budget.desired:
        return {}
    return {new.name: fleet.budget.desired}


def still_there(fleet: Fleet) -> bool:
    """Clusters of an older template exist, leaving ones too: they hold their accelerators to the end."""
    return any(each.total > 0 or each.leaving > 0 or not each.observed for each in fleet.old)


def scaling(fleet: Fleet, new: ReplicaSet | None) -> Sizes:
    """To the fleet's replicas: the only active one, or in proportion."""
    active = [each for each in fleet.sets if each.size > 0]
    if len(active) <= 1:
        one = active[0] if active else new or (fleet.sets[-1] if fleet.sets else None)
        return {one.name: fleet.budget.desired} if one is not None and _stale(fleet, one) else {}
    if new is not None and _is_saturated(fleet, new):
        return {each.name: 0 for each in fleet.old if each.size > 0}
    return _proportional(fleet, active) if fleet.strategy == ROLLING_UPDATE else {}


def _stale(fleet: Fleet, one: ReplicaSet) -> bool:
    return one.size != fleet.budget.desired or one.desired != str(fleet.budget.desired)


def _is_saturated(fleet: Fleet, new: ReplicaSet) -> bool:
    wanted = fleet.budget.desired
    return new.size == wanted and new.desired == str(wanted) and new.available == wanted


def _proportional(fleet: Fleet, active: Sequence[ReplicaSet]) -> Sizes:
    """All active ones, each by its part of the change; what rounding leaves goes to the first."""
    allowed = fleet.budget.most if fleet.budget.desired else 0
    rest = allowed - sum(each.size for each in active)
    by_age = in_order(each.live for each in active)
    age = {found["metadata"]["name"]: place for place, found in enumerate(by_age)}
    newer_first = -1 if rest > 0 else 1
    ordered = sorted(active, key=lambda each: (-each.size, newer_first * age[each.name]))
    sizes = {each.name: each.size for each in ordered}
    for each in ordered:
        part = _part(fleet, each, allowed)
        part = min(max(part, 0), rest) if rest > 0 else max(min(part, 0), rest)
        sizes[each.name] += part
        rest -= part
    if ordered and rest:
        sizes[ordered[0].name] = max(0, sizes[ordered[0].name] + rest)
    return sizes


def _part(fleet: Fleet, each: ReplicaSet, allowed: int) -> int:
    if fleet.budget.desired == 0:
        return -each.size
    noted = number(each.most) or int(status_of(fleet.live).get("replicas") or 0)
    return round_half_up(Fraction(each.size * allowed, noted)) - each.size if noted else 0


def round_half_up(value: Fraction) -> int:
    return int(value + Fraction(1, 2)) if value >= 0 else -int(-value + Fraction(1, 2))


def _changed(sets: Sequence[ReplicaSet], sizes: Sizes) -> Sizes:
    return {each.name: sizes[each.name] for each in sets if sizes[each.name] != each.size}
