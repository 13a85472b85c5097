"""Deletion: what goes swiftly costs nothing, and what does not go is named at every level."""

from __future__ import annotations

from datetime import timedelta

from planning.departure import OVERDUE
from planning.objects import condition, is_deleting, name_of
from tests.planning.world import Cluster, podset, role, storm


def leaving(held: bool, **fields) -> Cluster:
    """A service of two pods that is being deleted; a finalizer holds the first one."""
    cluster = Cluster(storm(role(replicas=2), **fields))
    cluster.settle()
    if held:
        cluster.all("pod")[0]["metadata"]["finalizers"] = ["somebody/else"]
    cluster.delete("stormservice", "storm")
    for key in ("stormservice", "roleset"):
        for found in cluster.all(key):
            cluster.step(key, name_of(found))
    return cluster


def test_a_pod_that_does_not_go_is_named_by_its_roleset_and_its_service():
    cluster = leaving(held=True)
    stuck = name_of(cluster.all("pod")[0])
    cluster.run()
    assert [name_of(pod) for pod in cluster.all("pod")] == [stuck]
    (roleset,) = cluster.all("roleset")
    wake_at = cluster.plan("roleset", name_of(roleset)).wake_at
    assert wake_at is not None
    assert condition(roleset, "Progressing")["reason"] != "Blocked"

    cluster.now = wake_at
    cluster.run()
    sentence = f"pod {stuck} does not go: finalizer somebody/else holds it"
    assert condition(cluster.all("roleset")[0], "Progressing")["message"] == sentence
    said = condition(cluster.storm, "Progressing")
    assert (said["status"], said["reason"]) == ("False", "Blocked")
    assert said["message"] == f"RoleSet {name_of(roleset)}: {sentence}"
    view = cluster.plan("stormservice", "storm").view
    assert (view.phase, view.blocked) == ("Deleting", said["message"])
    assert "readyReplicas" in cluster.storm["status"]

    del cluster.all("pod")[0]["metadata"]["finalizers"]
    cluster.finish_deletions()
    cluster.run()
    assert not cluster.all("stormservice")


def test_a_swift_end_writes_no_status():
    cluster = leaving(held=False)
    before = cluster.statuses
    cluster.finish_deletions()
    cluster.run()
    assert not cluster.all("stormservice")
    assert cluster.statuses == before


def test_a_pod_whose_node_says_nothing_is_named_with_the_node():
    cluster = Cluster(storm(role()))
    cluster.settle()
    pod = cluster.all("pod")[0]
    pod["spec"]["nodeName"] = "dead-node"
    cluster.delete("stormservice", "storm")
    cluster.step("stormservice", "storm")
    (roleset,) = cluster.all("roleset")
    cluster.step("roleset", name_of(roleset))
    assert is_deleting(pod)
    cluster.now += timedelta(seconds=30) + OVERDUE
    view = cluster.plan("roleset", name_of(roleset)).view
    assert view.blocked == f"pod {name_of(pod)} does not go: its node dead-node has not confirmed the end"
    assert "dead-node" in cluster.plan("stormservice", "storm").view.blocked


def test_a_roleset_that_somebody_elses_finalizer_holds_is_named():
    cluster = Cluster(storm(role()))
    cluster.settle()
    (roleset,) = cluster.all("roleset")
    roleset["metadata"]["finalizers"].append("somebody/else")
    cluster.delete("stormservice", "storm")
    cluster.run()
    blocked = f"RoleSet {name_of(roleset)} does not go: finalizer somebody/else holds it"
    assert condition(cluster.storm, "Progressing")["message"] == blocked


def test_an_orphaning_deletion_of_a_podset_keeps_its_pods():
    cluster = Cluster(podset(size=2))
    cluster.run()
    pods = len(cluster.all("pod"))
    cluster.get("podset", "group")["metadata"]["finalizers"].append("orphan")
    cluster.delete("podset", "group")
    cluster.run()
    assert len(cluster.all("pod")) == pods == 2
    assert not any(is_deleting(pod) for pod in cluster.all("pod"))
