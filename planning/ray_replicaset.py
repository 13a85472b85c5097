"""The rules of a RayClusterReplicaSet: as many RayClusters as asked for, told from others by their owner.

A cluster that starts counts. One that was up and lost its head or a worker gets a while to come back; then it goes, so
that its accelerators are free for the one that takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from planning.backoff import earliest, failures_of
from planning.conditions import Condition, merged, standard
from planning.objects import (
    annotations_of,
    condition,
    generation_of,
    is_condition_true,
    is_deleting,
    labels_of,
    name_of,
    parse_time,
    spec_of,
    status_of,
    uid_of,
)
from planning.planner import Plan, Resource, World
from planning.render_ray import RAY_CLUSTER, RAY_REPLICA_SET
from planning.roleset import conclude, gone
from planning.view import RoleRow, counted, page
from planning.wire import CreateRayClusters, DeleteRayClusters, Memory, Step, Target, View

Json = dict[str, Any]
BROKEN_GRACE: Final = timedelta(seconds=30)
"""How long a cluster that was up may be without its head or a worker before another takes its place."""
NOT_SERVED: Final = "the API server does not serve rayclusters.ray.io: install KubeRay"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A RayCluster that is not being deleted. `broken_at`: since when it is not ready although it was up."""

    name: str
    uid: str
    created: str
    cost: int
    ready: bool
    active: bool
    labelled: bool
    available_at: datetime | None
    broken_at: datetime | None

    @property
    def rank(self) -> tuple[bool, int, str, str]:
        """Lowest goes first: not ready, lower cost, older, by name."""
        return self.ready, self.cost, self.created, self.name

    def stays(self, now: datetime) -> bool:
        return self.active or (self.broken_at is not None and self.broken_at + BROKEN_GRACE > now)


def is_ready(cluster: Json) -> bool:
    """Provisioned, its head ready, and every worker."""
    status = status_of(cluster)
    whole = int(status.get("readyWorkerReplicas") or 0) == int(status.get("desiredWorkerReplicas") or 0)
    return whole and all(is_condition_true(cluster, kind) for kind in (labels.RAY_PROVISIONED, labels.RAY_HEAD_READY))


def is_active(cluster: Json) -> bool:
    """Not leaving, and either ready or not up yet."""
    return not is_deleting(cluster) and (is_ready(cluster) or not is_condition_true(cluster, labels.RAY_PROVISIONED))


def available_at(cluster: Json, min_ready: timedelta) -> datetime | None:
    """When a ready cluster becomes available; None for one that is not ready."""
    if not is_ready(cluster):
        return None
    return (_turned(cluster) or _BEGINNING) + min_ready


_BEGINNING: Final = parse_time("1970-01-01T00:00:00+00:00")


def _turned(cluster: Json) -> datetime | None:
    """The later transition of the two conditions that readiness is read from."""
    times = [
        condition(cluster, kind).get("lastTransitionTime") for kind in (labels.RAY_PROVISIONED, labels.RAY_HEAD_READY)
    ]
    return max((parse_time(at) for at in times if at), default=None)


def _broken_at(cluster: Json) -> datetime | None:
    if is_active(cluster):
        return None
    updated = status_of(cluster).get("lastUpdateTime")
    known = [at for at in (_turned(cluster), parse_time(updated) if updated else None) if at is not None]
    return max(known, default=_BEGINNING)


def _cost(cluster: Json) -> int:
    try:
        return int(annotations_of(cluster).get(labels.POD_DELETION_COST) or 0)
    except ValueError:
        return 0


def observe(replica_set: Json, cluster: Json) -> Cluster:
    spec = spec_of(replica_set)
    min_ready = timedelta(seconds=int(spec.get("minReadySeconds") or 0))
    wanted = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    return Cluster(
        name=name_of(cluster), uid=uid_of(cluster), created=cluster["metadata"].get("creationTimestamp") or "",
        cost=_cost(cluster), ready=is_ready(cluster), active=is_active(cluster),
        labelled=wanted.items() <= labels_of(cluster).items(), available_at=available_at(cluster, min_ready),
        broken_at=_broken_at(cluster),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RayReplicaSetPlanner:
    """Plans one RayClusterReplicaSet, of a fleet or alone."""

    @property
    def resource(self) -> Resource:
        return RAY_REPLICA_SET

    @property
    def owns(self) -> Sequence[Resource]:
        return (RAY_CLUSTER,)

    def plan(self, world: World, memory: Memory, rollout: str | None) -> Plan:  # noqa: ARG002 (it has none)
        found = world.object
        if found is None or uid_of(found) != world.ref.uid:
            return gone(world)
        if is_deleting(found):
            return Plan(None, View(phase="Deleting", details="**Deleting**: its RayClusters go with it"))
        return _Pass(world, found, memory).plan()


class _Pass:
    """One look at a living replica set."""

    def __init__(self, world: World, live: Json, memory: Memory) -> None:
        self.world, self.live, self.memory = world, live, memory
        found = world.children.get(RAY_CLUSTER.key)
        self.served = found is not None
        self.clusters = [observe(live, each) for each in found or () if not is_deleting(each)]
        self.leaving = sum(is_deleting(each) for each in found or ())
        self.staying = [cluster for cluster in self.clusters if cluster.stays(world.now)]
        self.wanted = max(0, int(spec_of(live).get("replicas", 1)))
        self.failures = failures_of(memory, generation_of(live))

    def plan(self) -> Plan:
        steps = self._steps() if self.served else []
        blocked = self._blocked()
        wake_at = earliest(*(at for at in self._times() if at > self.world.now))
        ready = sum(cluster.ready for cluster in self.clusters)
        phase = "Ready" if ready >= self.wanted else "Pending"
        details = page(
            phase=phase, revision="", rows=[RoleRow("RayClusters", self.wanted, ready, ready, blocked)],
            wake_at=wake_at, now=self.world.now,
        )  # fmt: skip
        reason = f"{len(self.staying)} of {counted(self.wanted, 'RayCluster')}"
        view = View(phase=phase, blocked=blocked, details=details)
        return conclude(
            self.world, self.live, self.memory, steps, reason, view, status=self._status(), wake_at=wake_at
        )  # fmt: skip

    def _steps(self) -> list[Step]:
        broken = [cluster for cluster in self.clusters if not cluster.stays(self.world.now)]
        steps: list[Step] = [_delete(broken, "broken")] if broken else []
        missing = self.wanted - len(self.staying)
        if missing > 0:
            steps.append(CreateRayClusters(count=missing, note=f"{self.wanted} wanted"))
        elif missing < 0:
            leaving = sorted(self.staying, key=lambda cluster: cluster.rank)[:-missing]
            steps.append(_delete(leaving, f"{self.wanted} wanted"))
        return steps

    def _times(self) -> list[datetime]:
        return [
            *(cluster.available_at for cluster in self.clusters if cluster.available_at is not None),
            *(cluster.broken_at + BROKEN_GRACE for cluster in self.clusters if cluster.broken_at is not None),
        ]

    def _blocked(self) -> str:
        if not self.served:
            return NOT_SERVED
        return self.failures[-1].message if self.failures else ""

    def _status(self) -> Json:
        now, active = self.world.now, [cluster for cluster in self.clusters if cluster.active]
        available = [each for each in active if each.available_at is not None and each.available_at <= now]
        conditions = merged(
            status_of(self.live).get("conditions") or (), self._conditions(), (labels.REPLICA_FAILURE,), now
        )
        return {
            "observedGeneration": generation_of(self.live),
            "replicas": len(active),
            "fullyLabeledReplicas": sum(cluster.labelled for cluster in active),
            "terminatingReplicas": self.leaving,
            "readyReplicas": sum(cluster.ready for cluster in active),
            "availableReplicas": len(available),
            "conditions": standard(conditions),
        }

    def _conditions(self) -> list[Condition]:
        if not self.served:
            return [Condition(labels.REPLICA_FAILURE, "True", labels.REASON_FAILED_CREATE, NOT_SERVED)]
        for failure in self.failures:
            reason = labels.REASON_FAILED_DELETE if failure.step.startswith("delete") else labels.REASON_FAILED_CREATE
            return [Condition(labels.REPLICA_FAILURE, "True", reason, failure.message)]
        return []


def _delete(clusters: Sequence[Cluster], note: str) -> DeleteRayClusters:
    targets = [Target(name=cluster.name, uid=cluster.uid) for cluster in clusters]
    return DeleteRayClusters(targets=targets, disruptive=any(each.ready for each in clusters), note=note)
