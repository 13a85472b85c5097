"""What a StormService shows (orchestration cases 5, 15, 16, 18, 39 to 43)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from planning.conditions import Condition, merged
from planning.fleet import replica_of, roles_are
from planning.revisions import Revisions
from planning.storm_status import count, role_statuses
from tests.planning.world import START, role, roleset, storm


def reporting(revision: str, *roles: dict[str, Any], ready: bool | None = True, wanted: int | None = None):
    found = roleset(
        *(role(made["name"], made.get("replicas", 0) if wanted is None else wanted) for made in roles),
        labels={"storm-service-revision": revision},
    )
    conditions = [] if ready is None else [{"type": "Ready", "status": str(ready)}]
    found["status"] = {"roles": list(roles), "conditions": conditions}
    return found


def shown(name: str, replicas: int, ready: int, updated: int | None = None, updated_ready: int | None = None):
    found = {"name": name, "replicas": replicas, "readyReplicas": ready, "notReadyReplicas": replicas - ready}
    found |= {} if updated is None else {"updatedReplicas": updated}
    return found | ({} if updated_ready is None else {"updatedReadyReplicas": updated_ready})


@pytest.mark.parametrize(
    ("replicas", "status", "expected"),
    [
        ({"a": 2}, [{"name": "a", "replicas": 2, "updatedReplicas": 2}], True),
        ({"a": 2}, [{"name": "a", "replicas": 2, "updatedReplicas": 1}], False),
        ({"a": 2}, [], True),
        ({"a": 2}, [{"name": "b", "replicas": 1, "updatedReplicas": 0}], True),
        ({"a": None}, [{"name": "a", "replicas": 0, "updatedReplicas": 0}], True),
    ],
)
def test_39_roles_are_updated_when_all_that_are_known_are(replicas, status, expected):
    found = roleset(*(role(name, count) for name, count in replicas.items()))
    assert roles_are(found | {"status": {"roles": status}}, "updatedReplicas") == expected


def test_a_status_of_an_older_generation_proves_nothing():
    found = reporting("new", shown("a", 2, 2, 2, 2))
    found["status"]["observedGeneration"] = 1
    assert replica_of(found).settled
    found["metadata"]["generation"] = 2
    assert replica_of(found).ready
    assert not replica_of(found).settled


def test_40_role_counts_are_summed_and_updated_ones_come_from_the_new_revision():
    old = [reporting("rev1", shown("prefill", 1, 1), shown("decode", 1, 1)) for _ in range(3)]
    new = [reporting("rev2", shown("prefill", 1, 0), shown("decode", 1, 0)) for _ in range(3)]
    sums = {
        "replicas": 6, "readyReplicas": 3, "notReadyReplicas": 3, "updatedReplicas": 3, "updatedReadyReplicas": 0,
    }  # fmt: skip
    assert role_statuses(old + new, "rev2") == [{"name": "decode", **sums}, {"name": "prefill", **sums}]


def test_41_several_pods_a_role():
    (found,) = role_statuses(
        [reporting("rev1", shown("worker", 10, 10)), reporting("rev2", shown("worker", 10, 7))], "rev2"
    )
    assert found == {
        "name": "worker", "replicas": 20, "readyReplicas": 17, "notReadyReplicas": 3, "updatedReplicas": 10,
        "updatedReadyReplicas": 7,
    }  # fmt: skip


def test_42_updated_pods_are_counted_as_the_roleset_reports_them():
    (found,) = role_statuses([reporting("rev", shown("worker", 5, 3, updated=4))], "rev")
    assert (found["updatedReplicas"], found["updatedReadyReplicas"]) == (4, 3)


def test_43_nothing_reported_is_nothing_shown():
    assert role_statuses([], "rev") == []
    assert role_statuses([reporting("rev")], "rev") == []


@pytest.mark.parametrize(
    ("labels", "revision", "expected"),
    [({}, "", True), ({"storm-service-revision": ""}, "", True),
     ({"storm-service-revision": "Test-Revision"}, "test-revision", False)],
)  # fmt: skip
def test_15_16_revisions_match_by_label_and_case(labels, revision, expected):
    assert (replica_of(roleset(labels=labels)).revision == revision) == expected


def test_18_a_failed_roleset_is_not_ready():
    found = roleset() | {"status": {"conditions": [{"type": "ReplicaFailure", "status": "True"}]}}
    assert not replica_of(found).ready


def test_5_counts_of_a_fleet_of_which_one_is_ready():
    sets = [reporting("rev", shown("w", 1, 1, 1, 1)), reporting("rev", shown("w", 1, 0, 1, 0), ready=False)]
    found = count(storm(role("w"), replicas=2), sets, Revisions("rev", "rev", 1, 0))
    assert (found.replicas, found.ready, found.current, found.updated, found.updated_ready) == (2, 1, 2, 2, 1)
    assert not found.is_ready("rev")


def test_a_revision_is_promoted_when_no_roleset_is_at_the_old_one():
    sets = [reporting("new", shown("w", 1, 1, 1, 1))]
    found = count(storm(role("w")), sets, Revisions("old", "new", 2, 0))
    assert (found.current_revision, found.current) == ("new", 1)
    assert found.is_ready("new")


def test_times_of_conditions_move_only_with_what_they_say():
    later, latest = START + timedelta(seconds=5), START + timedelta(seconds=9)
    first = merged([], [Condition("Ready", "False", "NotReady", "0 of 1")], ["Ready"], START)
    assert first[0]["lastTransitionTime"] == first[0]["lastUpdateTime"] == "2026-01-01T00:00:00Z"
    assert merged(first, [Condition("Ready", "False", "NotReady", "0 of 1")], ["Ready"], later) == first
    second = merged(first, [Condition("Ready", "False", "NotReady", "1 of 2")], ["Ready"], later)
    assert second[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert second[0]["lastUpdateTime"] == "2026-01-01T00:00:05Z"
    third = merged(second, [Condition("Ready", "True", "Ready")], ["Ready"], latest)
    assert third[0]["lastTransitionTime"] == "2026-01-01T00:00:09Z"
    assert "message" not in third[0]


def test_conditions_of_others_stay_and_ours_go_when_they_are_over():
    before = [{"type": "Theirs", "status": "True"}, {"type": "ReplicaFailure", "status": "True"}]
    found = merged(before, [Condition("Ready", "True", "Ready")], ["Ready", "ReplicaFailure"], START)
    assert [entry["type"] for entry in found] == ["Ready", "Theirs"]
