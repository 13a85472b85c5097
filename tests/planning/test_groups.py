"""Roles whose replicas are PodSets (roleset spec, section 6; cases 43 to 48)."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta

import pytest

from crds import labels
from planning.objects import format_time, is_deleting, labels_of, name_of, uid_of
from planning.render import render_pod
from planning.render_groups import render_podset
from planning.warm_up import mark
from tests.planning.world import Cluster, role, roleset


def grouped(replicas: int = 1, image: str = "engine:v1", size: int = 2, **fields) -> dict:
    return role("worker", replicas, image, podGroupSize=size, **fields)


def running(*roles, **fields) -> Cluster:
    cluster = Cluster(roleset(*roles, **fields))
    cluster.settle()
    forget(cluster)
    return cluster


def forget(cluster: Cluster) -> None:
    cluster.decisions.clear()
    cluster.told.clear()


def spec(cluster: Cluster) -> dict:
    return cluster.edit("roleset", "set")["roles"][0]


def set_image(cluster: Cluster, image: str) -> None:
    spec(cluster)["template"]["spec"]["containers"][0]["image"] = image


def status(cluster: Cluster) -> dict:
    return cluster.get("roleset", "set")["status"]["roles"][0]


def sets(cluster: Cluster) -> list[dict]:
    return [found for found in cluster.all("podset") if not is_deleting(found)]


def slots(cluster: Cluster) -> list[str]:
    return sorted(labels_of(found)[labels.ROLE_REPLICA_INDEX] for found in sets(cluster))


def ready_sets(cluster: Cluster) -> int:
    return sum(found.get("status", {}).get("phase") == "Ready" for found in sets(cluster))


def least_ready(cluster: Cluster, limit: int = 200) -> tuple[int, int]:
    """Fewest ready and most PodSets while everything that is made becomes ready."""
    least, most = ready_sets(cluster), len(sets(cluster))
    for _ in range(limit):
        before = (len(cluster.decisions), cluster.statuses)
        for key, name in list(cluster.objects):
            if key in ("roleset", "podset"):
                cluster.step(key, name)
                least, most = min(least, ready_sets(cluster)), max(most, len(sets(cluster)))
        cluster.finish_deletions()
        cluster.make_ready()
        if (len(cluster.decisions), cluster.statuses) == before:
            return least, most
    raise AssertionError("no end")


def test_a_replica_of_a_grouped_role_is_a_pod_set():
    cluster = running(grouped(2, size=3))
    assert slots(cluster) == ["0", "1"]
    assert len(cluster.all("pod")) == 6
    assert [status(cluster)[key] for key in ("replicas", "readyReplicas", "updatedReplicas", "updatedReadyReplicas")] \
        == [2, 2, 2, 2]  # fmt: skip
    (found, _) = sets(cluster)
    assert found["metadata"]["name"].startswith("set-worker-")
    assert found["spec"]["podGroupSize"] == 3
    assert found["spec"]["recoveryPolicy"] == "ReplaceUnhealthy"
    pod = next(each for each in cluster.all("pod") if labels_of(each)[labels.PODSET_NAME] == name_of(found))
    for key in (labels.ROLESET_NAME, labels.ROLE_NAME, labels.ROLE_TEMPLATE_HASH, labels.ROLE_REPLICA_INDEX):
        assert labels_of(pod)[key] == labels_of(found)[key]


def test_a_container_sees_the_group_then_the_role_then_the_users_variables():
    made = grouped()
    made["template"]["spec"]["containers"][0]["env"] = [{"name": "MINE", "value": "1"}]
    made["template"]["spec"]["initContainers"] = [{"name": "init"}]
    cluster = running(made)
    pod = cluster.all("pod")[0]["spec"]
    assert [entry["name"] for entry in pod["containers"][0]["env"]] == [
        "PODSET_NAME", "POD_GROUP_INDEX", "POD_GROUP_SIZE", "STORM_SERVICE_NAME", "ROLESET_NAME", "ROLESET_INDEX",
        "ROLE_NAME", "ROLE_TEMPLATE_HASH", "ROLE_REPLICA_INDEX", "MINE",
    ]  # fmt: skip
    assert [entry["name"] for entry in pod["initContainers"][0]["env"]] == [
        "PODSET_NAME", "POD_GROUP_INDEX", "POD_GROUP_SIZE",
    ]  # fmt: skip


def test_pod_sets_and_their_pods_say_which_revision_brought_their_template():
    notes = {labels.role_revision_annotation("worker"): "4", labels.role_revision_name_annotation("worker"): "storm-x"}
    cluster = Cluster(roleset(grouped(), annotations=notes))
    cluster.settle()
    for found in (*cluster.all("podset"), *cluster.all("pod")):
        assert labels_of(found)[labels.ROLE_REVISION] == "4"
        assert labels_of(found)[labels.ROLE_REVISION_NAME] == "storm-x"


def test_a_pod_set_is_ready_for_its_role_when_all_its_pods_are():
    cluster = Cluster(roleset(grouped(2, size=2)))
    cluster.run()
    first = name_of(sets(cluster)[0])
    cluster.make_ready(f"{first}-0")
    cluster.run()
    assert status(cluster)["readyReplicas"] == 0
    cluster.make_ready(f"{first}-1")
    cluster.run()
    assert (status(cluster)["readyReplicas"], status(cluster)["notReadyReplicas"]) == (1, 1)


def test_the_role_set_says_which_pod_of_which_group_keeps_it():
    cluster = Cluster(roleset(grouped()))
    cluster.run()
    pod = cluster.all("pod")[0]
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    pod["status"] = {"containerStatuses": [{"name": "engine", "restartCount": 0, "state": waiting}]}
    cluster.run()
    view = cluster.plan("roleset", "set").view
    assert "ImagePullBackOff" in view.blocked
    assert name_of(pod) in view.blocked


def test_scaling_keeps_the_lower_slots():
    cluster = running(grouped(3))
    kept = {uid_of(found) for found in sets(cluster) if labels_of(found)[labels.ROLE_REPLICA_INDEX] == "0"}
    spec(cluster)["replicas"] = 1
    cluster.settle()
    assert slots(cluster) == ["0"]
    assert {uid_of(found) for found in sets(cluster)} == kept


@pytest.mark.parametrize(
    ("surge", "unavailable", "least", "most"), [(1, 0, 3, 4), (0, 1, 2, 3), (1, 1, 2, 4), (0, 2, 1, 3), (2, 0, 3, 5)]
)
def test_an_update_of_groups_keeps_the_budget(surge, unavailable, least, most):
    cluster = running(grouped(3, maxSurge=surge, maxUnavailable=unavailable))
    before = {uid_of(found) for found in sets(cluster)}
    set_image(cluster, "engine:v2")
    assert least_ready(cluster) == (least, most)
    assert not before & {uid_of(found) for found in sets(cluster)}
    assert slots(cluster) == ["0", "1", "2"]
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.all("pod")} == {"engine:v2"}


def test_a_change_of_the_group_size_is_a_new_revision():
    """AIBrix leaves the groups as they are until the pod template changes too."""
    cluster = running(grouped(2, size=2))
    spec(cluster)["podGroupSize"] = 4
    cluster.settle()
    assert {found["spec"]["podGroupSize"] for found in sets(cluster)} == {4}
    assert len(cluster.all("pod")) == 8


def test_43_a_group_is_never_updated_in_place_and_one_event_says_so():
    made = grouped(3, maxSurge=1, maxUnavailable=1)
    made["updateStrategy"]["type"] = "InPlaceIfPossible"
    cluster = running(made)
    before = {uid_of(found) for found in sets(cluster)}
    set_image(cluster, "engine:v2")
    cluster.settle()
    assert not before & {uid_of(found) for found in sets(cluster)}
    assert cluster.told.count("InPlaceFallback") == 1
    told = next(
        told for _, decision in cluster.decisions for step in decision.steps for told in getattr(step, "tells", ())
        if told.reason == "InPlaceFallback"
    )  # fmt: skip
    assert "role worker PodSet set-worker-" in told.message
    assert not any(labels.IN_PLACE_TARGET_HASH in found["metadata"]["annotations"] for found in sets(cluster))
    forget(cluster)
    set_image(cluster, "engine:v3")
    cluster.settle()
    assert cluster.told.count("InPlaceFallback") == 1


def direct_pods(cluster: Cluster, count: int, owner: str = "set-uid") -> None:
    """Pods of the role from before it had groups."""
    of = deepcopy(cluster.get("roleset", "set"))
    for index in range(count):
        pod = render_pod(of, "worker", name=f"old-{index}", slot=None)
        pod["metadata"] |= {"uid": f"old-{index}", "creationTimestamp": format_time(cluster.now)}
        pod["metadata"]["ownerReferences"][0]["uid"] = owner
        cluster.objects["pod", f"old-{index}"] = pod


@pytest.mark.parametrize("count", [1, 2])
def test_44_pods_of_the_role_go_before_its_first_group_is_made(count):
    cluster = Cluster(roleset(grouped(size=3)))
    direct_pods(cluster, count)
    decision = cluster.step("roleset", "set")
    assert decision is not None
    assert [(step.type, len(step.targets)) for step in decision.steps] == [("delete-pods", count)]
    assert cluster.all("podset") == []
    cluster.finish_deletions()
    cluster.settle()
    assert len(sets(cluster)) == 1


@pytest.mark.parametrize("owner", ["another-roleset", "some-podset"])
def test_45_pods_of_somebody_else_are_kept(owner):
    cluster = Cluster(roleset(grouped(size=3)))
    direct_pods(cluster, 1, owner)
    cluster.step("roleset", "set")
    assert len(sets(cluster)) == 1
    assert not is_deleting(cluster.get("pod", "old-0"))


def old_groups(cluster: Cluster, count: int, owner: str = "set-uid") -> None:
    of = deepcopy(cluster.get("roleset", "set"))
    of["spec"]["roles"][0]["podGroupSize"] = 2
    for slot in range(count):
        found = render_podset(of, "worker", slot)
        found["metadata"] |= {"uid": f"old-{slot}", "generation": 1, "creationTimestamp": format_time(cluster.now)}
        found["metadata"]["ownerReferences"][0]["uid"] = owner
        cluster.objects["podset", name_of(found)] = found


@pytest.mark.parametrize("stateful", [False, True])
def test_46_groups_of_a_role_of_single_pods_go(stateful):
    cluster = Cluster(roleset(role("worker", stateful=stateful)))
    old_groups(cluster, 1)
    decision = cluster.step("roleset", "set")
    assert decision is not None
    assert [(step.type, len(step.targets)) for step in decision.steps] == [("delete-podsets", 1)]
    cluster.settle()
    assert cluster.all("podset") == []
    assert len(cluster.all("pod")) == 1


@pytest.mark.parametrize("stateful", [False, True])
def test_46_groups_of_somebody_else_are_kept(stateful):
    cluster = Cluster(roleset(role("worker", stateful=stateful)))
    old_groups(cluster, 1, owner="another")
    cluster.step("roleset", "set")
    assert not is_deleting(cluster.all("podset")[0])


def test_48_without_leftovers_there_is_nothing_to_clean_up():
    cluster = running(grouped(2))
    cluster.run()
    assert cluster.decisions == []


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("stateful", [False, True])
def test_a_switch_between_pods_and_groups_keeps_the_budget(before, after, stateful):
    """AIBrix deletes all old members before the first new one exists."""
    cluster = running(role("worker", 3, podGroupSize=before, stateful=stateful, maxSurge=0, maxUnavailable=1))
    spec(cluster)["podGroupSize"] = after
    for _ in range(60):
        role_status = cluster.get("roleset", "set").get("status", {}).get("roles", [{}])[0]
        assert role_status.get("readyReplicas", 3) >= 2
        acted = [cluster.step(key, name) for key, name in list(cluster.objects) if key in ("roleset", "podset")]
        cluster.finish_deletions()
        cluster.make_ready()
        if not any(acted):
            cluster.run()
    assert len(cluster.all("pod")) == 3 * after
    assert len(cluster.all("podset")) == (3 if after > 1 else 0)
    assert role_status["readyReplicas"] == 3


def test_a_role_that_is_gone_loses_its_groups():
    cluster = running(grouped(2), role("other"))
    cluster.edit("roleset", "set")["roles"].pop(0)
    cluster.settle()
    assert cluster.all("podset") == []
    assert len(cluster.all("pod")) == 1


def test_deleting_the_role_set_takes_groups_and_pods_along():
    cluster = running(grouped(2), role("other", 1))
    cluster.delete("roleset", "set")
    for _ in range(6):
        cluster.run()
        cluster.finish_deletions()
    assert cluster.objects == {}


def test_a_recovery_policy_reaches_running_groups_without_new_pods():
    cluster = running(grouped(2))
    before = {uid_of(found) for found in cluster.all("pod")}
    spec(cluster)["recoveryPolicy"] = "Group"
    cluster.settle()
    assert {found["spec"]["recoveryPolicy"] for found in sets(cluster)} == {"Recreate"}
    assert {uid_of(found) for found in cluster.all("pod")} == before
    forget(cluster)
    cluster.run()
    assert cluster.decisions == []


def test_sequential_updates_wait_for_the_groups_of_the_first_role():
    first = grouped(1, upgradeOrder=1)
    cluster = running(first, role("router", 1, upgradeOrder=2))
    for of in cluster.edit("roleset", "set")["roles"]:
        of["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    cluster.run()
    (router,) = [pod for pod in cluster.all("pod") if labels_of(pod)["role-name"] == "router"]
    assert router["spec"]["containers"][0]["image"] == "engine:v1"
    cluster.settle()
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.all("pod")} == {"engine:v2"}


def test_one_failed_rank_leaves_its_group_in_place():
    cluster = running(grouped(1, size=3))
    (before,) = sets(cluster)
    pod = cluster.get("pod", f"{name_of(before)}-1")
    pod["status"] = {"phase": "Failed"}
    cluster.settle()
    assert [uid_of(found) for found in sets(cluster)] == [uid_of(before)]
    assert len(cluster.all("pod")) == 3


def test_a_group_counts_as_ready_once_it_has_been_so_for_long_enough():
    cluster = Cluster(roleset(grouped(1, minReadySeconds=30)))
    cluster.settle()
    assert status(cluster)["readyReplicas"] == 0
    plan = cluster.plan("roleset", "set")
    assert plan.wake_at is not None
    cluster.now = plan.wake_at
    cluster.run()
    assert status(cluster)["readyReplicas"] == 1


def test_pods_of_a_group_that_serves_get_a_grace_that_covers_their_requests():
    cluster = running(grouped(1, drainSeconds=90))
    set_image(cluster, "engine:v2")
    cluster.run()
    (step,) = [step for _, made in cluster.decisions for step in made.steps if step.type == "delete-group-pods"]
    assert step.grace_seconds == 90


def test_a_role_that_recovers_as_a_whole_loses_its_groups_when_one_rank_fails():
    cluster = running(grouped(2, recoveryPolicy="Service"), role("router", 1))
    before = {uid_of(found) for found in cluster.all("pod")}
    cluster.now += timedelta(hours=1)
    first = name_of(sets(cluster)[0])
    cluster.get("pod", f"{first}-1")["status"] = {"phase": "Failed"}
    cluster.settle()
    assert not before & {uid_of(found) for found in cluster.all("pod")}
    assert len(cluster.all("pod")) == 5


def test_leftover_groups_of_a_role_that_is_updated_in_place_are_replaced():
    made = role("worker", 2)
    made["updateStrategy"] = {"type": "InPlaceIfPossible", "maxUnavailable": 1}
    cluster = Cluster(roleset(made))
    old_groups(cluster, 2)
    cluster.settle()
    assert cluster.all("podset") == []
    assert not any(step.type == "patch-pods" for _, decision in cluster.decisions for step in decision.steps)


def test_a_group_that_cannot_go_is_named_all_the_way_up():
    cluster = running(grouped(1))
    pod = cluster.all("pod")[0]
    pod["metadata"]["finalizers"] = ["example.com/keep"]
    cluster.delete("roleset", "set")
    cluster.run()
    cluster.now += timedelta(minutes=1)
    for _ in range(2):
        for key, name in list(cluster.objects):
            if key in ("podset", "roleset"):
                cluster.step(key, name)
    plan = cluster.plan("roleset", "set")
    assert plan.view.blocked.endswith(f"pod {name_of(pod)} does not go: finalizer example.com/keep holds it")


def test_orphaned_groups_and_pods_stay():
    cluster = running(grouped(1))
    for key, name in [("roleset", "set"), ("podset", name_of(sets(cluster)[0]))]:
        cluster.get(key, name)["metadata"]["finalizers"].append("orphan")
        cluster.delete(key, name)
    cluster.run()
    assert not any(is_deleting(found) for found in cluster.all("pod"))
    assert [found["metadata"]["finalizers"] for found in (*cluster.all("roleset"), *cluster.all("podset"))] \
        == [["orphan"], ["orphan"]]  # fmt: skip


def test_a_group_counts_as_ready_once_its_first_pod_has_generated():
    cluster = Cluster(roleset(grouped(1, warmUp={"path": "/v1/completions"})))
    cluster.run()
    cluster.make_ready()
    cluster.run()
    (step,) = [step for _, made in cluster.decisions for step in made.steps if step.type == "warm-up-pods"]
    (group,) = sets(cluster)
    assert [target.name for target in step.targets] == [f"{name_of(group)}-0"]
    assert (group["status"]["phase"], group["status"]["readyPods"]) == ("Running", 2)
    assert status(cluster)["readyReplicas"] == 0
    first = cluster.get("pod", f"{name_of(group)}-0")["metadata"]["annotations"]
    first[labels.WARM_UP] = mark("failed", step.template_hash, 2, cluster.now, "answers 500")
    cluster.run()
    plan = cluster.plan("roleset", "set")
    assert "no first token in 2 tries: answers 500" in plan.view.blocked
    first[labels.WARM_UP] = mark("done", step.template_hash, 3, cluster.now)
    cluster.run()
    assert group["status"]["phase"] == "Ready"
    assert status(cluster)["readyReplicas"] == 1
