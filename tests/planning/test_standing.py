"""How far a rollout is, and what its history shows: read from objects alone."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from planning.history import Run, history
from planning.news import of_decision, of_status, reasons_of, spoken
from planning.standing import Progress, progress
from planning.wire import CloseRollout, CreatePods, Decision, StartRollout, UnknownStep, View
from tests.planning.world import START, Cluster, role, roleset, storm

Json = dict[str, Any]


def seen(cluster: Cluster) -> Progress:
    return progress(cluster.storm, cluster.all("pod"))


def test_an_object_nobody_has_looked_at_is_waited_for() -> None:
    assert seen(Cluster(storm(role()))).message == (
        "stormservice/storm: waiting for the operator to observe the newest spec"
    )


def test_progress_counts_rolesets_and_roles_until_it_is_done() -> None:
    cluster = Cluster(storm(role("a", 1), role("b", 2), replicas=2))
    cluster.run()
    found = seen(cluster)
    assert not found.done
    assert found.message == "stormservice/storm: 0 of 2 RoleSets updated and ready"
    assert [(count.name, count.desired, count.updated) for count in found.roles] == [("a", 2, 0), ("b", 4, 0)]
    cluster.settle()
    found = seen(cluster)
    assert found.done
    assert [(count.name, count.desired, count.updated) for count in found.roles] == [("a", 2, 2), ("b", 4, 4)]


def test_a_newer_spec_is_not_done_however_ready_the_old_one_is() -> None:
    cluster = Cluster(storm(role()))
    cluster.settle()
    cluster.edit()
    assert not seen(cluster).done


def test_a_failed_rollout_names_the_pod() -> None:
    cluster = Cluster(storm(role()))
    cluster.run()
    (pod,) = cluster.all("pod")
    pod["status"] = {"containerStatuses": [{"name": "e", "state": {"waiting": {"reason": "ErrImagePull"}}}]}
    cluster.storm["status"]["failedRevision"] = cluster.storm["status"]["updateRevision"]
    found = seen(cluster)
    assert found.failed
    assert found.message == (
        "stormservice/storm exceeded its progress deadline: 0 of 1 RoleSet updated and ready; "
        f"blocked: pod {pod['metadata']['name']}: container e waits: ErrImagePull"
    )


def test_a_paused_rollout_says_how_to_go_on() -> None:
    cluster = Cluster(storm(role()))
    cluster.settle()
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "v2"
    cluster.storm["spec"]["paused"] = True
    cluster.run()
    assert seen(cluster).message.endswith("resume it with `brixflow rollout resume stormservice/storm`")


def test_a_roleset_and_a_podset_have_progress_too() -> None:
    cluster = Cluster(roleset(role("a", 2)))
    cluster.run()
    assert progress(cluster.get("roleset", "set")).message == "roleset/set: 0 of 2 pods updated and ready"
    cluster.settle()
    assert progress(cluster.get("roleset", "set")).done
    podset: Json = {"kind": "PodSet", "metadata": {"name": "p"}, "spec": {"podGroupSize": 3}}
    podset["status"] = {"readyPods": 2, "totalPods": 3, "phase": "Pending"}
    assert progress(podset).message == "podset/p: 2 of 3 pods updated and ready"
    podset["status"] |= {"readyPods": 3, "phase": "Ready"}
    assert progress(podset).done


# History.


def run_of(revision: str, result: str, after: int, **fields: Any) -> Run:
    return Run(workflow_id="w", revision=revision, result=result, started_at=START + timedelta(hours=after), **fields)


def two_revisions() -> tuple[Cluster, list[str]]:
    cluster = Cluster(storm(role()))
    cluster.storm["metadata"]["annotations"] = {"kubernetes.io/change-cause": "first"}
    cluster.settle()
    cluster.storm["metadata"]["annotations"] = {"kubernetes.io/change-cause": "second"}
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "v2"
    cluster.settle()
    found = sorted(cluster.all("controllerrevision"), key=lambda each: int(each["revision"]))
    return cluster, [each["metadata"]["name"] for each in found]


def test_history_joins_revisions_with_the_rollouts_that_temporal_remembers() -> None:
    cluster, (one, two) = two_revisions()
    runs = [
        run_of(two, "failed", 5, message="out of time", blocked=["pod a", "pod b"], seconds=60.0),
        run_of(one, "completed", 1, seconds=8.0),
        run_of(two, "undone", 4, seconds=2.0),
        run_of("storm-gone", "completed", 0, number=7),
    ]
    forgotten, first, second = history(cluster.storm, cluster.all("controllerrevision"), runs)
    assert (forgotten.revision, forgotten.name, forgotten.result) == (7, "storm-gone", "completed")
    assert (first.revision, first.change_cause, first.result, first.seconds) == (1, "first", "completed", 8.0)
    assert (second.change_cause, second.result, second.source) == ("second", "failed", "temporal")
    assert second.message == "out of time; blocked by pod b"
    assert [run.result for run in second.runs] == ["undone", "failed"]
    assert (first.is_live, second.is_live) == (False, True)
    assert second.roles[0].images == ["v2"]


@pytest.mark.parametrize(
    ("status", "spec", "result"),
    [({}, {}, "completed"), ({"completedRevision": "x"}, {}, "running"), ({"completedRevision": "x"}, {"paused": True},
     "paused"), ({"failedRevision": "two"}, {}, "failed")],
)  # fmt: skip
def test_without_temporal_the_status_tells_the_newest_result(status: Json, spec: Json, result: str) -> None:
    cluster, (_, two) = two_revisions()
    live = deepcopy(cluster.storm)
    live["status"] |= {key: two if value == "two" else value for key, value in status.items()}
    live["spec"] |= spec
    first, second = history(live, cluster.all("controllerrevision"))
    assert (second.result, second.source) == (result, "status")
    assert first.result == ""


# Events and words.


def progressing(reason: str, **fields: Any) -> Json:
    conditions = [{"type": "Progressing", "status": "True", "reason": reason, "message": fields.pop("message", "")}]
    return {"updateRevision": "r2", "conditions": conditions, **fields}


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (progressing("Processing"), progressing("Paused"),
         ("Normal", "RolloutPaused", "paused: r2 is not rolled out until it is resumed")),
        (progressing("Paused"), progressing("Processing"), ("Normal", "RolloutResumed", "resumed: r2 is rolled out")),
        (progressing("Processing"), progressing("ProgressDeadlineExceeded", message="pod p waits", failedRevision="r2"),
         ("Warning", "ProgressDeadlineExceeded", "r2: pod p waits")),
        (progressing("Processing"), progressing("Processing"), None),
        (progressing("Processing"), progressing("Completed"), None),
    ],
)  # fmt: skip
def test_a_changed_status_is_an_event(before: Json, after: Json, event: tuple[str, str, str] | None) -> None:
    assert of_status(before, after) == ([event] if event else [])


def test_a_rollout_tells_its_start_its_end_and_what_blocks_it() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    start = Decision(reason="", steps=[StartRollout(revision="r2", number=2)])
    assert of_decision(start, None, None, now) == [("Normal", "RolloutStarted", "roll out r2 (revision 2)")]
    view = View(blocked="pod p waits")
    failed = Decision(reason="", steps=[CloseRollout(result="failed", message="no progress for 600 s")], view=view)
    assert of_decision(failed, "r2", now - timedelta(minutes=10, seconds=5), now) == [
        ("Warning", "RolloutFailed", "r2 failed after 10 min 5 s: no progress for 600 s; blocked by pod p waits")
    ]
    assert of_decision(Decision(reason="", view=View()), "r2", None, now) == []


def test_reasons_of_decisions_are_words_that_a_label_may_have() -> None:
    step = CreatePods(role="a", template_hash="h", count=1)
    assert reasons_of(Decision(reason="", steps=[step, step])) == ["create-pods"]
    assert reasons_of(Decision(reason="", steps=[CloseRollout(result="undone")])) == ["close-undone"]
    assert reasons_of(Decision(reason="", steps=[UnknownStep(type="of-a-later-release")])) == ["unknown"]
    assert reasons_of(Decision(reason="")) == ["view"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (11040, "3 h 4 min")],
)
def test_durations_are_spoken(seconds: float, said: str) -> None:
    assert spoken(seconds) == said


def test_the_page_of_a_rollout_with_a_deadline_says_when_it_is_given_up() -> None:
    cluster = Cluster(storm(role(), progressDeadlineSeconds=60))
    cluster.run()
    details = cluster.plan("stormservice", "storm").view.details
    assert "Next timer: 2026-01-01T00:01:" in details
    assert "(given up then without progress)" in details
