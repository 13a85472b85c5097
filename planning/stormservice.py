"""The rules of a StormService: revisions, RoleSets, headless Service, status, deletion.

The object's own workflow scales and repairs, and starts a rollout when the target revision has not been completed. The
rollout's workflow does all of that for its revision, until it is complete or no longer wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from crds import labels
from planning import departure
from planning.limits import Allowance
from planning.objects import has_finalizer, in_order, is_deleting, name_of, spec_of, status_of, uid_of
from planning.planner import Plan, Resource, World
from planning.resources import BUDGET, CONTROLLER_REVISION, SERVICE
from planning.roleset import ROLESET, conclude, gone
from planning.storm_pass import StormPass
from planning.view import counted, model_of
from planning.wire import (
    CloseRollout,
    Decision,
    DeleteRoleSets,
    Memory,
    ReleaseFinalizer,
    StartRollout,
    Step,
    Target,
    View,
)

Json = dict[str, Any]
STORM_SERVICE: Final = Resource(labels.ORCHESTRATION_GROUP, labels.VERSION, "stormservices", "StormService")


@dataclass(frozen=True, slots=True)
class StormServicePlanner:
    """Plans one StormService, for its own workflow or for that of a rollout."""

    @property
    def resource(self) -> Resource:
        return STORM_SERVICE

    @property
    def owns(self) -> Sequence[Resource]:
        return (ROLESET, CONTROLLER_REVISION, SERVICE, BUDGET)

    @property
    def adopts(self) -> Sequence[Resource]:
        """What comes back to an object of the same name after its owner was deleted without it."""
        return self.owns

    def plan(self, world: World, memory: Memory, rollout: str | None) -> Plan:
        storm = world.object
        is_gone = storm is None or uid_of(storm) != world.ref.uid
        if rollout is not None and (is_gone or storm is None or is_deleting(storm)):
            return _close("deleted", f"{world.ref.name} is being deleted", View(phase="Deleting", revision=rollout))
        if is_gone or storm is None:
            return gone(world)
        if is_deleting(storm):
            return _deletion(world, storm, memory)
        seen = StormPass(world, storm, memory, rollout)
        return _of_object(seen) if rollout is None else _of_rollout(seen, rollout)


def _of_object(seen: StormPass) -> Plan:
    """What the object's own workflow does: everything but rolling out."""
    if seen.adoptions or not seen.wants_rollout or seen.invalid:
        return seen.plan()
    revisions = seen.revisions
    steps: list[Step] = [StartRollout(revision=revisions.update, number=revisions.number)]
    done = status_of(seen.storm).get("completedRevision") or "nothing"
    return seen.conclude(steps, f"roll out {revisions.update} (completed so far: {done})")


def _of_rollout(seen: StormPass, rollout: str) -> Plan:
    """What the workflow of one rollout does, until the revision is complete or no longer the target."""
    if seen.given_up and rollout == seen.asked:
        return _close("failed", seen.verdict.why, seen.view, seen)
    if seen.revisions.update != rollout:
        result: str = "undone" if seen.is_rollback else "superseded"
        return _close(result, f"the target is now {seen.revisions.update}", seen.view, seen)
    if seen.is_complete and status_of(seen.storm).get("completedRevision") == rollout:
        return _close(
            "completed", f"{seen.counts.ready} of {counted(seen.counts.desired, 'RoleSet')} ready", seen.view, seen
        )
    return seen.plan()


def _close(result: Any, message: str, view: View, seen: StormPass | None = None) -> Plan:
    step = CloseRollout(result=result, message=message)
    decision = Decision(reason=f"{result}: {message}", steps=[step], view=view)
    return Plan(decision, view, seen.status if seen is not None else None)


def _deletion(world: World, storm: Json, memory: Memory) -> Plan:
    rolesets = [] if departure.is_orphaning(storm) else in_order(world.children.get(ROLESET.key, ()))
    steps: list[Step] = []
    if rolesets:
        staying = [found for found in rolesets if not is_deleting(found)]
        targets = [_unchanged(found) for found in Allowance().targets(staying)]
        steps = [DeleteRoleSets(targets=targets)]
        reason = f"delete {counted(len(targets), 'RoleSet')}, {len(rolesets) - len(staying)} already leaving"
    elif has_finalizer(storm, labels.STORM_SERVICE_FINALIZER):
        steps = [ReleaseFinalizer(finalizer=labels.STORM_SERVICE_FINALIZER)]
        kept = "the RoleSets stay" if departure.is_orphaning(storm) else "no RoleSet is left"
        reason = f"{kept}: release the finalizer"
    else:
        reason = "other finalizers hold the object"
    roles = ((spec_of(storm).get("template") or {}).get("spec") or {}).get("roles") or ()
    blocked = departure.held_by(rolesets, labels.ROLESET_FINALIZER)
    view = View(phase="Deleting", blocked=blocked, model=model_of(roles), details=f"**Deleting**: {reason}")
    status = departure.status(storm, blocked, world.now)
    return conclude(world, storm, memory, steps, reason, view, status=status)


def _unchanged(roleset: Json) -> Target:
    """The RoleSet exactly as seen: one that lost its owner in between, since its owner is orphaned, is not deleted."""
    version = str(roleset["metadata"].get("resourceVersion") or "")
    return Target(name=name_of(roleset), uid=uid_of(roleset), resource_version=version)
