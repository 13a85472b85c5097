"""A RoleSet through its life (roleset cases 24, 67, sections 10 and 11)."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from planning.objects import condition, format_time, is_deleting, name_of
from planning.planner import World
from planning.roleset import RoleSetPlanner
from planning.roleset_status import LEGACY_REASONS
from planning.wire import CloseObject, Memory, Ref
from tests.planning.world import START, Cluster, role, role_of, roleset, set_ready


def running(*roles, **fields) -> Cluster:
    cluster = Cluster(roleset(*(roles or (role(),)), **fields))
    cluster.settle()
    cluster.decisions.clear()
    return cluster


def status(cluster: Cluster) -> dict:
    return cluster.get("roleset", "set")["status"]


def ready(cluster: Cluster) -> dict:
    return condition(cluster.get("roleset", "set"), "Ready")


def pods(cluster: Cluster, role_name: str = "worker") -> list[dict]:
    return [pod for pod in cluster.all("pod") if role_of(pod) == role_name]


def test_24_pods_of_all_roles_are_created_at_once_and_counted():
    cluster = Cluster(roleset(role("worker", 2), role("master", 1)))
    cluster.settle()
    (decision,) = [decision for _, decision in cluster.decisions]
    assert [step.type for step in decision.steps] == ["create-pods", "create-pods"]
    assert "create 2 pods of worker" in decision.reason
    keys = ("name", "replicas", "readyReplicas", "notReadyReplicas", "updatedReplicas", "updatedReadyReplicas")
    assert [tuple(found[key] for key in keys) for found in status(cluster)["roles"]] == [
        ("worker", 2, 2, 0, 2, 2),
        ("master", 1, 1, 0, 1, 1),
    ]
    assert ready(cluster)["status"] == "True"
    assert status(cluster)["observedGeneration"] == 1


def test_one_of_its_own_gets_its_finalizer_with_its_first_pods():
    cluster = Cluster(roleset(role()))
    cluster.get("roleset", "set")["metadata"]["finalizers"] = []
    cluster.run()
    assert [step.type for step in cluster.decisions[0][1].steps] == ["add-finalizer", "create-pods"]


def test_without_roles_it_is_ready():
    assert ready(running(*[], update_strategy="Parallel", name="set"))["status"] == "True"
    cluster = Cluster(roleset())
    cluster.settle()
    assert ready(cluster)["status"] == "True"


def test_pods_that_do_not_exist_yet_count_as_not_ready():
    cluster = Cluster(roleset(role(replicas=2)), fail={"create-pods/worker": "exceeded quota"})
    cluster.run()
    found = ready(cluster)
    assert (found["status"], found["reason"]) == ("False", "RoleSetNotReady")
    assert found["message"] == "worker (0 of 2 ready)"
    assert condition(cluster.get("roleset", "set"), "ReplicaFailure")["message"] == "create-pods/worker: exceeded quota"


def test_a_role_without_quota_holds_no_other_role_back():
    cluster = Cluster(roleset(role("first", 2), role("second", 2)), fail={"create-pods/first": "exceeded quota"})
    cluster.settle()
    assert len(pods(cluster, "second")) == 2
    cluster.fail.clear()
    cluster.now += timedelta(minutes=5)
    cluster.settle()
    assert len(pods(cluster, "first")) == 2
    assert condition(cluster.get("roleset", "set"), "ReplicaFailure") == {}


def test_the_message_names_the_role_the_pod_and_the_cause():
    cluster = Cluster(roleset(role("prefill", 2), role("decode")))
    cluster.run()
    cluster.make_ready(*(name_of(pod) for pod in pods(cluster, "decode")))
    stuck = pods(cluster, "prefill")[0]
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    stuck["status"] = {"phase": "Running", "containerStatuses": [{"name": "engine", "state": {"waiting": waiting}}]}
    cluster.run()
    sentence = f"pod {name_of(stuck)}: container engine waits: CrashLoopBackOff: back-off 10s"
    assert ready(cluster)["message"] == f"prefill (0 of 2 ready); {sentence}"
    assert condition(cluster.get("roleset", "set"), "Progressing")["reason"] == "Blocked"
    assert cluster.plan("roleset", "set").view.blocked == sentence


def test_a_pod_that_only_starts_blocks_nothing():
    cluster = Cluster(roleset(role()))
    cluster.run()
    assert cluster.plan("roleset", "set").view.blocked == ""
    assert "is starting" in ready(cluster)["message"]


def test_a_pod_without_a_node_is_said():
    cluster = Cluster(roleset(role()))
    cluster.run()
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    pods(cluster)[0]["status"] = {"phase": "Pending", "conditions": [unschedulable]}
    cluster.run()
    assert "is not scheduled: Unschedulable: 0/1 nodes" in cluster.plan("roleset", "set").view.blocked


def test_legacy_reasons_are_those_of_aibrix():
    found = roleset(role())
    world = World(Ref(kind="roleset", namespace="default", name="set", uid="set-uid"), found, {}, START)
    plan = RoleSetPlanner(LEGACY_REASONS).plan(world, Memory(), None)
    assert condition({"status": plan.status}, "Ready")["reason"] == "roleset is not ready"


def test_pods_of_a_role_that_the_spec_no_longer_has_go():
    cluster = running(role("worker", 2), role("old", 1))
    cluster.edit("roleset", "set")["roles"].pop()
    cluster.settle()
    assert not pods(cluster, "old")
    assert len(pods(cluster)) == 2
    assert [found["name"] for found in status(cluster)["roles"]] == ["worker"]


def test_a_pod_that_ended_is_deleted_and_replaced():
    cluster = running(role(replicas=2))
    dead = pods(cluster)[0]
    dead["status"] = {"phase": "Failed"}
    cluster.settle()
    assert ("pod", name_of(dead)) not in cluster.objects
    assert len(pods(cluster)) == 2


def test_a_stateful_pod_that_ended_comes_back_under_its_name():
    cluster = running(role(replicas=2, stateful=True))
    dead = pods(cluster)[0]
    before = dead["metadata"]["uid"]
    dead["status"] = {"phase": "Failed"}
    cluster.settle()
    assert cluster.get("pod", name_of(dead))["metadata"]["uid"] != before


def test_a_pod_on_a_dead_node_is_replaced_after_a_while():
    cluster = running(role(replicas=1))
    (stuck,) = pods(cluster)
    stuck["metadata"]["finalizers"] = ["node/is-gone"]
    cluster.delete("pod", name_of(stuck), after=timedelta(seconds=30))
    cluster.run()
    assert len(pods(cluster)) == 1
    plan = cluster.plan("roleset", "set")
    assert plan.wake_at == cluster.now + timedelta(seconds=150)
    cluster.now = plan.wake_at
    cluster.settle()
    assert [is_deleting(pod) for pod in pods(cluster)] == [True, False]
    assert ready(cluster)["status"] == "True"


def test_a_new_template_replaces_pods_within_the_budget():
    cluster = running(role(replicas=3, maxSurge=1, maxUnavailable=0))
    cluster.edit("roleset", "set")["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    for _ in range(30):
        cluster.run()
        assert sum(condition(pod, "Ready").get("status") == "True" for pod in cluster.all("pod")) >= 3
        assert len(cluster.all("pod")) <= 4
        cluster.make_ready()
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.all("pod")} == {"engine:v2"}


@pytest.mark.parametrize("stateful", [False, True])
def test_turning_stateful_replaces_pods_one_by_one(stateful):
    cluster = running(role(replicas=3, stateful=not stateful))
    cluster.edit("roleset", "set")["roles"][0]["stateful"] = stateful
    for _ in range(10):
        cluster.run()
        assert sum(condition(pod, "Ready").get("status") == "True" for pod in cluster.all("pod")) >= 2
        cluster.make_ready()
    assert len(pods(cluster)) == 3
    if stateful:
        assert sorted(pod["spec"]["hostname"] for pod in pods(cluster)) == sorted(name_of(pod) for pod in pods(cluster))


def test_deletion_takes_the_pods_and_then_the_finalizer():
    cluster = running(role("worker", 2), role("master", 1))
    cluster.delete("roleset", "set")
    first = cluster.step("roleset", "set")
    assert [step.type for step in first.steps] == ["delete-pods", "delete-pods"]
    assert cluster.step("roleset", "set") is None
    cluster.finish_deletions()
    last = cluster.step("roleset", "set")
    assert [step.type for step in last.steps] == ["release-finalizer"]
    cluster.finish_deletions()
    assert not cluster.objects


def test_others_finalizers_are_waited_for():
    cluster = running(role(replicas=0), finalizers=["orchestration.aibrix.ai/roleset-finalizer", "x/y"])
    cluster.delete("roleset", "set")
    cluster.run()
    assert cluster.get("roleset", "set")["metadata"]["finalizers"] == ["x/y"]


def test_its_workflow_ends_when_it_is_gone():
    world = World(Ref(kind="roleset", namespace="default", name="set", uid="u"), None, {}, START)
    plan = RoleSetPlanner().plan(world, Memory(), None)
    assert plan.decision.steps == [CloseObject(successor=None)]


def test_a_pod_with_a_lower_deletion_cost_goes_first():
    cluster = running(role(replicas=3))
    cheap = pods(cluster)[0]
    for pod, cost in zip(pods(cluster), ("-5", "0", "not a number"), strict=True):
        pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = cost
    cluster.edit("roleset", "set")["roles"][0]["replicas"] = 2
    cluster.settle()
    assert ("pod", name_of(cheap)) not in cluster.objects


def test_a_pod_of_another_release_counts_by_its_hash_label():
    cluster = running(role(replicas=1))
    (pod,) = pods(cluster)
    del pod["metadata"]["annotations"]["brixflow.aibrix.ai/template-digest"]
    cluster.settle()
    assert cluster.decisions == []
    pod["metadata"]["labels"]["role-template-hash"] = "other"
    cluster.settle()
    assert ("pod", name_of(pod)) not in cluster.objects


def test_phases_say_what_is_going_on():
    cluster = Cluster(roleset(role(replicas=2)))
    cluster.run()
    assert cluster.plan("roleset", "set").view.phase == "Creating"
    cluster.make_ready(name_of(pods(cluster)[0]))
    assert cluster.plan("roleset", "set").view.phase == "Scaling"
    cluster.settle()
    assert cluster.plan("roleset", "set").view.phase == "Ready"
    cluster.edit("roleset", "set")["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    assert cluster.plan("roleset", "set").view.phase == "Updating"
    set_ready(pods(cluster)[0], False)
    pods(cluster)[0]["metadata"]["deletionTimestamp"] = format_time(cluster.now)
    cluster.delete("roleset", "set")
    assert cluster.plan("roleset", "set").view.phase == "Deleting"


def test_48_with_nothing_to_clean_up_nothing_is_done():
    cluster = running(role(replicas=2))
    assert cluster.step("roleset", "set") is None
    assert cluster.decisions == []


def failures(cluster: Cluster) -> list[dict]:
    conditions = status(cluster)["conditions"]
    return [found for found in conditions if found["type"] == "ReplicaFailure"]


def test_67_a_condition_stands_once_with_the_message_of_the_moment_and_goes_with_its_cause():
    cluster = Cluster(roleset(role(replicas=2)), fail={"create-pods/worker": "exceeded quota"})
    cluster.run()
    cluster.run()
    (first,) = failures(cluster)
    cluster.fail["create-pods/worker"] = "another quota"
    cluster.now += timedelta(seconds=2)
    cluster.run()
    (second,) = failures(cluster)
    assert (second["status"], second["reason"]) == (first["status"], first["reason"])
    assert second["lastTransitionTime"] == first["lastTransitionTime"]
    assert second["message"] == "create-pods/worker: another quota"
    cluster.fail.clear()
    cluster.now += timedelta(minutes=5)
    cluster.settle()
    assert failures(cluster) == []


def test_a_failed_step_is_tried_again_after_waits_that_double():
    cluster = Cluster(roleset(role(replicas=1)), fail={"create-pods/worker": "exceeded quota"})
    tries = []
    for _ in range(4):
        cluster.run()
        tries.append(cluster.now)
        cluster.now = cluster.plan("roleset", "set").wake_at
    assert [(later - earlier).seconds for earlier, later in itertools.pairwise(tries)] == [1, 2, 4]


def test_pods_are_kept_when_the_role_set_is_deleted_without_them():
    cluster = running(role(replicas=2), finalizers=["orchestration.aibrix.ai/roleset-finalizer", "orphan"])
    cluster.delete("roleset", "set")
    cluster.run()
    assert len(pods(cluster)) == 2
    assert not [pod for pod in pods(cluster) if is_deleting(pod)]
    assert cluster.get("roleset", "set")["metadata"]["finalizers"] == ["orphan"]


def test_a_role_set_made_again_takes_back_the_pods_that_were_kept():
    cluster = running(role(replicas=2))
    before = {pod["metadata"]["uid"] for pod in pods(cluster)}
    for pod in pods(cluster):
        del pod["metadata"]["ownerReferences"]
    stranger = pods(cluster)[0]
    del cluster.objects["roleset", "set"]
    cluster.memories.clear()
    stranger["metadata"]["labels"]["role-template-hash"] = "other"
    cluster.objects["roleset", "set"] = roleset(role(replicas=2)) | {}
    cluster.get("roleset", "set")["metadata"]["uid"] = "another-uid"
    cluster.settle()
    owned = cluster.children("roleset", "another-uid")["pod"]
    assert len(owned) == 2
    assert len(before & {pod["metadata"]["uid"] for pod in owned}) == 1
    assert "ownerReferences" not in stranger["metadata"]
