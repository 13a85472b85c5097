"""Acceptance cases of a StormService that need no story (orchestration cases 10, 13, 24, 25, 28, 36)."""

from __future__ import annotations

from copy import deepcopy

import pytest

from planning.fleet import fleet_budget, is_in_place
from planning.names import short_hash, template_digest
from planning.objects import is_condition_true, spec_of
from planning.render import render_revision, render_roleset
from planning.revisions import sync
from planning.wire import CreateRevision, Failure, Memory
from tests.planning.world import START, Cluster, role, storm


def test_10_surge_is_rounded_up_and_unavailable_down():
    budget, fault = fleet_budget(storm(replicas=10, updateStrategy={"maxSurge": "25%", "maxUnavailable": "20%"}))
    assert (budget.surge, budget.unavailable, budget.min_available, fault) == (3, 2, 8, "")


@pytest.mark.parametrize(
    ("strategy", "mode", "in_place"),
    [
        ({}, None, False),
        ({"type": "RollingUpdate"}, None, False),
        ({"type": "InPlaceUpdate"}, None, True),
        ({"type": "InPlaceUpdate"}, "Replica", False),
        ({"type": "RollingUpdate"}, "Pooled", True),
    ],
)
def test_13_an_empty_strategy_is_rolling_and_a_declared_mode_wins(strategy, mode, in_place):
    assert is_in_place(storm(updateStrategy=strategy, **({"mode": mode} if mode else {}))) == in_place


@pytest.mark.parametrize("cause", ["quota", "forbidden", "invalid", "unavailable"])
def test_24_an_error_that_is_no_clash_leaves_the_collision_count(cause):
    of = storm(role())
    name = sync(of, [], Memory()).update
    failure = Failure(
        step=f"create-revision/{name}", cause=cause, message="", count=1, generation=1, retry_at=START
    )  # fmt: skip
    found = sync(of, [], Memory(failures=[failure]))
    assert (found.update, found.collision_count) == (name, 0)


def test_24_the_error_is_shown_and_the_revision_tried_again():
    cluster = Cluster(storm(role()))
    name = f"storm-{short_hash(template_digest(cluster.storm['spec']['template']))}"
    cluster.fail[f"create-revision/{name}"] = "etcd is full"
    cluster.run()
    assert not cluster.all("roleset")
    view = cluster.plan("stormservice", "storm").view
    assert "etcd is full" in view.blocked
    cluster.fail.clear()
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    cluster.settle()
    assert [name] == [found["metadata"]["name"] for found in cluster.all("controllerrevision")]


def test_25_revisions_of_others_are_never_ours():
    cluster = Cluster(storm(role()))
    cluster.settle()
    strangers = deepcopy(cluster.all("controllerrevision")[0])
    strangers["metadata"] |= {"name": "storm-strange", "uid": "strange", "ownerReferences": [{"uid": "somebody"}]}
    strangers["revision"] = 41
    cluster.objects["controllerrevision", "storm-strange"] = strangers
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    cluster.settle()
    numbers = {key[1]: found["revision"] for key, found in cluster.objects.items() if key[0] == "controllerrevision"}
    assert sorted(numbers.values()) == [1, 2, 41]


def test_28_a_revision_replaces_the_whole_template():
    before, after = storm(role("prefill")), storm(role("decode"))
    step = CreateRevision(name="storm-2", revision=2, hash="h", digest="d")
    rendered = render_roleset(before, render_revision(after, step), 0, "storm-roleset-x")
    assert [each["name"] for each in spec_of(rendered)["roles"]] == ["decode"]


def test_a_percentage_that_is_none_moves_nothing_and_is_said():
    budget, fault = fleet_budget(storm(replicas=10, updateStrategy={"maxSurge": "50", "maxUnavailable": 1}))
    assert (budget.surge, budget.unavailable) == (0, 0)
    assert '"50"' in fault


def test_an_event_tells_of_each_promotion_once():
    cluster = Cluster(storm(role()))
    cluster.settle()
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    cluster.settle()
    assert [event[:2] for event in cluster.events if event[1] == "RevisionPromoted"] == [("Normal", "RevisionPromoted")]
    assert is_condition_true(cluster.storm, "Ready")
