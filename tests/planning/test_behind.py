"""Pods of a role whose turn to be updated has not come return at the template that the role has (roleset section 3)."""

from __future__ import annotations

from typing import Any

from planning.objects import labels_of, name_of
from planning.wire import CreatePods
from tests.planning.world import Cluster, role, role_of, storm

Json = dict[str, Any]


def half_updated(**decode: Any) -> Cluster:
    """A router that never gets ready at v2, and a decode role that has not had its turn."""
    cluster = Cluster(
        storm(role("router", 1, upgradeOrder=1), role("decode", 2, **decode), updateStrategy={"type": "InPlaceUpdate"})
    )
    cluster.settle()
    for found in cluster.edit()["template"]["spec"]["roles"]:
        found["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    cluster.run()
    return cluster


def of_role(cluster: Cluster, name: str) -> list[Json]:
    return [pod for pod in cluster.all("pod") if role_of(pod) == name]


def images(cluster: Cluster, name: str) -> list[str]:
    return sorted(pod["spec"]["containers"][0]["image"] for pod in of_role(cluster, name))


def last_create(cluster: Cluster) -> CreatePods:
    return [step for _, decision in cluster.decisions for step in decision.steps if isinstance(step, CreatePods)][-1]


def test_a_pod_that_dies_before_its_roles_turn_returns_at_the_old_template() -> None:
    for stateful in (False, True):
        cluster = half_updated(stateful=stateful)
        assert images(cluster, "router") == ["engine:v2"]
        survivor, victim = of_role(cluster, "decode")
        del cluster.objects["pod", name_of(victim)]
        cluster.run()
        assert images(cluster, "decode") == ["engine:v1", "engine:v1"]
        assert last_create(cluster).revision
        new = next(pod for pod in of_role(cluster, "decode") if name_of(pod) != name_of(survivor))
        for key in ("role-template-hash", "stormservice.orchestration.aibrix.ai/role-revision-name"):
            assert labels_of(new)[key] == labels_of(survivor)[key]


def test_once_its_turn_has_come_it_gets_the_new_template() -> None:
    cluster = half_updated()
    del cluster.objects["pod", name_of(of_role(cluster, "decode")[0])]
    cluster.run()
    cluster.settle()
    assert images(cluster, "decode") == ["engine:v2", "engine:v2"]


def test_without_a_pod_that_tells_the_old_revision_the_new_one_is_taken() -> None:
    cluster = half_updated()
    for pod in of_role(cluster, "decode"):
        del cluster.objects["pod", name_of(pod)]
    cluster.run()
    assert images(cluster, "decode") == ["engine:v2", "engine:v2"]


def test_a_revision_that_is_no_longer_stored_keeps_nobody_waiting() -> None:
    cluster = half_updated()
    del cluster.objects["pod", name_of(of_role(cluster, "decode")[0])]
    cluster.fail["create-pods/decode"] = "no such revision"
    cluster.cause = "not-found"
    cluster.run()
    cluster.fail.clear()
    cluster.now = cluster.plan("roleset", name_of(cluster.all("roleset")[0])).wake_at or cluster.now
    cluster.run()
    assert images(cluster, "decode") == ["engine:v1", "engine:v2"]


def test_roles_that_are_updated_together_take_the_new_template_at_once() -> None:
    cluster = Cluster(storm(role("a", 2), updateStrategy={"type": "InPlaceUpdate"}, update_strategy="Parallel"))
    cluster.settle()
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    cluster.step("stormservice", "storm")
    cluster.settle()
    assert images(cluster, "a") == ["engine:v2", "engine:v2"]
