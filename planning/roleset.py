"""The rules of a RoleSet: its roles' pods, their updates, its status, its deletion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from crds import labels
from planning import departure, gang, groups, roleset_status, topology
from planning.backoff import earliest, failures_of, held_back, waiting
from planning.budgets import budget_steps, role_budgets
from planning.groups import PODSET
from planning.limits import Allowance
from planning.managers import RoleMoves, kept_behind, plan_roles
from planning.members import Member, Role, Wanted, leaves_by, member_of, observe
from planning.objects import (
    generation_of,
    has_finalizer,
    in_order,
    is_deleting,
    labels_of,
    name_of,
    spec_of,
    status_of,
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
    Adopt,
    CloseObject,
    CreatePods,
    CreatePodSets,
    Decision,
    DeletePods,
    DeletePodSets,
    DrainPods,
    Memory,
    PatchPods,
    Ref,
    ReleaseFinalizer,
    Step,
    Target,
    View,
    WarmUpPods,
)

Json = dict[str, Any]
Event = tuple[str, str, str]
ROLESET: Final = Resource(labels.ORCHESTRATION_GROUP, labels.VERSION, "rolesets", "RoleSet")
POD: Final = Resource("", "v1", "pods", "Pod")


@dataclass(frozen=True, slots=True)
class RoleSetPlanner:
    """Plans one RoleSet, owned or stand-alone."""

    reasons: Reasons = roleset_status.REASONS

    @property
    def resource(self) -> Resource:
        return ROLESET

    @property
    def owns(self) -> Sequence[Resource]:
        return (POD, PODSET, BUDGET, *gang.POD_GROUPS)

    @property
    def adopts(self) -> Sequence[Resource]:
        return (POD,)

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
    pods, podsets = world.children.get(POD.key, ()), world.children.get(PODSET.key, ())
    steps: list[Step]
    if (pods or podsets) and not departure.is_orphaning(roleset):
        allowance = Allowance()
        steps = [*groups.deletion_steps(podsets, allowance), *_pod_deletions(world, roleset, pods, allowance)]
        here = [found for found in (*pods, *podsets) if not is_deleting(found)]
        leaving = len(pods) + len(podsets) - len(here)
        reason = f"delete {counted(len(here), 'pod' if pods else 'PodSet')}, {leaving} already leaving"
    elif has_finalizer(roleset, labels.ROLESET_FINALIZER):
        steps = [*gang.removal(world), ReleaseFinalizer(finalizer=labels.ROLESET_FINALIZER)]
        why = "the pods are to stay" if pods or podsets else "no pod is left"
        reason = f"{why}: release the finalizer"
    else:
        steps, reason = [], "other finalizers hold the object"
    overdue, wake_at = departure.held_by_pods(pods, world.now)
    blocked = overdue or departure.held_by(podsets, labels.PODSET_FINALIZER)
    model = model_of(spec_of(roleset).get("roles") or ())
    view = View(phase="Deleting", blocked=blocked, model=model, details=f"**Deleting**: {reason}")
    status = departure.status(roleset, blocked, world.now)
    return conclude(world, roleset, memory, steps, reason, view, status=status, wake_at=wake_at)


def _pod_deletions(world: World, roleset: Json, pods: Iterable[Json], allowance: Allowance) -> list[Step]:
    staying = [pod for pod in in_order(pods) if not is_deleting(pod)]
    drains = {role["name"]: int(role.get("drainSeconds") or 0) for role in spec_of(roleset).get("roles") or ()}
    return [
        delete_step(role, allowance.targets(_unjudged(group, world.now)), drain_seconds=drains.get(role, 0), exact=True)
        for role, group in sorted(_by_role(staying).items())
    ]


def _unjudged(objects: Iterable[Json], now: datetime) -> list[Member]:
    """Members that no template is held against."""
    return [member_of(found, Wanted(), now) for found in objects if not is_deleting(found)]


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


class _Pass:
    """One look at a living RoleSet."""

    def __init__(self, world: World, roleset: Json, memory: Memory, reasons: Reasons) -> None:
        self.world, self.roleset, self.memory, self.reasons = world, roleset, memory, reasons
        self.now, self.name = world.now, name_of(roleset)
        self.specs: Sequence[Json] = spec_of(roleset).get("roles") or ()
        self.pods: Mapping[str, Sequence[Json]] = _by_role(in_order(world.children.get(POD.key, ())))
        self.podsets = groups.by_role(world.children.get(PODSET.key, ()))
        self.podset_uids = frozenset(uid_of(podset) for podset in world.children.get(PODSET.key, ()))
        self.roles = [self._observe(role) for role in self.specs]

    def _observe(self, spec: Json) -> Role:
        """The role with its pods and its PodSets."""
        pods, podsets = self.pods.get(spec["name"], ()), self.podsets.get(spec["name"], ())
        role = observe(spec, pods, self.roleset, self.now)
        role = groups.with_groups(role, spec, self.roleset, podsets, self.now)
        return topology.with_policy(role, self.roleset, spec, [*pods, *podsets])

    def plan(self) -> Plan:
        held = frozenset(waiting(self.memory, generation_of(self.roleset), self.now))
        self.roles = kept_behind(self._strategy, self.roles, held | self._lost_revisions())
        found, recovery_at, at_once = self._moves(held)
        ganged = gang.plan_gang(self.world, self.roleset, self.memory)
        placed = topology.pending_condition(self.roleset, topology.pending(self.roleset, self.pods, self.podsets))
        pod_steps = PodSteps(
            self.roles, found, self.now, Allowance(), fallbacks_told(self.roleset), held, self.podset_uids, at_once
        )
        beside = [*self._finalizer(), *self._budgets(), *ganged.steps]
        adopted = self._adoptions()
        wanted = [*beside, *adopted] if adopted else [*beside, *self._steps(pod_steps, found)]
        steps = held_back(wanted, self.memory, generation_of(self.roleset), self.now)
        health = roleset_status.health_of(self.roleset, self.roles, self.pods, self.memory, self.podsets)
        wake_at = earliest(self._next_limit(), pod_steps.wake_at, recovery_at)
        view = self._view(found, health, wake_at)
        said = [condition for condition in (ganged.condition, placed) if condition is not None]
        status = roleset_status.status(self.roleset, self.roles, health, self.reasons, self.now, said)
        before = status_of(self.roleset).get("conditions") or ()
        events = [
            *gang.missing_event(before, ganged.condition), *topology.pending_event(self.roleset, before, placed)
        ]  # fmt: skip
        return conclude(
            self.world, self.roleset, self.memory, steps, self._reason(steps), view,
            status=status, wake_at=wake_at, events=events,
        )  # fmt: skip

    @property
    def _strategy(self) -> str:
        return spec_of(self.roleset).get("updateStrategy") or ""

    def _moves(self, held: frozenset[str]) -> tuple[RoleMoves, datetime | None, bool]:
        """The moves, when recovery may begin, and whether it is under way: then nothing is drained."""
        recovered, recovery_at = service_recovery(self.roles, self.now)
        if recovered:
            return RoleMoves(recovered, scaling=True), None, True
        return plan_roles(self._strategy, self.roles, held), recovery_at, False

    def _lost_revisions(self) -> frozenset[str]:
        """Roles whose old revision is no longer stored: their pods come back at the new one."""
        failures = failures_of(self.memory, generation_of(self.roleset))
        lost = [failure for failure in failures if failure.cause == "not-found"]
        return frozenset(failure.step.replace("create-pods/", "old-revision/") for failure in lost)

    def _finalizer(self) -> list[Step]:
        if has_finalizer(self.roleset, labels.ROLESET_FINALIZER):
            return []
        return [AddFinalizer(finalizer=labels.ROLESET_FINALIZER)]

    def _adoptions(self) -> list[Step]:
        """Pods that an owner of this name left behind: those at the template that their role has."""
        hashes = {role.name: role.template_hash for role in self.roles if not role.grouped}
        found = [
            Target(name=name_of(pod), uid=uid_of(pod), resource_version=str(pod["metadata"]["resourceVersion"]))
            for pod in in_order(self.world.ownerless.get(POD.key, ()))
            if not is_deleting(pod) and self._is_left(labels_of(pod), hashes)
        ]
        granted = Allowance().targets(found)
        return [Adopt(kind=POD.key, targets=list(granted))] if granted else []

    def _is_left(self, carried: Mapping[str, str], hashes: Mapping[str, str]) -> bool:
        at_template = hashes.get(carried.get(labels.ROLE_NAME, "")) == carried.get(labels.ROLE_TEMPLATE_HASH, "-")
        return at_template and labels.PODSET_NAME not in carried and carried.get(labels.ROLESET_NAME) == self.name

    def _budgets(self) -> list[Step]:
        """A disruption budget for each role that tolerates only so much."""
        return budget_steps(role_budgets(self.roleset), self.world.children.get(BUDGET.key, ()))

    def _steps(self, pod_steps: PodSteps, found: RoleMoves) -> list[Step]:
        updates = groups.update_steps(self.specs, self.podsets)
        changes = groups.with_tells(pod_steps.steps(), self.roles, self.specs, found.moves)
        return [*updates, *changes, *self._strangers(pod_steps)]

    def _strangers(self, pod_steps: PodSteps) -> list[Step]:
        """Pods and PodSets of roles that the spec no longer has."""
        known = {role["name"] for role in self.specs}
        found: list[Step] = []
        for name in sorted((self.pods.keys() | self.podsets.keys()) - known):
            members = _unjudged([*self.pods.get(name, ()), *self.podsets.get(name, ())], self.now)
            granted = pod_steps.allowance.targets(members)
            found += pod_steps.deletions(name, granted, "the role is no longer in the spec")
        return found

    def _next_limit(self) -> datetime | None:
        """When the next leaving member stops counting, or the next ready one has been so for long enough."""
        limits = [leaves_by(pod) for pods in self.pods.values() for pod in pods]
        limits += [member.ready_at for role in self.roles for member in role.active]
        limits += [groups.leaves_by(podset) for podsets in self.podsets.values() for podset in podsets]
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
    found = health.troubles.get(role.name)
    return found.sentence if found is not None else ""


def describe(step: Step) -> str:
    """A few words for a pod step; nothing for the others."""
    if isinstance(step, CreatePods):
        return f"create {counted(step.count or len(step.slots), 'pod')} of {step.role}"
    if isinstance(step, CreatePodSets):
        return f"create {counted(len(step.slots), 'PodSet')} of {step.role}"
    if isinstance(step, DeletePodSets) and step.targets:
        return f"delete {counted(len(step.targets), 'PodSet')} of {step.role}"
    if isinstance(step, DeletePods) and step.targets:
        return f"delete {counted(len(step.targets), 'pod')} of {step.role}"
    if isinstance(step, PatchPods):
        return f"update {counted(len(step.targets), 'pod')} of {step.role} in place"
    if isinstance(step, DrainPods):
        return f"drain {counted(len(step.targets), 'pod')} of {step.role}"
    if isinstance(step, WarmUpPods):
        return f"warm up {counted(len(step.targets), 'pod')} of {step.role}"
    return "add the finalizer" if isinstance(step, AddFinalizer) else ""
