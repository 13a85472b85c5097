"""The rules of a RoleSet: its roles' pods, their updates, its status, its deletion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from crds import labels
from planning import roleset_status
from planning.backoff import earliest, failures_of, held_back, waiting
from planning.budgets import budget_steps, role_budgets
from planning.limits import Allowance
from planning.managers import RoleMoves, kept_behind, plan_roles
from planning.members import Member, Role, Wanted, leaves_by, member_of, observe
from planning.objects import (
    generation_of,
    has_finalizer,
    in_order,
    is_deleting,
    labels_of,
    spec_of,
    uid_of,
)
from planning.planner import Plan, Resource, World
from planning.pod_steps import PodSteps, delete_step, fallbacks_told
from planning.recovery import service_recovery
from planning.resources import BUDGET
from planning.roleset_status import Health, Reasons
from planning.view import RoleRow, counted, model_of, page
from planning.wire import (
    AddFinalizer,
    CloseObject,
    CreatePods,
    Decision,
    DeletePods,
    DrainPods,
    Memory,
    PatchPods,
    Ref,
    ReleaseFinalizer,
    Step,
    View,
    WarmUpPods,
)

Json = dict[str, Any]
Event = tuple[str, str, str]
ROLESET: Final = Resource(labels.ORCHESTRATION_GROUP, labels.VERSION, "rolesets", "RoleSet")
POD: Final = Resource("", "v1", "pods", "Pod")
# The garbage collector's mark while it takes our name from the pods that `--cascade=orphan` keeps.
ORPHAN: Final = "orphan"


@dataclass(frozen=True, slots=True)
class RoleSetPlanner:
    """Plans one RoleSet, owned or stand-alone."""

    reasons: Reasons = roleset_status.REASONS

    @property
    def resource(self) -> Resource:
        return ROLESET

    @property
    def owns(self) -> Sequence[Resource]:
        return (POD, BUDGET)

    def plan(self, world: World, memory: Memory, rollout: str | None) -> Plan:  # noqa: ARG002 (a RoleSet has none)
        if world.object is None or uid_of(world.object) != world.ref.uid:
            return gone(world)
        if is_deleting(world.object):
            return _deletion(world, world.object, memory)
        return _Pass(world, world.object, memory, self.reasons).plan()


def gone(world: World) -> Plan:
    """The object is no more; its workflow ends, or goes on with the one that took its name."""
    ref, successor = world.ref, None
    if world.object is not None and not is_deleting(world.object):
        successor = Ref(kind=ref.kind, namespace=ref.namespace, name=ref.name, uid=uid_of(world.object))
    view = View(phase="Gone")
    reason = "the object is gone" if successor is None else "another object took the name"
    return Plan(Decision(reason=reason, steps=[CloseObject(successor=successor)], view=view), view)


def _deletion(world: World, roleset: Json, memory: Memory) -> Plan:
    pods = world.children.get(POD.key, ())
    if pods and not has_finalizer(roleset, ORPHAN):
        allowance = Allowance()
        drain_seconds = {
            role["name"]: int(role.get("drainSeconds") or 0) for role in spec_of(roleset).get("roles") or ()
        }
        staying = [pod for pod in in_order(pods) if not is_deleting(pod)]
        steps: list[Step] = [
            delete_step(role, allowance.targets(members), drain_seconds=drain_seconds.get(role, 0))
            for role, members in sorted(_members(staying, world.now).items())
        ]
        reason = f"delete {counted(len(staying), 'pod')}, {len(pods) - len(staying)} already leaving"
    elif has_finalizer(roleset, labels.ROLESET_FINALIZER):
        why = "the pods are to stay" if pods else "no pod is left"
        steps, reason = [ReleaseFinalizer(finalizer=labels.ROLESET_FINALIZER)], f"{why}: release the finalizer"
    else:
        steps, reason = [], "other finalizers hold the object"
    view = View(
        phase="Deleting", model=model_of(spec_of(roleset).get("roles") or ()), details=f"**Deleting**: {reason}"
    )
    return conclude(world, roleset, memory, steps, reason, view)


def conclude(
    world: World, target: Json, memory: Memory, steps: Sequence[Step], reason: str, view: View,
    *, status: Json | None = None, wake_at: datetime | None = None, events: Sequence[Event] = (),
) -> Plan:  # fmt: skip
    """The plan for `steps`, without those that wait after a failure. `events` tell what the status says anew."""
    generation = generation_of(target)
    ready = [step for step in held_back(steps, memory, generation, world.now) if not _is_empty(step)]
    retries = [failure.retry_at for failure in waiting(memory, generation, world.now).values()]
    wake_at = earliest(wake_at, *retries)
    if not ready:
        return Plan(None, view, status, wake_at, events)
    decision = Decision(
        reason=reason, steps=ready, view=view, generation=generation, decided_at=world.now, wake_at=wake_at
    )
    return Plan(decision, view, status, wake_at, events)


def _is_empty(step: Step) -> bool:
    targets = getattr(step, "targets", None)
    return targets is not None and not targets


def _by_role(pods: Iterable[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for pod in pods:
        found.setdefault(labels_of(pod).get(labels.ROLE_NAME, ""), []).append(pod)
    return found


def _members(pods: Iterable[Json], now: datetime) -> dict[str, list[Member]]:
    """By role, judged by no template."""
    return {role: [member_of(pod, Wanted(), now) for pod in group] for role, group in _by_role(pods).items()}


class _Pass:
    """One look at a living RoleSet."""

    def __init__(self, world: World, roleset: Json, memory: Memory, reasons: Reasons) -> None:
        self.world, self.roleset, self.memory, self.reasons = world, roleset, memory, reasons
        self.now = world.now
        self.specs: Sequence[Json] = spec_of(roleset).get("roles") or ()
        self.pods: Mapping[str, Sequence[Json]] = _by_role(in_order(world.children.get(POD.key, ())))
        self.roles = [observe(role, self.pods.get(role["name"], ()), roleset, self.now) for role in self.specs]

    def plan(self) -> Plan:
        held = frozenset(waiting(self.memory, generation_of(self.roleset), self.now))
        self.roles = kept_behind(self._strategy, self.roles, held | self._lost_revisions())
        found, recovery_at, at_once = self._moves(held)
        pod_steps = PodSteps(self.roles, found, self.now, Allowance(), fallbacks_told(self.roleset), held, at_once)
        beside = [*self._finalizer(), *self._budgets()]
        wanted = [*beside, *pod_steps.steps(), *self._strangers(pod_steps.allowance)]
        steps = held_back(wanted, self.memory, generation_of(self.roleset), self.now)
        health = roleset_status.health_of(self.roleset, self.roles, self.pods, self.memory)
        wake_at = earliest(self._next_limit(), pod_steps.wake_at, recovery_at)
        view = self._view(found, health, wake_at)
        status = roleset_status.status(self.roleset, self.roles, health, self.reasons, self.now)
        reason = self._reason(steps)
        return conclude(self.world, self.roleset, self.memory, steps, reason, view, status=status, wake_at=wake_at)

    @property
    def _strategy(self) -> str:
        return spec_of(self.roleset).get("updateStrategy") or ""

    def _moves(self, held: frozenset[str]) -> tuple[RoleMoves, datetime | None, bool]:
        """The moves, when recovery may begin, and whether it is under way: then nothing is drained."""
        roles = [role for role in self.roles if not role.grouped]
        recovered, recovery_at = service_recovery(roles, self.now)
        if recovered:
            return RoleMoves(recovered, scaling=True), None, True
        return plan_roles(self._strategy, roles, held), recovery_at, False

    def _lost_revisions(self) -> frozenset[str]:
        """Roles whose old revision is no longer stored: their pods come back at the new one."""
        failures = failures_of(self.memory, generation_of(self.roleset))
        lost = [failure for failure in failures if failure.cause == "not-found"]
        return frozenset(failure.step.replace("create-pods/", "old-revision/") for failure in lost)

    def _finalizer(self) -> list[Step]:
        if has_finalizer(self.roleset, labels.ROLESET_FINALIZER):
            return []
        return [AddFinalizer(finalizer=labels.ROLESET_FINALIZER)]

    def _budgets(self) -> list[Step]:
        """A disruption budget for each role that tolerates only so much."""
        return budget_steps(role_budgets(self.roleset), self.world.children.get(BUDGET.key, ()))

    def _strangers(self, allowance: Allowance) -> list[Step]:
        """Pods of roles that the spec no longer has."""
        known = {role["name"] for role in self.specs}
        found: list[Step] = []
        for name in sorted(self.pods.keys() - known):
            members = [member_of(pod, Wanted(), self.now) for pod in self.pods[name] if not is_deleting(pod)]
            found.append(delete_step(name, allowance.targets(members), "the role is no longer in the spec"))
        return found

    def _next_limit(self) -> datetime | None:
        """When the next leaving pod stops counting, or the next ready one has been so for long enough."""
        limits = [leaves_by(pod) for pods in self.pods.values() for pod in pods]
        limits += [member.ready_at for role in self.roles for member in role.active]
        return earliest(*(at for at in limits if at is not None and at > self.now))

    def _reason(self, steps: Iterable[Step]) -> str:
        said = [text for step in steps if (text := describe(step))]
        counts = ", ".join(f"{role.name} {role.ready}/{role.budget.desired}" for role in self.roles[:10])
        return f"{', '.join(said)}; ready: {counts}"[:500]

    def _view(self, found: RoleMoves, health: Health, wake_at: datetime | None) -> View:
        phase = self._phase(found, health)
        revision = labels_of(self.roleset).get(labels.STORM_SERVICE_REVISION, "")
        rows = [
            RoleRow(role.name, role.budget.desired, role.ready, role.updated, _note(role, health))
            for role in self.roles
        ]
        details = page(phase=phase, revision=revision, rows=rows, wake_at=wake_at, now=self.now)
        return View(phase=phase, revision=revision, blocked=health.blocked, model=model_of(self.specs), details=details)

    def _phase(self, found: RoleMoves, health: Health) -> str:
        if any(role.outdated for role in self.roles):
            return "Updating"
        if health.is_ready and not found.moves:
            return "Ready"
        return "Scaling" if any(role.ready for role in self.roles) else "Creating"


def _note(role: Role, health: Health) -> str:
    if role.fault:
        return role.fault
    is_short = any(role.name == short.name for short in health.short)
    return health.trouble.sentence if health.trouble is not None and is_short else ""


def describe(step: Step) -> str:
    """A few words for a pod step; nothing for the others."""
    if isinstance(step, CreatePods):
        return f"create {counted(step.count or len(step.slots), 'pod')} of {step.role}"
    if isinstance(step, DeletePods) and step.targets:
        return f"delete {counted(len(step.targets), 'pod')} of {step.role}"
    if isinstance(step, PatchPods):
        return f"update {counted(len(step.targets), 'pod')} of {step.role} in place"
    if isinstance(step, DrainPods):
        return f"drain {counted(len(step.targets), 'pod')} of {step.role}"
    if isinstance(step, WarmUpPods):
        return f"warm up {counted(len(step.targets), 'pod')} of {step.role}"
    return "add the finalizer" if isinstance(step, AddFinalizer) else ""
