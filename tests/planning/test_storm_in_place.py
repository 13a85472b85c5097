"""A StormService whose pods take another image where they are (orchestration cases 44 and 45)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crds import labels
from planning.objects import annotations_of, is_condition_true, labels_of, name_of, uid_of
from tests.planning.kubelet import run_all, settle
from tests.planning.world import Cluster, Json, role, storm


def pooled() -> Cluster:
    """One RoleSet of one pod that may be patched in place."""
    worker = role("worker", 1, type="InPlaceIfPossible", maxSurge=0, maxUnavailable=1)
    cluster = Cluster(storm(worker, updateStrategy={"type": "InPlaceUpdate"}))
    settle(cluster)
    assert is_condition_true(cluster.storm, "Ready")
    return cluster


def edit(cluster: Cluster, change: Callable[[Json], Any]) -> None:
    change(cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0])
    cluster.run()


def test_44_the_same_pod_takes_the_image_and_its_marks_follow_the_runtime():
    cluster = pooled()
    (before,) = cluster.all("pod")
    name, uid, old = name_of(before), uid_of(before), labels_of(before)[labels.ROLE_TEMPLATE_HASH]
    edit(cluster, lambda container: container.update(image="engine:v2"))
    (pod,) = cluster.all("pod")
    assert (name_of(pod), uid_of(pod)) == (name, uid)
    assert pod["spec"]["containers"][0]["image"] == "engine:v2"
    assert labels_of(pod)[labels.ROLE_TEMPLATE_HASH] == old
    assert labels_of(pod)[labels.ROLE_REVISION] == "1"
    target = annotations_of(pod)[labels.IN_PLACE_TARGET_HASH]
    assert not is_condition_true(cluster.storm, "Ready")

    run_all(cluster)
    settle(cluster)
    (pod,) = cluster.all("pod")
    assert (name_of(pod), uid_of(pod)) == (name, uid)
    assert labels_of(pod)[labels.ROLE_TEMPLATE_HASH] == target != old
    assert labels_of(pod)[labels.ROLE_REVISION] == "2"
    assert labels.IN_PLACE_TARGET_HASH not in annotations_of(pod)
    assert is_condition_true(cluster.storm, "Ready")


def test_45_another_command_needs_another_pod():
    cluster = pooled()
    (before,) = cluster.all("pod")
    edit(cluster, lambda container: container.update(command=["serve", "--fast"]))
    settle(cluster)
    (pod,) = cluster.all("pod")
    assert uid_of(pod) != uid_of(before)
    assert labels_of(pod)[labels.ROLE_REVISION] == "2"
    assert labels.IN_PLACE_TARGET_HASH not in annotations_of(pod)
    assert is_condition_true(cluster.storm, "Ready")
