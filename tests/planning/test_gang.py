"""PodGroups for gang scheduling (roleset spec, section 8; cases 51, 62, 63)."""

from __future__ import annotations

import pytest

from crds import labels
from planning import gang
from planning.objects import condition, labels_of, name_of
from tests.planning.world import Cluster, podset, role, roleset

STRATEGIES = {
    "godel": {"godelSchedulingStrategy": {"minMember": 2, "application": "llm"}},
    "coscheduling": {"coschedulingSchedulingStrategy": {"minMember": 2, "minResources": {"cpu": 2}}},
    "volcano": {"volcanoSchedulingStrategy": {"minMember": 2, "minTaskMember": {"worker": 2}, "queue": "q"}},
}
APIS = {
    "godel": "scheduling.godel.kubewharf.io/v1alpha1",
    "coscheduling": "scheduling.x-k8s.io/v1alpha1",
    "volcano": "scheduling.volcano.sh/v1beta1",
}


def cluster_of(of: dict, strategy: dict | None, served: tuple[str, ...] = tuple(STRATEGIES)) -> Cluster:
    if strategy is not None:
        of["spec"]["schedulingStrategy"] = strategy
    cluster = Cluster(of)
    cluster.pod_groups = tuple(f"podgroup.{name}" for name in served)
    cluster.settle()
    return cluster


def pod_groups(cluster: Cluster) -> list[dict]:
    return [found for (key, _), found in cluster.objects.items() if key.startswith("podgroup.")]


def synced(cluster: Cluster, key: str = "roleset", name: str = "set") -> dict:
    return condition(cluster.get(key, name), labels.POD_GROUP_SYNCED)


@pytest.mark.parametrize("name", STRATEGIES)
def test_62_a_role_set_has_the_pod_group_of_its_scheduler(name):
    cluster = cluster_of(roleset(role("worker", 2)), STRATEGIES[name])
    (found,) = pod_groups(cluster)
    (wanted,) = STRATEGIES[name].values()
    assert (found["apiVersion"], found["kind"], name_of(found)) == (APIS[name], "PodGroup", "set")
    assert found["spec"] == wanted
    assert labels_of(found) == {labels.ROLESET_NAME: "set"}
    assert found["metadata"]["ownerReferences"][0]["controller"]
    assert synced(cluster)["status"] == "True"
    first = cluster.decisions[0][1].steps
    assert [step.type for step in first] == ["apply-pod-group", "create-pods"]


def test_62_without_the_definition_a_condition_and_one_event_say_so_and_pods_are_made():
    cluster = cluster_of(roleset(role("worker", 2)), STRATEGIES["volcano"], served=("godel",))
    assert pod_groups(cluster) == []
    assert len(cluster.all("pod")) == 2
    assert synced(cluster)["reason"] == "PodGroupKindMissing"
    assert "podgroups.scheduling.volcano.sh" in synced(cluster)["message"]
    assert [reason for _, reason, _ in cluster.events].count("PodGroupKindMissing") == 1
    cluster.pod_groups = ("podgroup.volcano",)
    cluster.run()
    assert len(pod_groups(cluster)) == 1
    assert synced(cluster)["status"] == "True"


def test_62_another_strategy_is_brought_into_the_group_that_exists():
    cluster = cluster_of(roleset(role("worker", 2)), STRATEGIES["volcano"])
    cluster.edit("roleset", "set")["schedulingStrategy"]["volcanoSchedulingStrategy"] = {"minMember": 5}
    cluster.run()
    (found,) = pod_groups(cluster)
    assert found["spec"]["minMember"] == 5


def test_what_the_server_and_others_add_is_no_difference():
    cluster = cluster_of(roleset(role("worker", 1)), STRATEGIES["coscheduling"])
    (found,) = pod_groups(cluster)
    found["spec"] |= {"queue": "default", "minResources": {"cpu": "2"}}
    found["metadata"]["labels"]["theirs"] = "x"
    cluster.decisions.clear()
    cluster.run()
    assert cluster.decisions == []


def test_a_field_of_ours_that_somebody_changed_is_put_back():
    cluster = cluster_of(roleset(role("worker", 1)), STRATEGIES["godel"])
    (found,) = pod_groups(cluster)
    found["spec"]["minMember"] = 9
    cluster.run()
    assert found["spec"]["minMember"] == 2


@pytest.mark.parametrize("after", [None, STRATEGIES["volcano"]])
def test_a_strategy_that_goes_takes_its_group_along(after):
    cluster = cluster_of(roleset(role("worker", 1)), STRATEGIES["godel"])
    spec = cluster.edit("roleset", "set")
    spec.pop("schedulingStrategy")
    if after:
        spec["schedulingStrategy"] = after
    cluster.run()
    assert [found["apiVersion"] for found in pod_groups(cluster)] == ([APIS["volcano"]] if after else [])
    if after is None:
        assert synced(cluster) == {}


def test_63_deletion_takes_the_group_with_the_finalizer():
    cluster = cluster_of(roleset(role("worker", 1)), STRATEGIES["godel"])
    cluster.delete("roleset", "set")
    for _ in range(3):
        cluster.run()
        cluster.finish_deletions()
    assert cluster.objects == {}


@pytest.mark.parametrize("served", [(), ("godel",)])
def test_63_without_definition_or_group_nothing_is_in_the_way_of_the_end(served):
    cluster = cluster_of(roleset(role("worker", 1)), None, served)
    cluster.delete("roleset", "set")
    for _ in range(3):
        cluster.run()
        cluster.finish_deletions()
    assert cluster.objects == {}


def test_each_group_of_a_role_with_a_strategy_has_its_own():
    made = role("worker", 2, podGroupSize=2, schedulingStrategy=STRATEGIES["volcano"])
    cluster = cluster_of(roleset(made), None)
    sets = {name_of(found) for found in cluster.all("podset")}
    assert {name_of(found) for found in pod_groups(cluster)} == sets
    for found in pod_groups(cluster):
        assert labels_of(found) == {labels.PODSET_NAME: name_of(found)}
    for pod in cluster.all("pod"):
        group = labels_of(pod)[labels.PODSET_NAME]
        assert labels_of(pod)[labels.VOLCANO_GROUP] == pod["metadata"]["annotations"][labels.VOLCANO_GROUP] == group
    made["schedulingStrategy"] = {"volcanoSchedulingStrategy": {"minMember": 7}}
    cluster.edit("roleset", "set")["roles"][0] = made
    cluster.settle()
    assert [found["spec"]["minMember"] for found in pod_groups(cluster)] == [7, 7]
    cluster.delete("roleset", "set")
    for _ in range(6):
        cluster.run()
        cluster.finish_deletions()
    assert cluster.objects == {}


def test_the_group_of_the_role_set_is_handed_down_through_its_pod_sets():
    cluster = cluster_of(roleset(role("worker", 1, podGroupSize=2)), STRATEGIES["coscheduling"])
    assert [name_of(found) for found in pod_groups(cluster)] == ["set"]
    assert {labels_of(pod)[labels.COSCHEDULING_GROUP] for pod in cluster.all("pod")} == {"set"}


def test_a_role_of_single_pods_has_no_group_of_its_own():
    cluster = cluster_of(roleset(role("worker", 1, schedulingStrategy=STRATEGIES["volcano"])), None)
    assert pod_groups(cluster) == []
    assert labels.VOLCANO_GROUP not in labels_of(cluster.all("pod")[0])


def test_a_pod_set_of_its_own_has_one_too():
    cluster = cluster_of(podset(), STRATEGIES["coscheduling"])
    (found,) = pod_groups(cluster)
    assert name_of(found) == "group"
    assert synced(cluster, "podset", "group")["status"] == "True"
    assert {labels_of(pod)[labels.COSCHEDULING_GROUP] for pod in cluster.all("pod")} == {"group"}


def test_a_group_that_cannot_be_made_holds_no_pod_up():
    of = roleset(role("worker", 2))
    of["spec"]["schedulingStrategy"] = STRATEGIES["volcano"]
    cluster = Cluster(of, fail={"apply-pod-group": "PodGroup set exists and belongs to somebody else"})
    cluster.pod_groups = ("podgroup.volcano",)
    cluster.run()
    assert len(cluster.all("pod")) == 2
    assert "belongs to somebody else" in synced(cluster)["message"]


def test_unset_fields_stay_out_of_the_group():
    of = roleset(role())
    of["spec"]["schedulingStrategy"] = {"coschedulingSchedulingStrategy": {"minMember": 1, "minResources": None}}
    scheduler = gang.scheduler_of(of)
    assert scheduler is not None
    assert gang.render_pod_group(of, scheduler)["spec"] == {"minMember": 1}
