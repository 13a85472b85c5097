"""A StormService through its life (orchestration cases 1 to 9, 29, 38, 44 and 45 for Recreate; CRD case B21)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crds import labels
from planning.objects import condition, labels_of, name_of
from planning.planner import World
from planning.registry import PLANNERS
from planning.wire import CloseObject, CloseRollout, Failed, Memory, Ref
from tests.planning.world import START, Cluster, role, role_of, set_ready, storm


def running(*roles, **fields) -> Cluster:
    """A StormService that has settled, its record of decisions empty."""
    cluster = Cluster(storm(*(roles or (role(),)), **fields))
    cluster.settle()
    cluster.decisions.clear()
    cluster.rollouts.clear()
    return cluster


def images(cluster: Cluster) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in cluster.all("pod")}


def set_image(cluster: Cluster, image: str, place: int = 0) -> None:
    cluster.edit()["template"]["spec"]["roles"][place]["template"]["spec"]["containers"][0]["image"] = image


def status(cluster: Cluster) -> dict:
    return cluster.storm["status"]


def steps(cluster: Cluster, kind: str = "stormservice") -> list[list[str]]:
    return [[step.type for step in decision.steps] for key, decision in cluster.decisions if key == kind]


def indexes(cluster: Cluster) -> list[str]:
    return sorted(found["metadata"]["annotations"][labels.ROLESET_INDEX] for found in cluster.all("roleset"))


def test_1_2_rolesets_pods_and_status_of_a_new_one():
    cluster = Cluster(storm(role("prefill", 3), role("decode", 2, stateful=True), replicas=5))
    cluster.settle()
    assert len(cluster.all("roleset")) == 5
    assert all(labels_of(found)["storm-service-name"] == "storm" for found in cluster.all("roleset"))
    assert len(cluster.all("pod")) == 25
    found = status(cluster)
    counts = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "updatedReadyReplicas")
    assert [found[key] for key in counts] == [5] * 5
    assert found["notReadyReplicas"] == 0
    assert found["currentRevision"] == found["updateRevision"] == found["completedRevision"] != ""
    assert condition(cluster.storm, "Ready")["status"] == "True"
    assert condition(cluster.storm, "Progressing")["status"] == "False"
    assert indexes(cluster) == ["0", "1", "2", "3", "4"]


def test_a_new_one_costs_three_decisions_and_its_rolesets_one_each():
    cluster = Cluster(storm(role(replicas=2), replicas=2))
    cluster.settle()
    assert steps(cluster) == [
        ["start-rollout"],
        ["add-finalizer", "create-revision", "apply-service", "create-rolesets"],
        ["close-rollout"],
    ]
    assert steps(cluster, "roleset") == [["create-pods"]] * 2


def test_while_pods_start_ready_is_false_beside_progressing():
    cluster = Cluster(storm(role(replicas=2), replicas=2))
    cluster.run()
    assert condition(cluster.storm, "Ready") | {"lastTransitionTime": "", "lastUpdateTime": ""} == {
        "type": "Ready", "status": "False", "reason": "NotReady",
        "message": "0 of 2 RoleSets ready, 0 of them updated", "lastTransitionTime": "", "lastUpdateTime": "",
    }  # fmt: skip
    assert condition(cluster.storm, "Progressing")["reason"] == "Processing"


@pytest.mark.parametrize("replicas", [3, 6, 0])
def test_3_4_b21_the_number_of_rolesets_follows(replicas):
    cluster = running(replicas=5)
    cluster.edit()["replicas"] = replicas
    cluster.settle()
    assert status(cluster)["replicas"] == replicas
    assert {labels_of(found)["storm-service-revision"] for found in cluster.all("roleset")} <= {
        status(cluster)["updateRevision"]
    }
    assert cluster.rollouts == []


def test_6_the_roleset_that_is_not_ready_goes_first():
    cluster = running(replicas=2)
    broken, kept = cluster.all("roleset")
    set_ready(
        next(pod for pod in cluster.all("pod") if pod["metadata"]["labels"]["roleset-name"] == name_of(broken)), False
    )
    cluster.run()
    assert status(cluster)["readyReplicas"] == 1
    cluster.edit()["replicas"] = 1
    cluster.run()
    assert [name_of(found) for found in cluster.all("roleset")] == [name_of(kept)]


def test_absent_replicas_are_one():
    cluster = running(replicas=None)
    assert status(cluster)["replicas"] == 1
    assert condition(cluster.storm, "Ready")["status"] == "True"


def test_8_9_a_service_of_ours_is_put_right():
    cluster = running()
    cluster.get("service", "storm")["spec"] |= {"selector": {}, "publishNotReadyAddresses": False}
    cluster.settle()
    spec = cluster.get("service", "storm")["spec"]
    assert spec["selector"] == {"storm-service-name": "storm"}
    assert spec["publishNotReadyAddresses"] is True
    del cluster.objects["service", "storm"]
    cluster.settle()
    assert ("service", "storm") in cluster.objects


def test_a_deleted_roleset_is_replaced_at_its_index():
    cluster = running(replicas=3)
    gone = cluster.all("roleset")[1]
    cluster.delete("roleset", name_of(gone))
    cluster.settle()
    assert indexes(cluster) == ["0", "1", "2"]
    assert ("roleset", name_of(gone)) not in cluster.objects


def test_a_new_image_is_rolled_out_without_taking_a_ready_pod_too_early():
    cluster = running(replicas=3, updateStrategy={"type": "RollingUpdate", "maxSurge": 1, "maxUnavailable": 0})
    set_image(cluster, "engine:v2")
    old = status(cluster)["currentRevision"]
    for _ in range(40):
        cluster.step("stormservice", "storm")
        for found in cluster.all("roleset"):
            cluster.step("roleset", name_of(found))
        cluster.finish_deletions()
        ready = [pod for pod in cluster.all("pod") if condition(pod, "Ready").get("status") == "True"]
        assert len(ready) >= 3
        assert len(cluster.all("pod")) <= 4
        waiting = [pod for pod in cluster.all("pod") if pod not in ready]
        cluster.make_ready(*(name_of(pod) for pod in waiting[:1]))
    assert images(cluster) == {"engine:v2"}
    assert [(result.result, result.revision) for result in cluster.rollouts] == [
        ("completed", status(cluster)["updateRevision"])
    ]
    assert status(cluster)["currentRevision"] != old
    assert indexes(cluster) == ["0", "1", "2"] or len(set(indexes(cluster))) == 3
    assert ("Normal", "RevisionPromoted") in [event[:2] for event in cluster.events]


def test_29_pods_say_which_revision_brought_their_template():
    cluster = running(role("prefill"), role("decode"))
    set_image(cluster, "engine:v2")
    cluster.settle()
    numbers = {role_of(pod): labels_of(pod)[labels.ROLE_REVISION] for pod in cluster.all("pod")}
    assert numbers == {"prefill": "2", "decode": "1"}
    set_image(cluster, "engine:v3")
    cluster.settle()
    numbers = {role_of(pod): labels_of(pod)[labels.ROLE_REVISION] for pod in cluster.all("pod")}
    assert numbers == {"prefill": "3", "decode": "1"}


def test_a_revert_in_mid_rollout_ends_that_rollout_and_brings_everything_back():
    cluster = running(replicas=3, updateStrategy={"maxSurge": 1, "maxUnavailable": 0})
    first = status(cluster)["completedRevision"]
    set_image(cluster, "engine:v2")
    cluster.run()
    assert images(cluster) == {"engine:v1", "engine:v2"}
    set_image(cluster, "engine:v1")
    cluster.settle()
    assert images(cluster) == {"engine:v1"}
    assert [result.result for result in cluster.rollouts] == ["undone", "completed"]
    assert status(cluster)["updateRevision"] == first
    numbers = {name_of(found): found["revision"] for found in cluster.all("controllerrevision")}
    assert numbers[first] == 3


def test_a_newer_template_takes_over_from_an_unfinished_rollout():
    cluster = running(replicas=2, updateStrategy={"maxSurge": 1, "maxUnavailable": 0})
    set_image(cluster, "engine:broken")
    cluster.run()
    set_image(cluster, "engine:v3")
    cluster.settle()
    assert [result.result for result in cluster.rollouts] == ["superseded", "completed"]
    assert images(cluster) == {"engine:v3"}


def test_replicas_of_a_role_are_scaled_without_a_revision_or_a_new_roleset():
    cluster = running(role("prefill", 1), role("decode", 1), replicas=2)
    before = {name_of(found) for found in cluster.all("roleset")}
    cluster.edit()["template"]["spec"]["roles"][1]["replicas"] = 3
    cluster.settle()
    assert {name_of(found) for found in cluster.all("roleset")} == before
    assert sorted(role_of(pod) for pod in cluster.all("pod")) == ["decode"] * 6 + ["prefill"] * 2
    assert cluster.rollouts == []
    assert len(cluster.all("controllerrevision")) == 1
    assert steps(cluster) == [["update-rolesets"]]


def test_roles_scale_in_the_middle_of_a_rollout_too():
    cluster = running(role(replicas=1), replicas=2, updateStrategy={"maxSurge": 1, "maxUnavailable": 0})
    set_image(cluster, "engine:v2")
    cluster.run()
    cluster.edit()["template"]["spec"]["roles"][0]["replicas"] = 2
    cluster.settle()
    assert len(cluster.all("pod")) == 4
    assert images(cluster) == {"engine:v2"}


def test_45_in_place_the_roleset_stays_and_its_pods_are_replaced():
    cluster = running(role("prefill", 2, maxUnavailable=1), role("decode", 1), updateStrategy={"type": "InPlaceUpdate"})
    (before,) = [name_of(found) for found in cluster.all("roleset")]
    kept = [name_of(pod) for pod in cluster.all("pod") if role_of(pod) == "decode"]
    set_image(cluster, "engine:v2")
    cluster.settle()
    (after,) = cluster.all("roleset")
    assert name_of(after) == before
    assert labels_of(after)["storm-service-revision"] == status(cluster)["updateRevision"]
    assert [name_of(pod) for pod in cluster.all("pod") if role_of(pod) == "decode"] == kept
    assert {p["spec"]["containers"][0]["image"] for p in cluster.all("pod") if role_of(p) == "prefill"} == {"engine:v2"}
    assert [result.result for result in cluster.rollouts] == ["completed"]


def test_in_place_rolesets_are_rewritten_one_after_another():
    cluster = running(role(replicas=2), replicas=3, updateStrategy={"type": "InPlaceUpdate"})
    set_image(cluster, "engine:v2")
    seen = []
    for _ in range(60):
        cluster.run()
        short = [found for found in cluster.all("roleset") if condition(found, "Ready")["status"] != "True"]
        seen.append(len(short))
        cluster.make_ready()
    assert max(seen) == 1
    assert images(cluster) == {"engine:v2"}
    assert len(cluster.rollouts) == 1


def test_a_pause_before_the_change_stores_the_revision_and_rolls_nothing():
    cluster = running(replicas=2)
    cluster.edit()["paused"] = True
    set_image(cluster, "engine:v2")
    cluster.settle()
    assert images(cluster) == {"engine:v1"}
    assert status(cluster)["updateRevision"] != status(cluster)["currentRevision"]
    assert len(cluster.all("controllerrevision")) == 2
    assert condition(cluster.storm, "Progressing")["reason"] == "Paused"
    assert cluster.plan("stormservice", "storm").view.phase == "Paused"
    cluster.edit()["paused"] = False
    cluster.settle()
    assert images(cluster) == {"engine:v2"}


def test_a_pause_in_the_middle_holds_the_rollout_open_and_scales_in_proportion():
    cluster = running(replicas=2, updateStrategy={"maxSurge": 1, "maxUnavailable": 0})
    set_image(cluster, "engine:v2")
    cluster.run()
    cluster.make_ready()
    cluster.run()
    revisions = [labels_of(found)["storm-service-revision"] for found in cluster.all("roleset")]
    cluster.edit()["paused"] = True
    cluster.settle()
    assert cluster.rollout is not None
    halves = {revision: revisions.count(revision) for revision in revisions}
    assert len(halves) == 2
    cluster.edit()["replicas"] = 4
    cluster.settle()
    assert len(cluster.all("roleset")) == 4
    assert images(cluster) == {"engine:v1", "engine:v2"}
    cluster.edit()["paused"] = False
    cluster.settle()
    assert images(cluster) == {"engine:v2"}
    assert [result.result for result in cluster.rollouts] == ["completed"]


def test_a_paused_new_one_is_created_all_the_same():
    cluster = Cluster(storm(role(), replicas=2, paused=True))
    cluster.settle()
    assert len(cluster.all("pod")) == 2
    assert cluster.rollouts == []
    cluster.edit()["paused"] = False
    cluster.settle()
    assert [result.result for result in cluster.rollouts] == ["completed"]


def test_b32_old_revisions_are_forgotten():
    cluster = running(revisionHistoryLimit=2)
    for number in range(5):
        set_image(cluster, f"engine:{number}")
        cluster.settle()
    assert len(cluster.all("controllerrevision")) == 3


def test_deletion_takes_the_rolesets_and_then_the_finalizer():
    cluster = running(replicas=2)
    cluster.delete("stormservice", "storm")
    cluster.settle()
    assert not cluster.all("stormservice")
    assert not cluster.all("roleset")
    assert not cluster.all("pod")


def test_deletion_in_mid_rollout_closes_the_rollout():
    cluster = running(replicas=2, updateStrategy={"maxSurge": 1, "maxUnavailable": 0})
    set_image(cluster, "engine:v2")
    cluster.run()
    cluster.delete("stormservice", "storm")
    cluster.run()
    assert [result.result for result in cluster.rollouts] == ["deleted"]
    assert not cluster.all("roleset")


def plan(found, rollout=None, uid="storm-uid"):
    ref = Ref(kind="stormservice", namespace="default", name="storm", uid=uid)
    return PLANNERS["stormservice"].plan(World(ref, found, {}, START), Memory(), rollout)


def test_a_workflow_ends_when_its_object_is_gone():
    (step,) = plan(None).decision.steps
    assert step == CloseObject(successor=None)
    (step,) = plan(None, rollout="r1").decision.steps
    assert isinstance(step, CloseRollout)
    assert step.result == "deleted"


def test_a_workflow_goes_on_with_the_object_that_took_the_name():
    (step,) = plan(storm(role()), uid="before").decision.steps
    assert step.successor == Ref(kind="stormservice", namespace="default", name="storm", uid="storm-uid")


def test_35_36_a_template_that_makes_no_roleset_is_said_and_nothing_is_done():
    found = storm(role(), selector={"matchLabels": {"app": "different"}})
    seen = plan(found)
    assert seen.decision is None
    assert "does not match stormService selector" in condition({"status": seen.status}, "ReplicaFailure")["message"]
    assert "does not match stormService selector" in seen.view.blocked
    del found["spec"]["template"]["spec"]
    assert "bad stormService template: nil" in plan(found).view.blocked


def test_a_surge_nobody_can_read_is_said_and_scaling_goes_on():
    cluster = running(replicas=2)
    cluster.edit()["updateStrategy"] = {"maxSurge": "abc"}
    set_image(cluster, "engine:v2")
    cluster.edit()["replicas"] = 3
    cluster.settle()
    assert len(cluster.all("roleset")) == 3
    assert '"abc" is neither' in condition(cluster.storm, "ReplicaFailure")["message"]
    cluster.edit()["updateStrategy"] = {"maxUnavailable": 1}
    cluster.settle()
    assert images(cluster) == {"engine:v2"}
    assert condition(cluster.storm, "ReplicaFailure") == {}


def test_what_the_api_server_refuses_is_shown_and_tried_again_after_a_while():
    cluster = Cluster(storm(role()), fail={"create-rolesets": "exceeded quota"})
    cluster.run()
    assert condition(cluster.storm, "ReplicaFailure")["message"] == "create-rolesets: exceeded quota"
    assert ("Warning", "Rollout", "rollout error: create-rolesets: exceeded quota") in cluster.events
    seen = cluster.plan("stormservice", "storm")
    assert seen.decision is None
    assert seen.wake_at == cluster.now + timedelta(seconds=1)
    assert seen.view.blocked == "create-rolesets: exceeded quota"
    cluster.fail.clear()
    cluster.now += timedelta(seconds=1)
    cluster.settle()
    assert condition(cluster.storm, "Ready")["status"] == "True"
    assert condition(cluster.storm, "ReplicaFailure") == {}


def test_a_service_of_somebody_else_is_said_and_the_rest_goes_on():
    cluster = Cluster(storm(role()))
    outcome = Failed(step="apply-service", cause="name-conflict", message="Service storm belongs to nobody we know")
    carry_out = cluster._carry_out
    cluster._carry_out = lambda key, name, step, memory: (
        outcome if step.type == "apply-service" else carry_out(key, name, step, memory)
    )
    cluster.settle()
    found = condition(cluster.storm, "ServiceConflict")
    assert (found["status"], found["reason"], found["message"]) == ("True", "NameConflict", outcome.message)
    assert condition(cluster.storm, "Ready")["status"] == "True"
    assert [result.result for result in cluster.rollouts] == ["completed"]


def test_a_roleset_that_never_goes_holds_nobody_up_for_ever():
    cluster = running(replicas=1)
    (stuck,) = cluster.all("roleset")
    stuck["metadata"]["finalizers"].append("somebody/else")
    cluster.delete("roleset", name_of(stuck))
    cluster.run()
    assert len(cluster.all("roleset")) == 1
    wake_at = cluster.plan("stormservice", "storm").wake_at
    assert timedelta() < wake_at - cluster.now <= timedelta(seconds=150)
    cluster.now = wake_at
    cluster.settle()
    assert len(cluster.all("roleset")) == 2
    assert len(cluster.all("pod")) == 1


def test_the_page_says_what_blocks_and_shows_the_roles():
    cluster = Cluster(storm(role("prefill", 2), role("decode")))
    cluster.run()
    pod = next(pod for pod in cluster.all("pod") if role_of(pod) == "decode")
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    pod["status"] = {"phase": "Pending", "containerStatuses": [{"name": "engine", "state": {"waiting": waiting}}]}
    cluster.run()
    view = cluster.plan("stormservice", "storm").view
    assert view.phase == "Creating"
    assert view.model == "m"
    assert "waits: ImagePullBackOff: no such image" in view.blocked
    assert name_of(pod) in view.blocked
    assert "| prefill | 2 | 0 | 2 |" in view.details
    assert "start-rollout" not in view.details


def test_losing_all_memory_changes_nothing_in_the_cluster():
    cluster = running(role(replicas=2), replicas=2)
    before = {key: found["metadata"]["uid"] for key, found in cluster.objects.items()}
    cluster.memories.clear()
    del cluster.storm["status"]["completedRevision"]
    cluster.settle()
    assert {key: found["metadata"]["uid"] for key, found in cluster.objects.items()} == before
    assert [result.result for result in cluster.rollouts] == ["completed"]


def test_a_bad_image_in_place_is_said_although_everything_still_serves():
    cluster = running(role(replicas=2, maxSurge=1, maxUnavailable=0), updateStrategy={"type": "InPlaceUpdate"})
    set_image(cluster, "engine:bad")
    cluster.run()
    new = next(pod for pod in cluster.all("pod") if pod["spec"]["containers"][0]["image"] == "engine:bad")
    waiting = {"reason": "ErrImagePull"}
    new["status"] = {"phase": "Pending", "containerStatuses": [{"name": "engine", "state": {"waiting": waiting}}]}
    cluster.run()
    view = cluster.plan("stormservice", "storm").view
    assert "ErrImagePull" in view.blocked
    assert view.phase == "RollingOut"
    assert sum(condition(pod, "Ready").get("status") == "True" for pod in cluster.all("pod")) == 2
