"""Disruption budgets: what a drain may take follows `disruptionTolerance` and the number of pods."""

from __future__ import annotations

import pytest

from planning.budgets import budget_steps, min_available
from planning.objects import condition
from planning.wire import ApplyBudget, DeleteBudgets
from tests.planning.world import Cluster, role, storm


@pytest.mark.parametrize(
    ("tolerance", "pods", "kept"),
    [(None, 4, None), ({}, 4, None), ({"maxUnavailable": 1}, 4, 3), ({"maxUnavailable": 9}, 4, 0),
     ({"maxUnavailable": "25%"}, 10, 7), ({"maxUnavailable": "1%"}, 3, 2), ({"maxUnavailable": 0}, 3, 3)],
)  # fmt: skip
def test_what_has_to_stay_is_a_number_of_pods(tolerance, pods, kept):
    assert min_available(tolerance, pods) == (kept, "")


def test_an_unreadable_tolerance_is_said():
    kept, fault = min_available({"maxUnavailable": "many"}, 3)
    assert kept is None
    assert fault.startswith("disruptionTolerance: ")


def budget(cluster: Cluster) -> int:
    spec = cluster.get("poddisruptionbudget", "storm")["spec"]
    assert spec["selector"] == {"matchLabels": {"storm-service-name": "storm"}}
    return spec["minAvailable"]


def test_a_service_has_a_budget_that_follows_its_size_and_goes_with_its_tolerance():
    roles = (role("prefill", 2), role("decode", 1, podGroupSize=4))
    cluster = Cluster(storm(*roles, replicas=2, paused=True, disruptionTolerance={"maxUnavailable": 2}))
    cluster.run()
    assert budget(cluster) == 10
    cluster.edit()["replicas"] = 1
    cluster.run()
    assert budget(cluster) == 4
    cluster.edit()["disruptionTolerance"] = {"maxUnavailable": "50%"}
    cluster.run()
    assert budget(cluster) == 3
    del cluster.edit()["disruptionTolerance"]
    cluster.run()
    assert ("poddisruptionbudget", "storm") not in cluster.objects


def test_a_service_without_tolerance_asks_for_no_budget():
    cluster = Cluster(storm(role()))
    cluster.settle()
    assert not cluster.all("poddisruptionbudget")
    assert "apply-budget" not in [step.type for _, decision in cluster.decisions for step in decision.steps]


def test_a_tolerance_nobody_can_read_is_a_failure_and_the_rest_goes_on():
    cluster = Cluster(storm(role(), disruptionTolerance={"maxUnavailable": "many"}))
    cluster.settle()
    assert "disruptionTolerance" in condition(cluster.storm, "ReplicaFailure")["message"]
    assert condition(cluster.storm, "Ready")["status"] == "True"


def test_budgets_of_others_names_are_forgotten_and_right_ones_left():
    cluster = Cluster(storm(role(), disruptionTolerance={"maxUnavailable": 0}))
    cluster.settle()
    right = ApplyBudget(name="storm", min_available=1, selector={"storm-service-name": "storm"})
    assert budget_steps([right], cluster.all("poddisruptionbudget")) == []
    (gone,) = budget_steps([], cluster.all("poddisruptionbudget"))
    assert isinstance(gone, DeleteBudgets)
