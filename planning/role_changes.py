"""What of a role makes its pods be replaced, or patched where they are, in words: for forecasts."""

from __future__ import annotations

from typing import Any

from crds.kubernetes.defaults import without_defaults
from planning import names
from planning.differences import differences
from planning.eligibility import INIT_IMAGES, NO_BUDGET, OTHER_FIELDS
from planning.members import role_budget
from planning.shape import shape_of
from planning.topology import role_hash

Json = dict[str, Any]
Placed = tuple[Json, Json]
"""A RoleSet and one of its roles: topology and gang marks of the one are part of the other's pods."""


def pods_of(role: Json, replicas: int) -> int:
    """Pods of so many replicas: a grouped role has several pods a replica."""
    return replicas * max(1, int(role.get("podGroupSize") or 1))


def changes(before: Placed, after: Placed, *, values: bool = False) -> list[str]:
    """Lines for what makes the role's pods be replaced; none when they stay."""
    lines = role_differences(before[1], after[1], values=values)
    if not lines and role_hash(*before) != role_hash(*after):
        return ["topologyPolicy"]
    return lines


def role_differences(live: Json, wanted: Json, *, values: bool = False) -> list[str]:
    """Lines for what differs between the pods of two roles, defaults left out."""
    if names.role_digest(live) == names.role_digest(wanted):
        return []
    before, after = (
        {**without_defaults(role.get("template") or {}), "podGroupSize": int(role.get("podGroupSize") or 1)}
        for role in (live, wanted)
    )
    return differences(before, after, values=values) or ["pod template"]


def asks_in_place(role: Json) -> bool:
    return (role.get("updateStrategy") or {}).get("type") == "InPlaceIfPossible"


def in_place_obstacle(before: Placed, after: Placed) -> str:
    """Why the role's pods cannot be patched where they are; empty when only images of their containers change."""
    role = after[1]
    if not asks_in_place(role):
        return "updateStrategy.type is Recreate"
    if int(role.get("podGroupSize") or 1) > 1:
        return "a PodSet is never updated in place"
    shape, target = shape_of(*before), shape_of(*after)
    if shape != target:
        return OTHER_FIELDS if shape.partition(".")[0] == target.partition(".")[0] else INIT_IMAGES
    return "" if role_budget(role)[0].unavailable else NO_BUDGET
