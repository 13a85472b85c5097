"""Changes that touch no pod template reach the RoleSets where they are, whatever the update strategy."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from crds import labels
from crds.intorstr import Budget
from planning.fleet import Fleet, Replica
from planning.forecast import forecast
from planning.objects import labels_of, name_of
from planning.rolling import roll
from tests.planning.world import Cluster, Json, role, role_of, storm

Edit = Callable[[Json], object]


def running(**fields: Any) -> Cluster:
    fields = {"replicas": 3, "updateStrategy": {"maxSurge": 1, "maxUnavailable": 0}} | fields
    cluster = Cluster(storm(role("prefill", 2), role("decode", 1), **fields))
    cluster.settle()
    cluster.decisions.clear()
    cluster.rollouts.clear()
    return cluster


def template(cluster: Cluster) -> Json:
    return cluster.edit()["template"]


def first_role(found: Json) -> Json:
    return found["spec"]["roles"][0]


HARMLESS: dict[str, Edit] = {
    "upgrade order": lambda t: first_role(t).update(upgradeOrder=2),
    "a role's strategy": lambda t: first_role(t).update(updateStrategy={"type": "Recreate", "maxSurge": 1}),
    "the RoleSet's strategy": lambda t: t["spec"].update(updateStrategy="Parallel"),
    "an annotation of RoleSets": lambda t: t["metadata"].update(annotations={"team": "blue"}),
    "a label of RoleSets": lambda t: t["metadata"]["labels"].update(team="blue"),
    "a role's tolerance": lambda t: first_role(t).update(disruptionTolerance={"maxUnavailable": 1}),
    "minimum ready time": lambda t: first_role(t).update(minReadySeconds=0),
    "a policy that rolls nothing": lambda t: t["spec"].update(topologyPolicy={"scope": "RoleSet", "key": "zone"}),
}


@pytest.mark.parametrize("strategy", ["RollingUpdate", "InPlaceUpdate"])
@pytest.mark.parametrize("edit", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_change_that_makes_no_other_pods_loses_none(edit, strategy):
    cluster = running(updateStrategy={"type": strategy, "maxSurge": 1, "maxUnavailable": 0})
    pods = {found["metadata"]["uid"] for found in cluster.all("pod")}
    rolesets = {found["metadata"]["uid"] for found in cluster.all("roleset")}
    edit(template(cluster))
    cluster.settle()
    assert {found["metadata"]["uid"] for found in cluster.all("pod")} == pods
    assert {found["metadata"]["uid"] for found in cluster.all("roleset")} == rolesets
    revision = cluster.storm["status"]["updateRevision"]
    assert {labels_of(found)[labels.STORM_SERVICE_REVISION] for found in cluster.all("roleset")} == {revision}
    assert [(result.result, result.revision) for result in cluster.rollouts] == [("completed", revision)]
    rewritten = [step for _, d in cluster.decisions for step in d.steps if step.type == "update-rolesets"]
    assert [len(step.targets) for step in rewritten] == [3]


HARMFUL: dict[str, Edit] = {
    "an image": lambda t: first_role(t)["template"]["spec"]["containers"][0].update(image="engine:v2"),
    "a label of pods": lambda t: first_role(t)["template"]["metadata"]["labels"].update(team="blue"),
    "slots": lambda t: first_role(t).update(stateful=True),
    "a new role": lambda t: t["spec"]["roles"].append(role("router")),
    "a policy that rolls": lambda t: t["spec"].update(
        topologyPolicy={"scope": "RoleSet", "key": "zone", "rollOnChange": True}
    ),
    "a role less": lambda t: t["spec"]["roles"].pop(),
}


@pytest.mark.parametrize("edit", HARMFUL.values(), ids=HARMFUL.keys())
def test_other_pods_come_in_new_rolesets_within_the_budget(edit):
    cluster = running()
    before = {name_of(found) for found in cluster.all("roleset")}
    edit(template(cluster))
    cluster.run()
    assert len(cluster.all("roleset")) == 4
    cluster.settle()
    assert not before & {name_of(found) for found in cluster.all("roleset")}


def test_in_place_a_role_whose_template_did_not_change_loses_no_pod():
    cluster = running(updateStrategy={"type": "InPlaceUpdate"})
    kept = {name_of(pod) for pod in cluster.all("pod") if role_of(pod) == "decode"}
    HARMFUL["an image"](template(cluster))
    cluster.settle()
    assert {name_of(pod) for pod in cluster.all("pod") if role_of(pod) == "decode"} == kept


def test_a_paused_service_rewrites_nothing():
    cluster = running(paused=True)
    HARMLESS["upgrade order"](template(cluster))
    cluster.settle()
    assert len({labels_of(found)[labels.STORM_SERVICE_REVISION] for found in cluster.all("roleset")}) == 1
    assert cluster.storm["status"]["updateRevision"] != cluster.storm["status"]["currentRevision"]


def test_of_a_mixed_fleet_those_with_the_right_pods_are_rewritten_first_and_none_of_them_replaced():
    members = [
        Replica("same", revision="second", ready=True, settled=True, alike=True),
        Replica("other", revision="first", ready=True, settled=True),
    ]
    moves = roll(Fleet(members, "first", "third", Budget(2, 1, 0)))
    assert [member.name for member in moves.rewrites] == ["same"]
    assert not moves.deletes
    assert not moves.creates


@pytest.mark.parametrize("edit", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_restarts_no_pod_is_foretold_as_such(edit):
    cluster = running()
    wanted = deepcopy(cluster.storm)
    edit(wanted["spec"]["template"])
    found = forecast(cluster.storm, cluster.all("roleset"), cluster.all("controllerrevision"), wanted)
    assert [row.replaced + row.in_place + row.created + row.deleted for row in found.rows] == [0, 0]
    assert "3 RoleSets rewritten where they are: their pods stay" in found.notes
