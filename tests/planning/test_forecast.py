"""What a plan tells before anybody acts, and the edits that commands are."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from planning.differences import differences
from planning.edits import Order, Patch, Refused, Unchanged, applied, change_for, previous_revision
from planning.forecast import Forecast, forecast, forecast_podset, forecast_roleset
from planning.role_changes import in_place_obstacle
from tests.planning.world import Cluster, pod_template, role, roleset, storm

Json = dict[str, Any]


def settled(*roles: Json, **fields: Any) -> Cluster:
    """A cluster whose StormService is wholly rolled out."""
    cluster = Cluster(storm(*roles, **fields))
    cluster.settle()
    return cluster


def plan_of(cluster: Cluster, wanted: Json | None = None) -> Forecast:
    return forecast(cluster.storm, cluster.all("roleset"), cluster.all("controllerrevision"), wanted)


def with_image(found: Json, image: str, place: int = 0) -> Json:
    wanted = deepcopy(found)
    wanted["spec"]["template"]["spec"]["roles"][place]["template"]["spec"]["containers"][0]["image"] = image
    return wanted


def counts(found: Forecast) -> dict[str, tuple[int, int, int, int, int]]:
    return {row.role: (row.pods, row.replaced, row.in_place, row.created, row.deleted) for row in found.rows}


def test_nothing_is_left_to_do_for_an_object_at_rest() -> None:
    found = plan_of(settled(role("prefill", 2), role("decode", 3), replicas=2))
    assert counts(found) == {"prefill": (4, 0, 0, 0, 0), "decode": (6, 0, 0, 0, 0)}
    assert found.sentence == "no pod is touched"
    assert found.stored


def test_a_rolling_update_replaces_whole_rolesets_and_says_so_of_the_unchanged_role() -> None:
    cluster = settled(role("prefill", 1), role("decode", 2), replicas=2)
    found = plan_of(cluster, with_image(cluster.storm, "engine:v2"))
    assert counts(found) == {"prefill": (2, 2, 0, 0, 0), "decode": (4, 4, 0, 0, 0)}
    prefill, decode = found.rows
    assert prefill.why == ["spec.containers[engine].image: engine:v1 → engine:v2"]
    assert decode.why == ["unchanged, but updateStrategy RollingUpdate replaces whole RoleSets"]
    assert (found.number, found.stored) == (2, False)
    assert found.notes[0] == "RollingUpdate replaces 2 RoleSets (surge 0, unavailable 1)"


def test_an_update_in_place_of_rolesets_touches_only_the_changed_role() -> None:
    cluster = settled(role("prefill", 1), role("decode", 2), replicas=2, updateStrategy={"type": "InPlaceUpdate"})
    found = plan_of(cluster, with_image(cluster.storm, "engine:v2"))
    assert counts(found) == {"prefill": (2, 2, 0, 0, 0), "decode": (4, 0, 0, 0, 0)}
    assert found.sentence == "replaces 2 pods of prefill"


def test_pods_that_can_be_patched_are_patched() -> None:
    patched = role("engine", 2) | {"updateStrategy": {"type": "InPlaceIfPossible"}}
    cluster = settled(patched, replicas=1, updateStrategy={"type": "InPlaceUpdate"})
    found = plan_of(cluster, with_image(cluster.storm, "engine:v2"))
    assert counts(found) == {"engine": (2, 0, 2, 0, 0)}
    wanted = with_image(cluster.storm, "engine:v2")
    wanted["spec"]["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["command"] = ["serve"]
    found = plan_of(cluster, wanted)
    assert counts(found) == {"engine": (2, 2, 0, 0, 0)}
    assert "not in place: non-image pod fields changed" in found.rows[0].why


def test_scaling_creates_and_deletes_and_replaces_nothing() -> None:
    cluster = settled(role("engine", 2), replicas=2)
    more = deepcopy(cluster.storm)
    more["spec"]["replicas"] = 3
    assert counts(plan_of(cluster, more)) == {"engine": (4, 0, 0, 2, 0)}
    fewer = deepcopy(cluster.storm)
    fewer["spec"]["replicas"] = 1
    assert counts(plan_of(cluster, fewer)) == {"engine": (4, 0, 0, 0, 2)}
    wider = deepcopy(cluster.storm)
    wider["spec"]["template"]["spec"]["roles"][0]["replicas"] = 5
    found = plan_of(cluster, wider)
    assert counts(found) == {"engine": (4, 0, 0, 6, 0)}
    assert found.stored  # a role's replicas make no revision


def test_roles_come_and_go() -> None:
    cluster = settled(role("old", 2), replicas=1, updateStrategy={"type": "InPlaceUpdate"})
    wanted = deepcopy(cluster.storm)
    wanted["spec"]["template"]["spec"]["roles"] = [role("new", 3)]
    found = plan_of(cluster, wanted)
    assert counts(found) == {"new": (0, 0, 0, 3, 0), "old": (2, 0, 0, 0, 2)}
    assert [row.change for row in found.rows] == ["added", "removed"]


def test_a_rollout_under_way_tells_what_is_left() -> None:
    cluster = settled(role("engine", 1), replicas=3, updateStrategy={"type": "RollingUpdate", "maxSurge": 1})
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    before = plan_of(cluster)
    assert counts(before) == {"engine": (3, 3, 0, 0, 0)}
    cluster.settle()
    assert plan_of(cluster).sentence == "no pod is touched"


def test_a_change_outside_pod_templates_is_a_note() -> None:
    cluster = settled(role("engine", 1), updateStrategy={"type": "InPlaceUpdate"})
    wanted = deepcopy(cluster.storm)
    wanted["spec"]["template"]["spec"]["roles"][0]["updateStrategy"] = {"type": "Recreate", "maxSurge": 2}
    found = plan_of(cluster, wanted)
    assert found.sentence == "no pod is touched"
    assert "template.spec.roles[engine].updateStrategy.maxSurge: none → 2" in found.notes


def test_a_template_that_cannot_be_carried_out_is_a_fault() -> None:
    cluster = settled(role("engine", 1))
    wanted = deepcopy(cluster.storm)
    wanted["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    assert "does not match" in plan_of(cluster, wanted).fault


def test_a_stand_alone_roleset_is_foretold_too() -> None:
    cluster = Cluster(roleset(role("engine", 3)))
    cluster.settle()
    live = cluster.get("roleset", "set")
    wanted = deepcopy(live)
    wanted["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    assert counts(forecast_roleset(live, wanted)) == {"engine": (3, 3, 0, 0, 0)}
    assert forecast_roleset(live).sentence == "no pod is touched"


def test_secrets_stay_out_of_a_plan_unless_values_are_asked_for() -> None:
    before, after = pod_template(TOKEN="a"), pod_template(TOKEN="hunter2")
    assert differences(before, after) == ["spec.containers[engine].env[TOKEN].value: changed"]
    assert differences(before, after, values=True) == ["spec.containers[engine].env[TOKEN].value: a → hunter2"]
    args = ({"args": ["--a", "--b"]}, {"args": ["--a", "--c"]})
    assert differences(*args) == ["args: changed"]
    assert differences(*args, values=True) == ['args: -"--b" +--c'.replace('"', "")]


def test_many_differences_are_cut() -> None:
    lines = differences({}, {f"f{number:02}": number for number in range(20)})
    assert len(lines) == 12
    assert lines[-1] == "and 9 more fields"


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [({}, ""), ({"podGroupSize": 2}, "a PodSet is never updated in place"),
     ({"updateStrategy": {"type": "Recreate"}}, "updateStrategy.type is Recreate"),
     ({"updateStrategy": {"type": "InPlaceIfPossible", "maxSurge": 1, "maxUnavailable": 0}},
      "maxUnavailable 0 lets no ready pod go, not even for an update in place")],
)  # fmt: skip
def test_what_keeps_pods_from_being_patched(change: Json, obstacle: str) -> None:
    live = role("engine") | {"updateStrategy": {"type": "InPlaceIfPossible"}}
    wanted = deepcopy(live) | change
    wanted["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    assert in_place_obstacle((roleset(live), live), (roleset(wanted), wanted)) == obstacle


def test_a_podset_replaces_its_pods_for_a_restart_only() -> None:
    live = {"kind": "PodSet", "metadata": {"name": "p"}, "spec": {"podGroupSize": 3, "template": pod_template()}}
    live["status"] = {"totalPods": 3}
    wanted = deepcopy(live)
    wanted["spec"]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    found = forecast_podset(live, wanted)
    assert counts(found) == {"group": (3, 0, 0, 0, 0)}
    assert found.notes == ["pods that exist keep their template until a restart"]
    change = change_for(Order("restart", at="now"), live)
    assert isinstance(change, Patch)
    assert counts(forecast_podset(live, applied(live, change.body))) == {"group": (3, 3, 0, 0, 0)}


def test_a_changed_group_size_and_a_policy_that_rolls_are_told() -> None:
    live = roleset(role("engine", 2, podGroupSize=2))
    wanted = deepcopy(live)
    wanted["spec"]["roles"][0]["podGroupSize"] = 3
    (row,) = forecast_roleset(live, wanted).rows
    assert row.why == ["podGroupSize: 2 → 3"]
    assert row.replaced > 0
    live = roleset(role("engine", 2), labels={"storm-service-name": "s"})
    live["spec"]["topologyPolicy"] = {"scope": "RoleSet", "key": "zone", "rollOnChange": True}
    wanted = deepcopy(live)
    wanted["spec"]["topologyPolicy"]["key"] = "rack"
    (row,) = forecast_roleset(live, wanted).rows
    assert (row.replaced, row.why) == (2, ["topologyPolicy"])


# Commands as edits.


def rolled_out_twice() -> Cluster:
    cluster = settled(role("prefill", 1), role("decode", 2), replicas=2)
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
    cluster.settle()
    return cluster


def done(order: Order, cluster: Cluster) -> tuple[Json, str]:
    change = change_for(order, cluster.storm, cluster.all("controllerrevision"))
    assert isinstance(change, Patch), change
    return applied(cluster.storm, change.body), change.said


def image(found: Json, place: int = 0) -> str:
    containers = found["spec"]["template"]["spec"]["roles"][place]["template"]["spec"]["containers"]
    return str(containers[0]["image"])


def test_an_undo_writes_the_previous_template_and_keeps_live_replicas() -> None:
    cluster = rolled_out_twice()
    cluster.storm["spec"]["replicas"] = 5
    cluster.storm["spec"]["template"]["spec"]["roles"][1]["replicas"] = 7
    wanted, said = done(Order("undo"), cluster)
    assert image(wanted) == "engine:v1"
    assert [each["replicas"] for each in wanted["spec"]["template"]["spec"]["roles"]] == [1, 7]
    assert wanted["spec"]["replicas"] == 5
    assert said.startswith("undone: template of revision 1 (storm-")
    assert plan_of(cluster, wanted).stored


def test_an_undo_to_the_live_template_changes_nothing() -> None:
    cluster = rolled_out_twice()
    change = change_for(Order("undo", to_revision=2), cluster.storm, cluster.all("controllerrevision"))
    assert isinstance(change, Unchanged)


def test_an_undo_of_a_revision_that_never_completed_goes_back_to_the_one_that_did() -> None:
    cluster = rolled_out_twice()
    completed = cluster.storm["status"]["completedRevision"]
    for version in ("v3", "v4"):
        cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = (
            f"engine:{version}"
        )
        cluster.step("stormservice", "storm")
        cluster.step("stormservice", "storm")
    found = previous_revision(cluster.storm, cluster.all("controllerrevision"))
    assert found is not None
    assert found["metadata"]["name"] == completed


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order("undo", to_revision=9), "stormservice/storm has no revision 9; there are 1, 2 (see rollout history)"),
        (Order("undo", to_revision=-1), "toRevision -1 is below zero; 0 is the previous revision"),
        (Order("undo", revision="x"), "stormservice/storm has no revision x; there are 1, 2 (see rollout history)"),
        (
            Order("restart", at="t", roles=("router",)),
            "stormservice/storm has no role router; there are prefill, decode",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_remedy(order: Order, said: str) -> None:
    cluster = rolled_out_twice()
    assert change_for(order, cluster.storm, cluster.all("controllerrevision")) == Refused(said)


def test_a_restart_stamps_every_role_and_is_done_once() -> None:
    cluster = rolled_out_twice()
    order = Order("restart", at="2026-01-01T00:00:00Z")
    wanted, said = done(order, cluster)
    assert said == "restarted"
    for each in wanted["spec"]["template"]["spec"]["roles"]:
        assert each["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] == order.at
    assert isinstance(change_for(order, wanted, ()), Unchanged)
    found = plan_of(cluster, wanted)
    assert [row.replaced for row in found.rows] == [2, 4]
    assert found.rows[0].why == [f"metadata.annotations[kubectl.kubernetes.io/restartedAt]: none → {order.at}"]


def test_a_restart_of_one_role_leaves_the_others_alone() -> None:
    cluster = settled(role("prefill"), role("decode", 2), updateStrategy={"type": "InPlaceUpdate"})
    wanted, _ = done(Order("restart", at="now", roles=("decode",)), cluster)
    assert plan_of(cluster, wanted).sentence == "replaces 2 pods of decode"


def test_pause_and_resume_are_flags() -> None:
    cluster = settled(role("engine"))
    paused, _ = done(Order("pause"), cluster)
    assert paused["spec"]["paused"] is True
    assert isinstance(change_for(Order("pause"), paused), Unchanged)
    assert isinstance(change_for(Order("resume"), cluster.storm), Unchanged)
    change = change_for(Order("resume"), paused)
    assert isinstance(change, Patch)
    assert applied(paused, change.body)["spec"]["paused"] is False


def test_resume_gives_a_failed_revision_a_new_clock() -> None:
    cluster = settled(role("engine"))
    cluster.storm["status"]["failedRevision"] = "storm-x"
    change = change_for(Order("resume", at="2026-01-01T00:00:00Z"), cluster.storm)
    assert isinstance(change, Patch)
    annotations = change.body["metadata"]["annotations"]
    assert annotations == {"orchestration.aibrix.ai/retry-at": "2026-01-01T00:00:00Z"}
    assert "spec" not in change.body


@pytest.mark.parametrize("verb", ["pause", "resume", "undo"])
def test_a_roleset_has_neither_a_pause_nor_revisions(verb: Any) -> None:
    refused = change_for(Order(verb), roleset(role("engine")))
    assert isinstance(refused, Refused)
    assert "only a StormService can" in refused.why


def test_a_part_of_a_storm_service_points_to_its_owner() -> None:
    cluster = settled(role("engine"))
    refused = change_for(Order("restart", at="t"), cluster.all("roleset")[0])
    assert isinstance(refused, Refused)
    assert refused.why.endswith("restart stormservice/storm instead")


def test_an_object_on_its_way_out_takes_no_command() -> None:
    cluster = settled(role("engine"))
    cluster.storm["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert change_for(Order("pause"), cluster.storm) == Refused("stormservice/storm is being deleted")


# What is foretold is what happens.


def change_image(spec: Json) -> None:
    spec["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"


def change_command(spec: Json) -> None:
    spec["template"]["spec"]["roles"][1]["template"]["spec"]["containers"][0]["command"] = ["serve"]


def more_rolesets(spec: Json) -> None:
    spec["replicas"] = 3


def fewer_rolesets(spec: Json) -> None:
    spec["replicas"] = 1


def wider_role(spec: Json) -> None:
    spec["template"]["spec"]["roles"][1]["replicas"] = 3


def narrower_role(spec: Json) -> None:
    spec["template"]["spec"]["roles"][1]["replicas"] = 1


def other_role(spec: Json) -> None:
    spec["template"]["spec"]["roles"][0] = role("router", 1)


def other_budget(spec: Json) -> None:
    spec["template"]["spec"]["roles"][0]["updateStrategy"] = {"type": "Recreate", "maxSurge": 1}


CHANGES = (
    change_image, change_command, more_rolesets, fewer_rolesets, wider_role, narrower_role, other_role, other_budget,
)  # fmt: skip


@pytest.mark.parametrize("strategy", ["RollingUpdate", "InPlaceUpdate"])
@pytest.mark.parametrize("first", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("second", [None, change_image, wider_role], ids=lambda change: getattr(change, "__name__", ""))
def test_a_plan_that_is_carried_out_replaces_exactly_the_pods_it_told(strategy: str, first: Any, second: Any) -> None:
    cluster = settled(role("prefill", 1), role("decode", 2), replicas=2, updateStrategy={"type": strategy})
    wanted = deepcopy(cluster.storm)
    for change in (first, *([second] if second and second is not first else [])):
        change(wanted["spec"])
    foretold = counts(plan_of(cluster, wanted))
    before = pods_by_role(cluster)
    cluster.edit().clear()
    cluster.storm["spec"] |= wanted["spec"]
    cluster.settle()
    after = pods_by_role(cluster)
    for name, (pods, replaced, patched, created, deleted) in foretold.items():
        had, have = before.get(name, set()), after.get(name, set())
        assert len(had) == pods
        assert len(had & have) == pods - replaced - deleted, name
        assert len(have) == pods + created - deleted, name
        assert patched == 0
    assert foretold.keys() >= after.keys() | before.keys()


def pods_by_role(cluster: Cluster) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for pod in cluster.all("pod"):
        found.setdefault(pod["metadata"]["labels"]["role-name"], set()).add(pod["metadata"]["uid"])
    return found
