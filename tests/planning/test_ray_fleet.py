"""A fleet's moves against the tables of the Ray document (sections 5 and 7), and which RayCluster goes first (B28)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from planning.edits import Order, Patch, Unchanged, change_for, fault_of
from planning.planner import World
from planning.ray_fleet import RayFleetPlanner
from planning.ray_replicaset import BROKEN_GRACE, RayReplicaSetPlanner
from planning.render_ray import RAY_CLUSTER, RAY_REPLICA_SET, render_replica_set, template_digest
from planning.wire import Failure, Memory, Ref
from tests.planning.world import START

Json = dict[str, Any]
RV, DESIRED, MOST = (
    "deployment.kubernetes.io/revision", "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
)  # fmt: skip
LATE = START + timedelta(hours=1)


def template(image: str) -> Json:
    pod = {"spec": {"containers": [{"name": "ray", "image": image}]}}
    spec = {
        "headGroupSpec": {"rayStartParams": {}, "template": pod},
        "workerGroupSpecs": [{"groupName": "w", "template": pod}],
    }
    return {"metadata": {"labels": {"app": "f"}}, "spec": spec}


@dataclass
class Cluster:
    """A fleet with the replica sets that its steps make."""

    spec: Json
    fleet: Json = field(default_factory=dict)
    sets: dict[str, Json] = field(default_factory=dict)
    clock: int = 0

    def __post_init__(self) -> None:
        metadata = {"name": "f", "namespace": "n", "uid": "fleet", "generation": 1}
        whole = {"selector": {"matchLabels": {"app": "f"}}, "template": template("v1"), **self.spec}
        self.fleet = {"kind": "RayClusterFleet", "metadata": metadata, "spec": whole}

    def edit(self, **spec: Any) -> None:
        self.fleet["spec"] |= spec
        self.fleet["metadata"]["generation"] += 1

    def step(self, now=START) -> list[str]:
        """Plan once and do what is planned; the step types."""
        children = {RAY_REPLICA_SET.key: list(self.sets.values())}
        ref = Ref(kind="rayclusterfleet", namespace="n", name="f", uid="fleet")
        plan = RayFleetPlanner().plan(World(ref, self.fleet, children, now), Memory(), None)
        if plan.status is not None:
            self.fleet["status"] = plan.status
        steps = plan.decision.steps if plan.decision is not None else []
        for step in steps:
            self._do(step)
        return [step.type for step in steps]

    def _do(self, step: Any) -> None:
        self.clock += 1
        if step.type == "create-ray-replica-set":
            made = render_replica_set(self.fleet, step)
            created = f"2026-01-01T00:00:{self.clock:02d}Z"
            made["metadata"] |= {"uid": step.name, "generation": 1, "creationTimestamp": created}
            self.sets[step.name] = made
        elif step.type == "update-ray-replica-sets":
            for size in step.sizes:
                live = self.sets[size.target.name]
                live["spec"]["replicas"] = size.replicas
                notes = {DESIRED: str(size.desired), MOST: str(size.most)}
                live["metadata"]["annotations"] |= notes | ({RV: size.revision} if size.revision else {})
        elif step.type == "delete-ray-replica-sets":
            for target in step.targets:
                del self.sets[target.name]
        elif step.type == "note-fleet":
            self.fleet["metadata"].setdefault("annotations", {})[RV] = step.revision

    def settle(self, *, old: bool = True, new: bool = True) -> None:
        """Clusters of the replica sets become what is asked for, and available."""
        for live in self.sets.values():
            is_new = template_digest(live["spec"]["template"]) == template_digest(self.fleet["spec"]["template"])
            if new if is_new else old:
                size = live["spec"]["replicas"]
                live["status"] = {
                    "observedGeneration": 1, "replicas": size, "readyReplicas": size, "availableReplicas": size,
                }  # fmt: skip

    def until_still(self, now=START) -> None:
        for _ in range(20):
            if not [kind for kind in self.step(now) if kind != "note-fleet"]:
                return
        raise AssertionError("the fleet does not come to rest")

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(live["spec"]["replicas"] for live in self.sets.values())


def fleet(replicas: int, surge: Any = "25%", unavailable: Any = "25%", **spec: Any) -> Cluster:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    made = Cluster({"replicas": replicas, "strategy": rolling, **spec})
    made.until_still()
    made.settle()
    made.until_still()
    return made


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, "25%", "25%", [(3, 2), (1, 4), (0, 4)]),
        (3, 1, 0, [(3, 1), (2, 2), (1, 3), (0, 3)]),
        (10, 3, 2, [(8, 5), (3, 10), (0, 10)]),
        (2, 0, 1, [(1, 1), (0, 2), (0, 2)]),
        (1, "25%", "25%", [(1, 1), (0, 1)]),
    ],
)
def test_a_rollout_takes_the_steps_of_the_table(replicas, surge, unavailable, expected):
    """Sizes each time that nothing can move before new clusters are available."""
    found = fleet(replicas, surge, unavailable)
    assert found.sizes == (replicas,)
    found.edit(template=template("v2"))
    for sizes in expected:
        found.until_still()
        assert found.sizes == sizes
        found.settle()
    found.until_still()
    reasons = {each["type"]: each["reason"] for each in found.fleet["status"]["conditions"]}
    assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}


@pytest.mark.parametrize(
    ("active", "replicas", "surge", "expected"),
    [((8, 5), 15, 3, (11, 7)), ((8, 5), 5, 3, (5, 3)), ((2, 2), 7, 1, (4, 4)), ((1, 1), 4, 1, (2, 3))],
)
def test_scaling_in_mid_rollout_is_proportional(active, replicas, surge, expected):
    found = fleet(2, surge, 1)
    found.edit(template=template("v2"))
    found.step()
    most = {(8, 5): "13", (2, 2): "4", (1, 1): "3"}[active]
    for live, size in zip(found.sets.values(), active, strict=True):
        live["spec"]["replicas"] = size
        live["metadata"]["annotations"] |= {DESIRED: "0", MOST: most}
    found.edit(replicas=replicas)
    found.step()
    assert found.sizes == expected


def test_22_25_28_revisions_count_up_come_back_and_are_kept_to_the_limit():
    found = fleet(1, revisionHistoryLimit=1)
    for image in ("v2", "v1", "v3"):
        found.edit(template=template(image))
        for _ in range(3):
            found.until_still()
            found.settle()
        found.until_still()
    revisions = sorted(live["metadata"]["annotations"][RV] for live in found.sets.values())
    assert revisions == ["3", "4"], "revision 2 went, and the first became the third"
    assert found.fleet["metadata"]["annotations"][RV] == "4"


def test_27_a_paused_fleet_makes_no_replica_set_and_is_scaled():
    found = fleet(2)
    found.edit(template=template("v2"), paused=True, replicas=3)
    found.until_still()
    assert found.sizes == (3,)
    progressing = next(each for each in found.fleet["status"]["conditions"] if each["type"] == "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("Unknown", "DeploymentPaused")


def test_33_a_deadline_that_has_passed_is_shown_without_another_event():
    found = fleet(1, progressDeadlineSeconds=60)
    found.edit(template=template("v2"))
    found.until_still()
    ref = Ref(kind="rayclusterfleet", namespace="n", name="f", uid="fleet")
    world = World(ref, found.fleet, {RAY_REPLICA_SET.key: list(found.sets.values())}, START)
    plan = RayFleetPlanner().plan(world, Memory(), None)
    assert plan.wake_at == START + timedelta(seconds=60)
    found.step(START + timedelta(seconds=61))
    reasons = {each["type"]: each["reason"] for each in found.fleet["status"]["conditions"]}
    assert reasons["Progressing"] == "ProgressDeadlineExceeded"


def test_36_recreating_makes_the_new_ones_after_the_old_are_gone():
    found = fleet(2)
    found.edit(template=template("v2"), strategy={"type": "Recreate"})
    found.until_still()
    assert found.sizes == (0,)
    found.settle()
    (old,) = found.sets.values()
    old["status"]["terminatingReplicas"] = 1
    found.until_still()
    assert found.sizes == (0,), "one is still leaving"
    found.settle()
    found.until_still()
    assert found.sizes == (0, 2)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ({"type": "Canary"}, "'Canary' is neither"),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "abc"}}, '"abc" is neither'),
    ],
)
def test_a_strategy_that_cannot_be_read_is_a_condition(strategy, said):
    found = Cluster({"replicas": 1, "strategy": strategy})
    assert found.step() == []
    (shown,) = [each for each in found.fleet["status"]["conditions"] if each["type"] == "Progressing"]
    assert (shown["status"], shown["reason"]) == ("False", "InvalidSpec")
    assert said in shown["message"]


def test_a_fleet_without_strategy_rolls_as_a_deployment_does():
    found = Cluster({"replicas": 4})
    found.until_still()
    (live,) = found.sets.values()
    assert (live["spec"]["replicas"], live["metadata"]["annotations"][MOST]) == (4, "5")


# --- RayClusters ------------------------------------------------------------------------------------------------------


def ray(name: str, *, cost: str = "", age: int = 0, ready: bool = True, workers: int = 1, **status: Any) -> Json:
    true = {"status": "True", "lastTransitionTime": START.isoformat()}
    conditions = [{"type": kind, **true} for kind in ("RayClusterProvisioned", "HeadPodReady")] if ready else []
    notes = {"controller.kubernetes.io/pod-deletion-cost": cost} if cost else {}
    created = (START - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = {"name": name, "namespace": "n", "uid": name, "creationTimestamp": created, "annotations": notes}
    shown = {"conditions": conditions, "readyWorkerReplicas": workers, "desiredWorkerReplicas": 1, **status}
    return {"kind": "RayCluster", "metadata": metadata, "spec": {}, "status": shown}


def planned(replicas: int, clusters: list[Json], now=LATE, **spec: Any):
    metadata = {"name": "r", "namespace": "n", "uid": "set", "generation": 1}
    live = {"kind": "RayClusterReplicaSet", "metadata": metadata, "spec": {"replicas": replicas, **spec}}
    ref = Ref(kind="rayclusterreplicaset", namespace="n", name="r", uid="set")
    return RayReplicaSetPlanner().plan(World(ref, live, {RAY_CLUSTER.key: clusters}, now), Memory(), None)


def deleted(plan) -> list[str]:
    steps = plan.decision.steps if plan.decision is not None else []
    return [target.name for step in steps if step.type == "delete-ray-clusters" for target in step.targets]


@pytest.mark.parametrize(
    ("clusters", "replicas", "expected"),
    [
        ([ray("a", cost="100"), ray("b", cost="1000", ready=False), ray("c", cost="-10")], 1, ["b", "c"]),
        ([ray("b"), ray("a")], 1, ["a"]),
        ([ray("young", age=1), ray("old", age=9)], 1, ["old"]),
        ([ray("a", cost="many"), ray("b", cost="-1"), ray("c", cost="1")], 1, ["b", "a"]),
    ],
)
def test_b28_not_ready_then_cheap_then_old_then_by_name(clusters, replicas, expected):
    assert deleted(planned(replicas, clusters)) == expected


def test_8_a_broken_cluster_gets_a_while_and_goes_with_its_successor_made():
    broken = ray("a", workers=0, lastUpdateTime=LATE.isoformat())
    plan = planned(1, [broken])
    assert plan.decision is None
    assert plan.wake_at == LATE + BROKEN_GRACE
    assert plan.status is not None
    assert plan.status["replicas"] == 0
    later = planned(1, [broken], LATE + BROKEN_GRACE)
    assert [step.type for step in later.decision.steps] == ["delete-ray-clusters", "create-ray-clusters"]


def test_12_a_cluster_is_available_after_its_minimum_and_wakes_the_planner():
    plan = planned(1, [ray("a")], START + timedelta(seconds=10), minReadySeconds=30)
    assert (plan.status["readyReplicas"], plan.status["availableReplicas"]) == (1, 0)
    assert plan.wake_at == START + timedelta(seconds=30)
    plan = planned(1, [ray("a")], START + timedelta(seconds=31), minReadySeconds=30)
    assert plan.status["availableReplicas"] == 1


def test_17_without_kuberay_nothing_is_made_and_the_status_says_why():
    metadata = {"name": "r", "namespace": "n", "uid": "set", "generation": 1}
    live = {"kind": "RayClusterReplicaSet", "metadata": metadata, "spec": {"replicas": 1}}
    ref = Ref(kind="rayclusterreplicaset", namespace="n", name="r", uid="set")
    plan = RayReplicaSetPlanner().plan(World(ref, live, {}, START), Memory(), None)
    assert plan.decision is None
    assert "KubeRay" in plan.view.blocked


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("pause", ""), ("resume", ""),
        ("undo", "rayclusterfleet/f is undone by its annotation deprecated.deployment.rollback.to"),
        ("restart", "rayclusterfleet/f has no pods of its own"),
    ],
)  # fmt: skip
def test_a_fleet_is_paused_by_command_and_undone_by_its_annotation(verb, said):
    live = Cluster({"replicas": 1}).fleet
    change = change_for(Order(verb, at="now"), live)
    assert change.why.startswith(said) if said else isinstance(change, Patch | Unchanged)


def test_what_has_no_rollout_takes_no_command():
    for verb in ("pause", "undo", "restart"):
        assert fault_of(verb, "podautoscaler") == f"a podautoscaler has no rollout to {verb}"


def test_37_a_name_that_somebody_else_has_is_counted_past():
    found = Cluster({"replicas": 1})
    ref = Ref(kind="rayclusterfleet", namespace="n", name="f", uid="fleet")

    def create(memory: Memory):
        plan = RayFleetPlanner().plan(World(ref, found.fleet, {RAY_REPLICA_SET.key: []}, LATE), memory, None)
        return plan.decision.steps[0], plan.status

    first, _ = create(Memory())
    taken = Failure(
        step=f"create-ray-replica-set/{first.name}", cause="name-conflict", message="exists", count=1, generation=1,
        retry_at=LATE,
    )  # fmt: skip
    second, status = create(Memory(failures=[taken]))
    assert second.name != first.name
    assert status["collisionCount"] == 1


def test_a_replica_set_that_aibrix_made_is_taken_up_under_its_own_name():
    found = fleet(2)
    (live,) = found.sets.values()
    live["metadata"]["name"] = "f-758bcd"
    pod = live["spec"]["template"]["spec"]["headGroupSpec"]["template"]
    pod["spec"]["containers"][0]["ports"] = [{"containerPort": 6379, "protocol": "TCP"}]
    mine = found.fleet["spec"]["template"]["spec"]["headGroupSpec"]["template"]
    mine["spec"]["containers"][0]["ports"] = [{"containerPort": 6379}]
    assert found.step() == []
