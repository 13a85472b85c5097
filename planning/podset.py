"""The rules of a PodSet: pods with places that make up one engine, replaced one by one or only all together.

A pod that has ended goes before anything else, since its name is the one of its successor. With `Recreate` a group
lives and dies as a whole: any rank that fails, by restarting too, takes the others along, as distributed engines need
it. A group that fails again soon waits longer each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from crds import labels
from planning import departure, gang, podset_status
from planning.backoff import earliest, held_back
from planning.groups import PODSET
from planning.objects import (
    annotations_of,
    generation_of,
    has_finalizer,
    is_deleting,
    labels_of,
    spec_of,
    status_of,
    uid_of,
)
from planning.planner import Plan, Resource, World
from planning.podset_ranks import Group, Rank, failed_ranks, observe
from planning.roleset import POD, conclude, gone
from planning.view import RoleRow, counted, model_of, page
from planning.warm_up import Warmth, group_warm_up, warmth_of
from planning.wire import (
    AddFinalizer,
    CreateGroupPods,
    DeleteGroupPods,
    Memory,
    ReleaseFinalizer,
    RestorePods,
    Step,
    Told,
    View,
    WarmUpPods,
)

Json = dict[str, Any]
RECREATE: Final = "Recreate"


@dataclass(frozen=True, slots=True)
class PodSetPlanner:
    """Plans one PodSet, owned or stand-alone."""

    @property
    def resource(self) -> Resource:
        return PODSET

    @property
    def owns(self) -> Sequence[Resource]:
        return (POD, *gang.POD_GROUPS)

    def plan(self, world: World, memory: Memory, rollout: str | None) -> Plan:  # noqa: ARG002 (a PodSet has none)
        if world.object is None or uid_of(world.object) != world.ref.uid:
            return gone(world)
        if is_deleting(world.object):
            return _deletion(world, world.object, memory)
        return _Pass(world, world.object, memory).plan()


def _deletion(world: World, podset: Json, memory: Memory) -> Plan:
    pods = world.children.get(POD.key, ())
    steps: list[Step] = []
    if pods and not departure.is_orphaning(podset):
        staying = [rank for rank in observe(podset, pods).ranks if not rank.leaving]
        steps = [_delete(podset, staying)]
        reason = f"delete {counted(len(staying), 'pod')}, {len(pods) - len(staying)} already leaving"
    elif has_finalizer(podset, labels.PODSET_FINALIZER):
        steps = [*gang.removal(world), ReleaseFinalizer(finalizer=labels.PODSET_FINALIZER)]
        reason = f"{'the pods are to stay' if pods else 'no pod is left'}: release the finalizer"
    else:
        reason = "other finalizers hold the object"
    blocked, wake_at = departure.held_by_pods(pods, world.now)
    view = View(phase="Deleting", blocked=blocked, model=_model(podset), details=f"**Deleting**: {reason}")
    status = podset_status.leaving(podset, blocked, world.now)
    return conclude(world, podset, memory, steps, reason, view, status=status, wake_at=wake_at)


class _Pass:
    """One look at a living PodSet."""

    def __init__(self, world: World, podset: Json, memory: Memory) -> None:
        self.world, self.podset, self.memory = world, podset, memory
        self.group = observe(podset, world.children.get(POD.key, ()))
        self.recreates = spec_of(podset).get("recoveryPolicy") == RECREATE
        self.failed = failed_ranks(podset, self.group, recreates=self.recreates)
        self.restarts = _restarts(podset, self.group, self.failed)
        self.warmth = _warmth(podset, self.group)
        self._wake_at: datetime | None = None

    def plan(self) -> Plan:
        ganged = gang.plan_gang(self.world, self.podset, self.memory)
        wanted = [*self._finalizer(), *ganged.steps, *(self._pods() or [*self._gates(), *self._warm_up()])]
        steps = held_back(wanted, self.memory, generation_of(self.podset), self.world.now)
        health = podset_status.health_of(self.podset, self.group, self.failed, self.warmth, self.memory)
        events = gang.missing_event(status_of(self.podset).get("conditions") or (), ganged.condition)
        status = podset_status.status(
            self.podset, self.group, health, ganged.condition, self.restarts, self.world.now
        )  # fmt: skip
        view = self._view(health)
        return conclude(
            self.world, self.podset, self.memory, steps, self._reason(steps), view,
            status=status, wake_at=self._wake_at, events=events,
        )  # fmt: skip

    def _finalizer(self) -> list[Step]:
        if has_finalizer(self.podset, labels.PODSET_FINALIZER):
            return []
        return [AddFinalizer(finalizer=labels.PODSET_FINALIZER)]

    # The pods.

    def _pods(self) -> list[Step]:
        group = self.group
        if group.restart_asked:
            return [self._delete_all("somebody asked for a restart")]
        if group.surplus:
            over = group.surplus
            message = f"{len(group.staying)} pods, {group.size} wanted: delete {', '.join(r.name for r in over)[:300]}"
            return [_delete(self.podset, over, labels.EVENT_SCALING_DOWN, message)]
        return self._recreate() if self.recreates else self._replace()

    def _recreate(self) -> list[Step]:
        """All or none: the group is whole and well, or it goes, or it is made anew."""
        group = self.group
        if not group.ranks:
            return [self._create(group.missing, fresh=not self.restarts)]
        if self.failed:
            if not self._is_time_for(self.failed):
                return []
            return [self._delete_all(f"pod {self.failed[0].name} has failed")]
        if group.missing and group.staying:
            return [self._delete_all(f"{len(group.missing)} of {counted(group.size, 'pod')} missing")]
        return []

    def _replace(self) -> list[Step]:
        """One by one; before a missing pod is made again those go that have restarted, since they wait for it."""
        group = self.group
        ended = [rank for rank in group.ended if self._is_time_for([rank])]
        if ended:
            message = f"delete {', '.join(rank.name for rank in ended)[:300]}: it has ended"
            return [_delete(self.podset, ended, labels.EVENT_DELETING_UNHEALTHY, message)]
        if not group.missing:
            return []
        restarted = [rank for rank in group.staying if rank.restarted]
        if restarted:
            message = f"delete {', '.join(rank.name for rank in restarted)[:300]}: it restarted and another is missing"
            return [_delete(self.podset, restarted, labels.EVENT_DELETING_UNHEALTHY, message)]
        return [self._create(group.missing, fresh=not group.ranks and not self.restarts)]

    def _is_time_for(self, ranks: Sequence[Rank]) -> bool:
        at = max(rank.may_be_replaced_at() for rank in ranks)
        if at <= self.world.now:
            return True
        self._wake_at = earliest(self._wake_at, at)
        return False

    def _delete_all(self, why: str) -> DeleteGroupPods:
        present = [rank for rank in self.group.ranks if not rank.leaving]
        message = f"delete {counted(len(present), 'pod')}: {why}"
        return _delete(self.podset, present, labels.EVENT_RECREATING_ALL, message)

    def _create(self, indexes: Sequence[int], *, fresh: bool) -> CreateGroupPods:
        total = counted(self.group.size, "pod")
        reason = labels.EVENT_PODS_CREATED if fresh else labels.EVENT_REPLACING_UNHEALTHY
        told = Told(reason=reason, message=f"create {len(indexes)} missing of {total}")
        return CreateGroupPods(indexes=list(indexes), restarts=self.restarts, tells=[told])

    def _gates(self) -> list[Step]:
        """Open the readiness gate of pods that have one: groups are never updated in place, so nothing closes it."""
        closed = [rank for rank in self.group.staying if rank.waits_for_gate]
        return [RestorePods(role=_role(self.podset), targets=[rank.exact for rank in closed])] if closed else []

    def _warm_up(self) -> list[Step]:
        """Have the first pod of a group that is up generate its first token."""
        if self.warmth.done or self.group.ready < self.group.size:
            return []
        at = self.warmth.next_at
        if at is not None and at > self.world.now:
            self._wake_at = earliest(self._wake_at, at)
            return []
        first = next(rank for rank in self.group.staying if rank.index == 0)
        return [WarmUpPods(role=_role(self.podset), template_hash=_hash(self.podset), targets=[first.target])]

    # What people read.

    def _reason(self, steps: Sequence[Step]) -> str:
        said = [told.message for step in steps for told in getattr(step, "tells", ())]
        counts = f"{self.group.ready} of {self.group.size} ready"
        return f"{', '.join(said) or ', '.join(step.type for step in steps)}; {counts}"[:500]

    def _view(self, health: podset_status.Health) -> View:
        row = RoleRow("pods", self.group.size, self.group.ready, len(self.group.active), health.sentence)
        revision = (self.podset["metadata"].get("labels") or {}).get(labels.ROLE_REVISION_NAME, "")
        details = page(
            phase=health.phase, revision=revision, rows=[row], wake_at=self._wake_at, now=self.world.now
        )  # fmt: skip
        return View(
            phase=health.phase, revision=revision, blocked=health.blocked, model=_model(self.podset), details=details
        )


def _warmth(podset: Json, group: Group) -> Warmth:
    """That of the first pod, which answers for the group."""
    first = next((rank.pod for rank in group.staying if rank.index == 0), None)
    asked = group_warm_up(podset)
    return warmth_of(first, _hash(podset), asked) if first is not None else Warmth(done=asked is None)


def _hash(podset: Json) -> str:
    return labels_of(podset).get(labels.ROLE_TEMPLATE_HASH, "")


def _role(podset: Json) -> str:
    return labels_of(podset).get(labels.ROLE_NAME, "")


def _restarts(podset: Json, group: Group, failed: Sequence[Rank]) -> int:
    """How often pods were replaced after a failure, the failures in sight included."""
    counted_before = int(status_of(podset).get("restarts") or 0)
    known = [rank.failures for rank in group.ranks]
    coming = [rank.failures + 1 for rank in failed]
    return max([counted_before, *known, *coming])


def _delete(podset: Json, ranks: Sequence[Rank], reason: str = "", message: str = "") -> DeleteGroupPods:
    """Pods that serve get a grace that covers the requests they have, where their role asks for it."""
    serve = any(rank.ready for rank in ranks)
    drain = int(annotations_of(podset).get(labels.GROUP_DRAIN) or 0) if serve else 0
    longest = max((rank.grace_seconds for rank in ranks), default=drain)
    return DeleteGroupPods(
        targets=[rank.target for rank in ranks],
        disruptive=serve,
        tells=[Told(reason=reason, message=message[:500])] if reason else [],
        grace_seconds=drain if drain > longest else 0,
    )


def _model(podset: Json) -> str:
    return model_of([spec_of(podset)])
