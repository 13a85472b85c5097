"""Gang scheduling: the PodGroup that a RoleSet or PodSet asks a scheduler for, and the marks on its pods.

Three schedulers know a kind PodGroup, each in a group of its own, and a cluster has the definition of one of them or of
none. Without it nothing can be made: a condition says so, and the pods carry their marks all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from crds import labels
from planning import names
from planning.conditions import Condition
from planning.objects import annotations_of, is_deleting, name_of, spec_of, uid_of
from planning.planner import Resource, World
from planning.wire import ApplyPodGroup, DeletePodGroups, Memory, Step, Target

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scheduler:
    """`strategy` is its field in a schedulingStrategy; `mark` the label, and where `annotated` the annotation too."""

    name: str
    strategy: str
    group: str
    version: str
    mark: str
    annotated: bool

    @property
    def resource(self) -> Resource:
        return Resource(self.group, self.version, "podgroups", "PodGroup", f"podgroup.{self.name}", optional=True)


SCHEDULERS: Final = (
    Scheduler(
        "godel", "godelSchedulingStrategy", "scheduling.godel.kubewharf.io", "v1alpha1", labels.GODEL_GROUP, True
    ),
    Scheduler(
        "coscheduling", "coschedulingSchedulingStrategy", "scheduling.x-k8s.io", "v1alpha1", labels.COSCHEDULING_GROUP,
        False,
    ),
    Scheduler("volcano", "volcanoSchedulingStrategy", "scheduling.volcano.sh", "v1beta1", labels.VOLCANO_GROUP, True),
)  # fmt: skip
POD_GROUPS: Final = tuple(scheduler.resource for scheduler in SCHEDULERS)
_BY_NAME: Final = {scheduler.name: scheduler for scheduler in SCHEDULERS}


def scheduler_named(name: str) -> Scheduler | None:
    return _BY_NAME.get(name)


def scheduler_of(owner: Json) -> Scheduler | None:
    """The scheduler whose strategy the object's spec names."""
    strategy = spec_of(owner).get("schedulingStrategy") or {}
    return next((known for known in SCHEDULERS if strategy.get(known.strategy) is not None), None)


def gang_marks(owner: Json) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations that put a pod into the object's PodGroup."""
    scheduler = scheduler_of(owner)
    if scheduler is None:
        return {}, {}
    mark = {scheduler.mark: name_of(owner)}
    return mark, mark if scheduler.annotated else {}


def group_spec(owner: Json, scheduler: Scheduler) -> Json:
    """The strategy's fields, one to one, without those that are not set."""
    strategy: Json = spec_of(owner)["schedulingStrategy"][scheduler.strategy]
    return {key: value for key, value in strategy.items() if value is not None}


def render_pod_group(owner: Json, scheduler: Scheduler) -> Json:
    """The fields of the PodGroup that are ours, for a server-side apply."""
    key = labels.PODSET_NAME if owner["kind"] == "PodSet" else labels.ROLESET_NAME
    spec = group_spec(owner, scheduler)
    reference = {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name_of(owner), "uid": uid_of(owner),
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    metadata = {
        "name": name_of(owner),
        "namespace": owner["metadata"]["namespace"],
        "labels": {key: name_of(owner)},
        "annotations": {labels.TEMPLATE_DIGEST: names.digest(spec)},
        "ownerReferences": [reference],
    }
    return {"apiVersion": scheduler.resource.api_version, "kind": "PodGroup", "metadata": metadata, "spec": spec}


@dataclass(frozen=True, slots=True)
class GangPlan:
    """What is missing, and what to say about it; no condition without a strategy."""

    steps: Sequence[Step] = ()
    condition: Condition | None = None


def plan_gang(world: World, owner: Json, memory: Memory) -> GangPlan:
    """Bring the object's PodGroup up to date, and take away those of a strategy that it no longer has."""
    wanted = scheduler_of(owner)
    steps: list[Step] = list(_strays(world, owner, wanted))
    if wanted is None:
        return GangPlan(steps)
    served = world.children.get(wanted.resource.key)
    if served is None:
        return GangPlan(steps, _missing(wanted))
    if any(_is_synced(found, owner, wanted) for found in served):
        return GangPlan(steps, Condition(labels.POD_GROUP_SYNCED, "True", labels.POD_GROUP_SYNCED))
    steps.append(ApplyPodGroup(scheduler=wanted.name))
    return GangPlan(steps, Condition(labels.POD_GROUP_SYNCED, "False", "Pending", _refusal(memory)))


def missing_event(before: Sequence[Json], condition: Condition | None) -> list[tuple[str, str, str]]:
    """A Warning when the definition is found missing that was not said to be missing before."""
    if condition is None or condition.reason != labels.REASON_POD_GROUP_MISSING:
        return []
    said = any(known.get("type") == condition.type and known.get("reason") == condition.reason for known in before)
    return [] if said else [("Warning", condition.reason, condition.message)]


def removal(world: World) -> list[Step]:
    """Deletes every PodGroup of an object that goes away."""
    return list(_strays(world, None, None))


def _missing(scheduler: Scheduler) -> Condition:
    message = f"the API server has no podgroups.{scheduler.group}: install the scheduler's definitions"
    return Condition(labels.POD_GROUP_SYNCED, "False", labels.REASON_POD_GROUP_MISSING, message)


def _strays(world: World, owner: Json | None, wanted: Scheduler | None) -> list[Step]:
    found: list[Step] = []
    for scheduler in SCHEDULERS:
        kept = name_of(owner) if owner is not None and scheduler == wanted else ""
        targets = [
            Target(name=name_of(group), uid=uid_of(group))
            for group in world.children.get(scheduler.resource.key) or ()
            if name_of(group) != kept and not is_deleting(group)
        ]
        if targets:
            found.append(DeletePodGroups(scheduler=scheduler.name, targets=targets))
    return found


def _is_synced(group: Json, owner: Json, scheduler: Scheduler) -> bool:
    """What we wrote last is what is wanted, and nobody has changed a field of it since."""
    wanted = group_spec(owner, scheduler)
    noted = annotations_of(group).get(labels.TEMPLATE_DIGEST) == names.digest(wanted)
    return noted and name_of(group) == name_of(owner) and not is_deleting(group) and _has(spec_of(group), wanted)


def _has(live: Any, wanted: Any) -> bool:
    """Every field of ours stands in `live`; numbers and their text are the same, as for quantities."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(_has(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(_has, live, wanted))
    return str(live) == str(wanted)


def _refusal(memory: Memory) -> str:
    return next((failure.message for failure in memory.failures if failure.step == "apply-pod-group"), "")
