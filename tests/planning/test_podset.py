"""A PodSet through its life (roleset spec, section 12; cases 64 to 66)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crds import labels
from planning.objects import condition, format_time, is_condition_true, name_of, parse_time, uid_of
from planning.render_groups import render_group_pod
from planning.wire import CreateGroupPods
from tests.planning.world import START, Cluster, pod_template, podset, set_ready

INDEX = labels.POD_GROUP_INDEX


def running(*args, **fields) -> Cluster:
    cluster = Cluster(podset(*args, **fields))
    cluster.settle()
    cluster.decisions.clear()
    cluster.told.clear()
    cluster.now += timedelta(hours=1)
    return cluster


def status(cluster: Cluster) -> dict:
    return cluster.get("podset", "group")["status"]


def counts(cluster: Cluster) -> tuple:
    found = status(cluster)
    return found["phase"], found["readyPods"], found["totalPods"]


def indexes(cluster: Cluster) -> list[str]:
    return sorted(pod["metadata"]["labels"][INDEX] for pod in cluster.all("pod"))


def pod(cluster: Cluster, index: int) -> dict:
    return cluster.get("pod", f"group-{index}")


def fail(cluster: Cluster, index: int, **more) -> None:
    pod(cluster, index)["status"] = {"phase": "Failed", "reason": "Evicted", "message": "disk is full", **more}


def restart_container(cluster: Cluster, index: int) -> None:
    """As a kubelet does at once: nobody sees the pod unready."""
    ended = {"terminated": {"exitCode": 1, "finishedAt": format_time(cluster.now)}}
    pod(cluster, index)["status"]["containerStatuses"] = [{"name": "engine", "restartCount": 1, "lastState": ended}]


def test_64_the_group_is_pending_until_all_its_pods_are_ready():
    cluster = Cluster(podset())
    cluster.run()
    assert [name_of(found) for found in cluster.all("pod")] == ["group-0", "group-1", "group-2"]
    assert counts(cluster) == ("Pending", 0, 3)
    cluster.make_ready("group-0")
    cluster.run()
    assert counts(cluster) == ("Running", 1, 3)
    assert condition(cluster.get("podset", "group"), "Ready")["reason"] == "PodSetNotReady"
    cluster.make_ready()
    cluster.run()
    assert counts(cluster) == ("Ready", 3, 3)
    assert condition(cluster.get("podset", "group"), "Ready")["status"] == "True"
    assert status(cluster)["observedGeneration"] == 1


def test_one_of_its_own_gets_its_finalizer_with_its_first_pods():
    cluster = Cluster(podset())
    cluster.get("podset", "group")["metadata"]["finalizers"] = []
    cluster.run()
    assert [step.type for step in cluster.decisions[0][1].steps] == ["add-finalizer", "create-group-pods"]
    assert cluster.told == ["PodsCreated"]


@pytest.mark.parametrize("policy", ["ReplaceUnhealthy", "Recreate"])
def test_a_group_that_is_well_is_left_alone(policy):
    cluster = running(policy=policy)
    cluster.run()
    assert cluster.decisions == []


def test_a_missing_pod_is_made_again_under_its_own_name():
    cluster = running()
    kept = {uid_of(found) for found in cluster.all("pod")} - {uid_of(pod(cluster, 1))}
    del cluster.objects["pod", "group-1"]
    cluster.run()
    assert indexes(cluster) == ["0", "1", "2"]
    assert kept < {uid_of(found) for found in cluster.all("pod")}
    assert cluster.told == ["ReplacingUnhealthy"]


def test_a_pod_that_leaves_is_replaced_once_its_name_is_free():
    cluster = running()
    cluster.delete("pod", "group-1", after=timedelta(seconds=30))
    assert cluster.step("podset", "group") is None
    assert counts(cluster) == ("Running", 2, 3)
    cluster.finish_deletions()
    cluster.run()
    assert indexes(cluster) == ["0", "1", "2"]


def test_before_a_missing_pod_is_replaced_those_go_that_have_restarted():
    cluster = running()
    restart_container(cluster, 0)
    del cluster.objects["pod", "group-1"]
    decision = cluster.step("podset", "group")
    assert decision is not None
    (step,) = decision.steps
    assert [target.name for target in step.targets] == ["group-0"]
    assert cluster.told == ["DeletingUnhealthyPods"]
    cluster.finish_deletions()
    cluster.run()
    assert cluster.told == ["DeletingUnhealthyPods", "ReplacingUnhealthy"]
    assert indexes(cluster) == ["0", "1", "2"]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_goes_first_and_its_peers_stay(phase):
    """AIBrix creates into AlreadyExists for ever."""
    cluster = running()
    peers = {uid_of(pod(cluster, index)) for index in (0, 2)}
    fail(cluster, 1, phase=phase)
    cluster.plan("podset", "group")
    assert status(cluster)["phase"] == "Failed"
    assert "disk is full" in condition(cluster.get("podset", "group"), "Ready")["message"]
    cluster.run()
    assert indexes(cluster) == ["0", "1", "2"]
    assert peers < {uid_of(found) for found in cluster.all("pod")}
    assert cluster.told == ["DeletingUnhealthyPods", "ReplacingUnhealthy"]
    assert status(cluster)["restarts"] == 1


def test_a_container_that_restarts_is_left_to_the_kubelet_when_pods_are_replaced_one_by_one():
    cluster = running()
    restart_container(cluster, 0)
    cluster.run()
    assert cluster.decisions == []


# Recreate.


def test_a_group_that_lost_a_pod_starts_again_as_a_whole():
    cluster = running(policy="Recreate")
    before = {uid_of(found) for found in cluster.all("pod")}
    del cluster.objects["pod", "group-1"]
    cluster.run()
    assert indexes(cluster) == ["0", "1", "2"]
    assert not before & {uid_of(found) for found in cluster.all("pod")}
    assert cluster.told == ["RecreatingAllPods", "PodsCreated"]


def test_a_group_with_a_pod_that_has_ended_starts_again_once_and_comes_up():
    """AIBrix deletes the healthy ones on every pass for ever."""
    cluster = running(policy="Recreate")
    fail(cluster, 2)
    cluster.settle()
    assert counts(cluster) == ("Ready", 3, 3)
    assert cluster.told == ["RecreatingAllPods", "ReplacingUnhealthy"]
    assert [step.restarts for _, decision in cluster.decisions for step in decision.steps
            if isinstance(step, CreateGroupPods)] == [1]  # fmt: skip
    assert all(found["metadata"]["annotations"][labels.GROUP_RESTARTS] == "1" for found in cluster.all("pod"))


def test_no_pod_is_made_while_an_old_one_still_leaves():
    cluster = running(policy="Recreate")
    fail(cluster, 2)
    assert cluster.step("podset", "group") is not None
    assert cluster.step("podset", "group") is None
    assert len(cluster.all("pod")) == 3


def test_a_rank_that_restarts_takes_the_whole_group_along():
    cluster = running(policy="Recreate")
    before = {uid_of(found) for found in cluster.all("pod")}
    restart_container(cluster, 1)
    cluster.settle()
    assert not before & {uid_of(found) for found in cluster.all("pod")}
    assert cluster.told == ["RecreatingAllPods", "ReplacingUnhealthy"]
    assert counts(cluster) == ("Ready", 3, 3)


def test_a_group_that_came_up_in_spite_of_a_restart_is_well():
    cluster = Cluster(podset(policy="Recreate"))
    cluster.run()
    restarted = pod(cluster, 1).setdefault("status", {})
    cluster.make_ready()
    restarted["containerStatuses"] = [{
        "name": "engine", "restartCount": 1,
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": format_time(cluster.now)}},
    }]  # fmt: skip
    cluster.run()
    assert counts(cluster) == ("Ready", 3, 3)
    assert "RecreatingAllPods" not in cluster.told


def test_a_group_that_fails_again_soon_waits_longer_each_time():
    cluster = Cluster(podset(policy="Recreate"))
    cluster.run()
    waits = []
    for _ in range(4):
        made = max(parse_time(found["metadata"]["creationTimestamp"]) for found in cluster.all("pod"))
        fail(cluster, 0)
        plan = cluster.plan("podset", "group")
        if plan.decision is None:
            assert status(cluster)["phase"] == "Failed"
            assert plan.wake_at is not None
            waits.append((plan.wake_at - made).total_seconds())
            cluster.now = plan.wake_at
        cluster.run()
    assert [round(wait, -1) for wait in waits] == [10, 20, 40]
    assert status(cluster)["restarts"] == 4


# Size, restart, deletion.


def test_a_smaller_group_loses_its_highest_pods():
    cluster = running()
    cluster.edit("podset", "group")["podGroupSize"] = 2
    cluster.run()
    assert indexes(cluster) == ["0", "1"]
    assert cluster.told == ["ScalingDown"]


def test_pods_without_a_place_go_before_all_others():
    cluster = running()
    cluster.objects["pod", "stray"] = render_group_pod(cluster.get("podset", "group"), 0)
    stray = cluster.get("pod", "stray")["metadata"]
    stray |= {"name": "stray", "uid": "stray", "creationTimestamp": format_time(cluster.now)}
    stray["labels"][INDEX] = "x"
    decision = cluster.step("podset", "group")
    assert decision is not None
    assert [target.name for target in decision.steps[0].targets] == ["stray"]


def test_an_edit_of_the_template_alone_touches_no_pod():
    cluster = running()
    cluster.edit("podset", "group")["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    cluster.run()
    assert cluster.decisions == []


def test_a_restart_that_somebody_asks_for_makes_every_pod_anew():
    cluster = running()
    before = {uid_of(found) for found in cluster.all("pod")}
    annotations = {labels.RESTARTED_AT: "2026-01-01T12:00:00Z"}
    cluster.edit("podset", "group")["template"]["metadata"]["annotations"] = annotations
    cluster.settle()
    assert not before & {uid_of(found) for found in cluster.all("pod")}
    assert cluster.told == ["RecreatingAllPods", "PodsCreated"]
    cluster.decisions.clear()
    cluster.run()
    assert cluster.decisions == []


def test_deletion_takes_the_pods_before_the_finalizer():
    cluster = running()
    cluster.delete("podset", "group")
    for expected in (["delete-group-pods"], None):
        decision = cluster.step("podset", "group")
        assert (decision and [step.type for step in decision.steps]) == expected
    cluster.finish_deletions()
    cluster.run()
    assert cluster.all("podset") == []
    assert cluster.all("pod") == []


def test_a_refused_create_is_shown_and_waits():
    cluster = Cluster(podset(), fail={"create-group-pods": "exceeded quota: pods"})
    cluster.step("podset", "group")
    plan = cluster.plan("podset", "group")
    assert plan.decision is None
    assert plan.wake_at is not None
    assert plan.view.blocked == "create-group-pods: exceeded quota: pods"
    assert condition(cluster.get("podset", "group"), "ReplicaFailure")["reason"] == "ReconcileError"
    assert plan.wake_at > START


def test_the_status_names_the_pod_that_keeps_the_group():
    cluster = Cluster(podset())
    cluster.run()
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    set_ready(pod(cluster, 1), False)
    pod(cluster, 1)["status"]["containerStatuses"] = [{"name": "engine", "restartCount": 0, "state": waiting}]
    view = cluster.plan("podset", "group").view
    assert view.blocked == "pod group-1: container engine waits: ImagePullBackOff: no such image"


def test_a_readiness_gate_of_the_template_is_opened():
    """Nobody else would: groups are never updated in place."""
    template = pod_template()
    template["spec"]["readinessGates"] = [{"conditionType": labels.IN_PLACE_READY}]
    cluster = Cluster(podset(template=template))
    cluster.run()
    assert all(is_condition_true(found, labels.IN_PLACE_READY) for found in cluster.all("pod"))
    assert [step.type for _, decision in cluster.decisions for step in decision.steps].count("restore-pods") == 1


# Rendering.


def rendered(template: dict | None = None, **metadata) -> dict:
    of = podset()
    of["metadata"] |= metadata
    if template is not None:
        of["spec"]["template"] = template
    return render_group_pod(of, 1)


def env(container: dict) -> list[tuple[str, str]]:
    return [(entry["name"], entry["value"]) for entry in container["env"]]


def variables(*names: str) -> list[dict]:
    return [{"name": name, "value": "mine"} for name in names]


BUILT_IN = [("PODSET_NAME", "group"), ("POD_GROUP_INDEX", "1"), ("POD_GROUP_SIZE", "3")]


def test_65_built_in_variables_come_first_in_containers_and_init_containers():
    found = rendered({
        "spec": {
            "containers": [{"name": "engine", "env": variables("Z", "A")}],
            "initContainers": [{"name": "init", "env": variables("INIT")}],
        }
    })["spec"]  # fmt: skip
    assert env(found["containers"][0]) == [*BUILT_IN, ("Z", "mine"), ("A", "mine")]
    assert env(found["initContainers"][0]) == [*BUILT_IN, ("INIT", "mine")]


def test_66_built_in_variables_win_over_the_users():
    containers = [{"name": "engine", "env": variables("PODSET_NAME", "USER_VAR", "POD_GROUP_SIZE")}]
    assert env(rendered({"spec": {"containers": containers}})["spec"]["containers"][0]) == [
        *BUILT_IN,
        ("USER_VAR", "mine"),
    ]


def test_a_pod_of_a_group_has_its_place_as_label_and_host_name():
    found = rendered(labels={"storm-service-name": "storm"})
    assert found["metadata"]["name"] == "group-1"
    assert found["metadata"]["labels"][labels.PODSET_NAME] == "group"
    assert found["metadata"]["labels"][INDEX] == "1"
    assert (found["spec"]["hostname"], found["spec"]["subdomain"]) == ("group-1", "storm")
    assert found["metadata"]["ownerReferences"][0]["kind"] == "PodSet"
    assert found["metadata"]["ownerReferences"][0]["controller"]


def test_what_the_template_says_wins_over_what_the_pod_set_hands_down():
    template = {"metadata": {"labels": {"a": "mine"}, "annotations": {"b": "mine"}, "finalizers": ["x/y"]},
                "spec": {"containers": [{"name": "engine"}]}}  # fmt: skip
    found = rendered(template, labels={"a": "theirs", "c": "theirs"},
                     annotations={"b": "theirs", labels.DECISION: "run-1"})["metadata"]  # fmt: skip
    assert (found["labels"]["a"], found["labels"]["c"]) == ("mine", "theirs")
    assert found["annotations"] == {"b": "mine"}
    assert found["finalizers"] == ["x/y"]


def test_long_names_are_cut_at_the_front():
    of = podset(name="x" + "y" * 62)
    found = render_group_pod(of, 7)["metadata"]["name"]
    assert len(found) == 63
    assert found.endswith("y-7")
