"""`--cascade=orphan` keeps the children, and an object of the same name takes them back."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from crds import labels
from planning.adoption import adoptions, selects
from planning.objects import condition, labels_of, name_of
from tests.planning.world import Cluster, role, storm


def orphaned(**fields: Any) -> Cluster:
    """A settled service whose owner is gone; its children have no controller."""
    cluster = Cluster(storm(role("a", 2), replicas=2, disruptionTolerance={"maxUnavailable": 1}, **fields))
    cluster.settle()
    del cluster.objects["stormservice", "storm"]
    for found in cluster.objects.values():
        owners = found["metadata"].get("ownerReferences", [])
        found["metadata"]["ownerReferences"] = [owner for owner in owners if owner["kind"] != "StormService"]
    cluster.memories.clear()
    cluster.decisions.clear()
    cluster.rollouts.clear()
    return cluster


def again(cluster: Cluster, **fields: Any) -> None:
    """The same manifest under a new uid."""
    body = storm(role("a", 2), replicas=2, disruptionTolerance={"maxUnavailable": 1}, **fields)
    body["metadata"]["uid"] = "storm-uid-2"
    cluster.objects["stormservice", "storm"] = deepcopy(body)


def identities(cluster: Cluster) -> dict[tuple[str, str], str]:
    return {key: found["metadata"]["uid"] for key, found in cluster.objects.items() if key[0] != "stormservice"}


def test_an_object_of_the_same_name_takes_everything_back_and_changes_nothing():
    cluster = orphaned()
    before = identities(cluster)
    again(cluster)
    cluster.settle()
    assert identities(cluster) == before
    assert condition(cluster.storm, "Ready")["status"] == "True"
    assert [result.result for result in cluster.rollouts] == ["completed"]
    taken = [step for _, decision in cluster.decisions for step in decision.steps if step.type == "adopt"]
    assert [(step.kind, len(step.targets)) for step in taken] == [
        ("controllerrevision", 1), ("roleset", 2), ("service", 1), ("poddisruptionbudget", 1),
    ]  # fmt: skip


def test_another_template_rolls_what_was_taken_back_out_within_its_budget():
    cluster = orphaned()
    again(cluster, updateStrategy={"maxSurge": 1, "maxUnavailable": 0})
    cluster.storm["spec"]["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    cluster.run()
    assert len(cluster.all("roleset")) == 3
    ready = [pod for pod in cluster.all("pod") if condition(pod, "Ready").get("status") == "True"]
    assert len(ready) == 4
    cluster.settle()
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.all("pod")} == {"engine:v2"}


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("another selector", {"labels": {"app": "other"}}),
        ("a revision that nobody has", {"labels": {labels.STORM_SERVICE_REVISION: "storm-lost"}}),
        ("another service's", {"labels": {labels.STORM_SERVICE_NAME: "other"}}),
        ("leaving", {"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ],
)
def test_a_roleset_that_does_not_match_is_left_alone(what, changed):
    cluster = orphaned()
    again(cluster)
    left = cluster.all("roleset")[0]
    left["metadata"] = left["metadata"] | changed
    if "labels" in changed:
        left["metadata"]["labels"] = {**labels_of(cluster.all("roleset")[1]), **changed["labels"]}
    ownerless = {key: cluster.all(key) for key in ("roleset", "controllerrevision", "service")}
    found = adoptions(cluster.storm, ownerless, [])
    (taken,) = [step for step in found if step.kind == "roleset"]
    assert name_of(left) not in [target.name for target in taken.targets], what


def test_a_service_that_serves_something_else_is_no_orphan():
    cluster = orphaned()
    again(cluster)
    cluster.get("service", "storm")["spec"]["selector"] = {"app": "mine"}
    kinds = [step.kind for step in adoptions(cluster.storm, {"service": cluster.all("service")}, [])]
    assert kinds == []


def test_an_orphaning_deletion_releases_the_finalizer_and_deletes_nothing():
    cluster = Cluster(storm(role(), replicas=2))
    cluster.settle()
    cluster.storm["metadata"]["finalizers"].append("orphan")
    cluster.delete("stormservice", "storm")
    decision = cluster.step("stormservice", "storm")
    assert [step.type for step in decision.steps] == ["release-finalizer"]
    assert len(cluster.all("roleset")) == 2
    assert cluster.step("stormservice", "storm") is None


def test_an_ordinary_deletion_names_the_version_of_each_roleset_that_it_takes():
    cluster = Cluster(storm(role(), replicas=2))
    cluster.settle()
    cluster.delete("stormservice", "storm")
    (step,) = cluster.plan("stormservice", "storm").decision.steps
    assert {target.resource_version for target in step.targets} == {
        found["metadata"]["resourceVersion"] for found in cluster.all("roleset")
    }
    assert "" not in {target.resource_version for target in step.targets}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, False),
        ({"matchLabels": {"app": "test"}}, True),
        ({"matchLabels": {"app": "x"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["test"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["test"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"app": "test"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
    ],
)
def test_a_selector_chooses_by_labels_and_expressions(selector, expected):
    assert selects(storm(selector=selector), {"app": "test"}) == expected
