"""A topology policy on what runs already (roleset spec, section 9; cases 55, 60, 61)."""

from __future__ import annotations

import pytest

from crds import labels
from planning.objects import condition, is_deleting, labels_of, name_of, uid_of
from tests.planning.world import Cluster, role, roleset

REQUIRED, PREFERRED = (f"{kind}DuringSchedulingIgnoredDuringExecution" for kind in ("required", "preferred"))
POLICY = {"scope": "RoleSet", "mode": "Required", "key": "zone"}


def running(*roles) -> Cluster:
    cluster = Cluster(roleset(*roles, labels={labels.STORM_SERVICE_NAME: "storm"}))
    cluster.settle()
    cluster.decisions.clear()
    return cluster


def set_policy(cluster: Cluster, **policy) -> None:
    cluster.edit("roleset", "set")["topologyPolicy"] = policy


def terms(pod_spec: dict) -> tuple[int, int]:
    pods = pod_spec.get("affinity", {}).get("podAffinity", {})
    return len(pods.get(REQUIRED, [])), len(pods.get(PREFERRED, []))


def warnings(cluster: Cluster) -> list[str]:
    return [message for _, reason, message in cluster.events if reason == "TopologyPolicyPendingPodReplacement"]


def pending(cluster: Cluster) -> dict:
    return condition(cluster.get("roleset", "set"), labels.TOPOLOGY_PENDING)


def test_55_the_template_of_a_pod_set_carries_the_term():
    cluster = Cluster(roleset(role("worker", podGroupSize=2), labels={labels.STORM_SERVICE_NAME: "storm"}))
    set_policy(cluster, scope="RoleSet", key="kubernetes.io/hostname")
    cluster.settle()
    (found,) = cluster.all("podset")
    (term,) = found["spec"]["template"]["spec"]["affinity"]["podAffinity"][PREFERRED]
    assert term["weight"] == 100
    selector = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert selector == {"storm-service-name": "storm", "roleset-name": "set"}
    assert [terms(pod["spec"]) for pod in cluster.all("pod")] == [(0, 1), (0, 1)]


def test_60_a_running_pod_keeps_its_place_and_its_successor_has_the_policy_of_the_moment():
    cluster = running(role())
    (before,) = cluster.all("pod")
    set_policy(cluster, **POLICY)
    cluster.settle()
    assert cluster.decisions == []
    set_policy(cluster, **POLICY | {"mode": "Preferred"})
    cluster.settle()
    assert cluster.decisions == []
    assert terms(before["spec"]) == (0, 0)
    cluster.delete("pod", name_of(before))
    cluster.settle()
    cluster.finish_deletions()
    cluster.settle()
    (after,) = cluster.all("pod")
    assert terms(after["spec"]) == (0, 1)
    assert pending(cluster) == {}


def test_61_one_warning_a_change_counts_what_lacks_the_term():
    cluster = running(role("worker", 1))
    set_policy(cluster, **POLICY)
    cluster.run()
    (message,) = warnings(cluster)
    assert "1 active Pod" in message
    assert "PodSet" not in message
    assert pending(cluster)["status"] == "True"
    cluster.get("roleset", "set")["spec"]["roles"][0]["replicas"] = 2
    cluster.settle()
    assert len(warnings(cluster)) == 1
    set_policy(cluster, **POLICY | {"key": "rack"})
    cluster.run()
    assert len(warnings(cluster)) == 2
    assert "2 active Pods" in warnings(cluster)[1]


def test_61_templates_of_pod_sets_count_and_so_do_their_pods():
    cluster = running(role("worker", 2, podGroupSize=3), role("router", 1))
    set_policy(cluster, **POLICY)
    cluster.run()
    (message,) = warnings(cluster)
    assert "7 active Pods and 2 PodSet templates" in message


def test_members_that_have_the_term_are_no_cause_for_a_warning():
    cluster = Cluster(roleset(role("worker", 2), labels={labels.STORM_SERVICE_NAME: "storm"}))
    set_policy(cluster, **POLICY)
    cluster.settle()
    assert warnings(cluster) == []
    assert pending(cluster) == {}


@pytest.mark.parametrize("fields", [{}, {"stateful": True}, {"podGroupSize": 2}])
@pytest.mark.parametrize("budget", [{"maxSurge": 1, "maxUnavailable": 0}, {"maxSurge": 0, "maxUnavailable": 1}])
def test_with_roll_on_change_pods_follow_a_new_policy_within_the_budget(fields, budget):
    cluster = running(role("worker", 3, **fields, **budget))
    for mode in ("Required", "Preferred"):
        before = {uid_of(pod) for pod in cluster.all("pod")}
        set_policy(cluster, **POLICY | {"mode": mode, "rollOnChange": True})
        for _ in range(60):
            cluster.step("roleset", "set")
            for _, name in [key for key in cluster.objects if key[0] == "podset"]:
                cluster.step("podset", name)
            roles = cluster.get("roleset", "set")["status"]["roles"]
            assert roles[0]["readyReplicas"] >= 3 - budget["maxUnavailable"]
            cluster.finish_deletions()
            cluster.make_ready()
        cluster.settle()
        wanted = (1, 0) if mode == "Required" else (0, 1)
        assert {terms(pod["spec"]) for pod in cluster.all("pod")} == {wanted}
        assert not before & {uid_of(pod) for pod in cluster.all("pod")}
    cluster.decisions.clear()
    cluster.run()
    assert cluster.decisions == []


def test_opting_in_for_pods_that_follow_the_policy_replaces_none():
    cluster = Cluster(roleset(role("worker", 2), labels={labels.STORM_SERVICE_NAME: "storm"}))
    set_policy(cluster, **POLICY)
    cluster.settle()
    before = {uid_of(pod) for pod in cluster.all("pod")}
    for policy in (POLICY | {"rollOnChange": True}, POLICY):
        set_policy(cluster, **policy)
        cluster.settle()
        assert {uid_of(pod) for pod in cluster.all("pod") if not is_deleting(pod)} == before


def test_a_rolled_pod_says_its_hash_by_label_and_environment_alike():
    cluster = Cluster(roleset(role("worker", 1), labels={labels.STORM_SERVICE_NAME: "storm"}))
    set_policy(cluster, **POLICY | {"rollOnChange": True})
    cluster.settle()
    (pod,) = cluster.all("pod")
    env = {entry["name"]: entry["value"] for entry in pod["spec"]["containers"][0]["env"]}
    assert env["ROLE_TEMPLATE_HASH"] == labels_of(pod)[labels.ROLE_TEMPLATE_HASH]
