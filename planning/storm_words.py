"""The words for what a StormService's pass decides."""

from __future__ import annotations

from typing import Final

from planning.view import counted
from planning.wire import (
    Adopt,
    ApplyBudget,
    CreateRevision,
    CreateRoleSets,
    DeleteRevisions,
    DeleteRoleSets,
    Step,
    UpdateRoleSets,
)

_PLAIN: Final = {
    "add-finalizer": "add the finalizer",
    "apply-service": "apply the headless Service",
    "delete-budgets": "forget the disruption budget",
}


def describe(step: Step) -> str:
    """A few words for a step of a StormService."""
    match step:
        case CreateRoleSets(revision=revision, indexes=indexes):
            return f"create {counted(len(indexes), 'RoleSet')} at {revision}"
        case UpdateRoleSets():
            return _rewritten(step)
        case DeleteRoleSets(targets=targets):
            return f"delete {counted(len(targets), 'RoleSet')}"
        case CreateRevision(name=name, revision=number):
            return f"store revision {number} as {name}"
        case DeleteRevisions(targets=targets):
            return f"forget {counted(len(targets), 'old revision')}"
        case ApplyBudget(min_available=kept):
            return f"let evictions leave {counted(kept, 'pod')}"
        case Adopt(kind=kind, targets=targets):
            return f"adopt {counted(len(targets), kind)}"
    return _PLAIN.get(step.type, step.type.replace("-", " "))


def _rewritten(step: UpdateRoleSets) -> str:
    many = counted(len(step.targets), "RoleSet")
    if not step.role_replicas:
        return f"rewrite {many} to {step.revision}"
    scaled = ", ".join(f"{role} to {count}" for role, count in sorted(step.role_replicas.items()))
    return f"scale {scaled} in {many}"
