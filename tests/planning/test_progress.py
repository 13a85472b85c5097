"""The progress deadline: what restarts its clock, what a rollout that is given up does, and what ends that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from crds import labels
from planning.objects import condition, format_time, labels_of, name_of
from planning.progress import Counted
from planning.wire import StartRollout
from tests.planning.world import Cluster, role, set_ready, storm

DEADLINE = timedelta(seconds=60)
SURGE = {"maxSurge": 1, "maxUnavailable": 0}
BAD = "engine:bad"


def running(**fields: Any) -> Cluster:
    fields = {"progressDeadlineSeconds": 60, "updateStrategy": SURGE, "replicas": 3} | fields
    cluster = Cluster(storm(role(replicas=1), **fields))
    cluster.settle()
    cluster.decisions.clear()
    cluster.rollouts.clear()
    return cluster


def set_image(cluster: Cluster, image: str) -> None:
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = image


def images(cluster: Cluster) -> list[str]:
    return sorted(pod["spec"]["containers"][0]["image"] for pod in cluster.all("pod"))


def status(cluster: Cluster) -> dict[str, Any]:
    return cluster.storm["status"]


def settle(cluster: Cluster) -> None:
    """As `Cluster.settle`, but pods of the bad image never start: their image cannot be pulled."""
    for _ in range(60):
        before = len(cluster.decisions)
        cluster.run()
        for pod in cluster.all("pod"):
            if pod["spec"]["containers"][0]["image"] == BAD:
                waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
                state = {"name": "engine", "state": {"waiting": waiting}}
                pod["status"] = {"phase": "Pending", "containerStatuses": [state]}
            else:
                cluster.make_ready(name_of(pod))
        cluster.run()
        if len(cluster.decisions) == before:
            return
    raise AssertionError("does not settle")


def stuck(**fields: Any) -> Cluster:
    """A bad image, rolled out as far as the budget lets it."""
    cluster = running(**fields)
    set_image(cluster, BAD)
    settle(cluster)
    return cluster


def failed(**fields: Any) -> Cluster:
    cluster = stuck(**fields)
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    settle(cluster)
    return cluster


def test_without_a_deadline_the_status_has_no_clock_and_a_rollout_waits_for_ever():
    cluster = stuck(progressDeadlineSeconds=None)
    cluster.now += timedelta(days=3)
    settle(cluster)
    assert not {"progressedAt", "failedRevision", "retriedAt"} & status(cluster).keys()
    assert cluster.plan("stormservice", "storm").wake_at is None
    assert cluster.rollouts == []


def test_the_planner_wakes_at_the_deadline_and_not_before_does_it_give_up():
    cluster = stuck()
    wake_at = cluster.plan("stormservice", "storm").wake_at
    assert format_time(wake_at - DEADLINE) == status(cluster)["progressedAt"]
    cluster.now = wake_at - timedelta(seconds=1)
    settle(cluster)
    assert condition(cluster.storm, "Progressing")["reason"] == "Processing"
    assert "failedRevision" not in status(cluster)
    cluster.now = wake_at
    settle(cluster)
    assert condition(cluster.storm, "Progressing")["reason"] == "ProgressDeadlineExceeded"


def test_a_failed_rollout_says_which_pod_blocked_it_and_what_its_container_says():
    cluster = failed()
    bad = next(pod for pod in cluster.all("pod") if pod["spec"]["containers"][0]["image"] == BAD)
    (result,) = cluster.rollouts
    assert (result.result, result.revision) == ("failed", status(cluster)["updateRevision"])
    assert result.message.startswith("no progress for 60 s: RoleSet ")
    assert f"pod {name_of(bad)}: container engine waits: ImagePullBackOff: no such image" in result.message
    found = condition(cluster.storm, "Progressing")
    assert (found["status"], found["reason"], found["message"]) == (
        "False", "ProgressDeadlineExceeded", result.message,
    )  # fmt: skip
    assert status(cluster)["failedRevision"] == status(cluster)["updateRevision"]
    assert condition(cluster.storm, "Ready")["status"] == "False"
    view = cluster.plan("stormservice", "storm").view
    assert (view.phase, view.blocked) == ("Failed", result.message)


def test_a_failed_rollout_costs_nothing_more():
    cluster = failed()
    before, decisions = status(cluster), len(cluster.decisions)
    for _ in range(5):
        cluster.now += timedelta(minutes=10)
        settle(cluster)
    assert len(cluster.decisions) == decisions
    assert status(cluster) == before
    assert images(cluster) == [BAD, "engine:v1", "engine:v1", "engine:v1"]


def test_a_first_creation_fails_too():
    cluster = Cluster(storm(role(image=BAD), progressDeadlineSeconds=60, automaticRollback=True))
    settle(cluster)
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    settle(cluster)
    assert [result.result for result in cluster.rollouts] == ["failed"]
    assert "completedRevision" not in status(cluster)


def test_a_pod_that_never_gets_ready_is_named_although_its_container_runs():
    cluster = running()
    set_image(cluster, "engine:slow")
    cluster.run()
    slow = next(pod for pod in cluster.all("pod") if pod["spec"]["containers"][0]["image"] == "engine:slow")
    set_ready(slow, False)
    cluster.run()
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    cluster.run()
    assert f"pod {name_of(slow)} runs and is not ready yet" in cluster.rollouts[0].message


def test_each_roleset_that_becomes_ready_restarts_the_clock():
    cluster = running()
    set_image(cluster, "engine:v2")
    begun = cluster.now
    for _ in range(40):
        cluster.run()
        waiting = [pod for pod in cluster.all("pod") if not condition(pod, "Ready")]
        if not waiting:
            break
        cluster.now += timedelta(seconds=50)
        cluster.make_ready(*(name_of(pod) for pod in waiting[:1]))
        cluster.run()
    assert cluster.now - begun > 2 * DEADLINE
    assert [result.result for result in cluster.rollouts] == ["completed"]


def test_a_single_pod_of_a_large_roleset_is_progress():
    cluster = Cluster(storm(role(replicas=4), progressDeadlineSeconds=60))
    cluster.run()
    for pod in cluster.all("pod"):
        cluster.now += timedelta(seconds=50)
        cluster.make_ready(name_of(pod))
        cluster.run()
    assert [result.result for result in cluster.rollouts] == ["completed"]


def test_what_we_can_still_do_is_done_before_anything_is_given_up():
    cluster = running()
    set_image(cluster, "engine:v2")
    cluster.step("stormservice", "storm")
    cluster.plan("stormservice", "storm")
    cluster.now += DEADLINE + timedelta(seconds=1)
    decision = cluster.step("stormservice", "storm")
    assert "create-rolesets" in [step.type for step in decision.steps]
    assert "failedRevision" not in status(cluster)


def test_a_refusal_of_the_api_server_is_no_excuse_for_ever():
    cluster = running()
    cluster.fail["create-rolesets"] = "exceeded quota"
    set_image(cluster, "engine:v2")
    for _ in range(30):
        cluster.run()
        wake_at = cluster.plan("stormservice", "storm").wake_at
        if cluster.rollouts or wake_at is None:
            break
        cluster.now = wake_at
    assert [result.result for result in cluster.rollouts] == ["failed"]


def test_a_deadline_that_passed_while_nobody_watched_proves_nothing():
    cluster = stuck()
    cluster.now += timedelta(hours=2)
    cluster.run()
    assert cluster.rollouts == []
    assert status(cluster)["progressedAt"] == format_time(cluster.now)
    cluster.now += DEADLINE
    cluster.run()
    assert [result.result for result in cluster.rollouts] == ["failed"]


def test_losing_all_memory_changes_no_verdict():
    cluster = failed()
    before = status(cluster)
    cluster.memories.clear()
    settle(cluster)
    assert status(cluster) == before
    assert len(cluster.rollouts) == 1
    running_out = stuck()
    wake_at = running_out.plan("stormservice", "storm").wake_at
    running_out.memories.clear()
    running_out.rollout = None
    running_out.now += timedelta(seconds=30)
    settle(running_out)
    assert running_out.plan("stormservice", "storm").wake_at == wake_at


def test_pausing_stops_the_clock_and_resuming_starts_it_anew():
    cluster = stuck()
    cluster.edit()["paused"] = True
    settle(cluster)
    assert condition(cluster.storm, "Progressing")["reason"] == "Paused"
    cluster.now += timedelta(seconds=70)
    settle(cluster)
    assert cluster.rollouts == []
    cluster.edit()["paused"] = False
    resumed = cluster.now
    cluster.step("stormservice", "storm")
    assert status(cluster)["progressedAt"] == format_time(resumed)


# What ends a failure.


def test_another_template_is_another_try():
    cluster = failed()
    cluster.rollouts.clear()
    set_image(cluster, "engine:v2")
    settle(cluster)
    assert images(cluster) == ["engine:v2"] * 3
    assert "failedRevision" not in status(cluster)
    assert [result.result for result in cluster.rollouts] == ["completed"]
    assert condition(cluster.storm, "Ready")["status"] == "True"


def test_the_old_template_takes_what_failed_away():
    cluster = failed()
    cluster.rollouts.clear()
    set_image(cluster, "engine:v1")
    settle(cluster)
    assert images(cluster) == ["engine:v1"] * 3
    assert [result.result for result in cluster.rollouts] == ["completed"]


def test_the_annotation_of_a_resume_is_taken_notice_of_once():
    cluster = failed()
    cluster.rollouts.clear()
    cluster.storm["metadata"]["annotations"] = {labels.RETRY_AT: "2026-01-01T09:00:00Z"}
    settle(cluster)
    assert cluster.rollout == status(cluster)["updateRevision"]
    assert status(cluster)["retriedAt"] == "2026-01-01T09:00:00Z"
    assert status(cluster)["progressedAt"] == format_time(cluster.now)
    cluster.now += DEADLINE
    settle(cluster)
    assert [result.result for result in cluster.rollouts] == ["failed"]
    cluster.now += DEADLINE
    settle(cluster)
    assert len(cluster.rollouts) == 1


def test_a_pause_that_is_over_is_a_resume():
    cluster = failed()
    cluster.rollouts.clear()
    cluster.edit()["paused"] = True
    settle(cluster)
    assert status(cluster)["failedRevision"]
    cluster.edit()["paused"] = False
    settle(cluster)
    assert cluster.rollout is not None
    assert "failedRevision" not in status(cluster)


def test_a_pod_that_gets_ready_after_all_takes_the_rollout_up_again():
    cluster = failed()
    cluster.rollouts.clear()
    bad = next(pod for pod in cluster.all("pod") if pod["spec"]["containers"][0]["image"] == BAD)
    set_ready(bad, True)
    cluster.settle()
    assert images(cluster) == [BAD] * 3
    assert [result.result for result in cluster.rollouts] == ["completed"]
    assert "failedRevision" not in status(cluster)


def test_a_return_that_only_waits_for_something_to_go_does_not_fail():
    cluster = stuck()
    bad = next(s for s in cluster.all("roleset") if labels_of(s)[labels.STORM_SERVICE_REVISION] == cluster.rollout)
    bad["metadata"]["finalizers"].append("somebody/else")
    set_image(cluster, "engine:v1")
    settle(cluster)
    assert len(cluster.all("roleset")) == 4
    cluster.now += 2 * DEADLINE
    settle(cluster)
    assert "failedRevision" not in status(cluster)
    bad["metadata"]["finalizers"].remove("somebody/else")
    settle(cluster)
    assert [result.result for result in cluster.rollouts] == ["undone", "completed"]
    assert condition(cluster.storm, "Ready")["status"] == "True"


def test_without_its_deadline_nothing_has_failed():
    cluster = failed()
    del cluster.edit()["progressDeadlineSeconds"]
    decision = cluster.step("stormservice", "storm")
    assert [type(step) for step in decision.steps] == [StartRollout]


# Repair and scaling while failed.


def revisions(cluster: Cluster) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in cluster.all("roleset"):
        revision = labels_of(each)[labels.STORM_SERVICE_REVISION]
        found[revision] = found.get(revision, 0) + 1
    return found


def test_a_failed_rollout_is_repaired_and_scaled_at_what_works():
    cluster = failed()
    good, bad = status(cluster)["completedRevision"], status(cluster)["failedRevision"]
    assert revisions(cluster) == {good: 3, bad: 1}
    cluster.edit()["replicas"] = 6
    settle(cluster)
    assert revisions(cluster) == {good: 5, bad: 1}
    serving = next(s for s in cluster.all("roleset") if labels_of(s)[labels.STORM_SERVICE_REVISION] == good)
    cluster.delete("roleset", name_of(serving))
    settle(cluster)
    assert revisions(cluster) == {good: 5, bad: 1}
    assert images(cluster).count("engine:v1") == 5


def test_a_failed_rollout_that_is_scaled_in_keeps_what_serves():
    cluster = failed()
    good, bad = status(cluster)["completedRevision"], status(cluster)["failedRevision"]
    cluster.edit()["replicas"] = 1
    settle(cluster)
    assert revisions(cluster) == {good: 1, bad: 1}
    assert cluster.rollout is None


def test_a_role_is_scaled_while_the_rollout_has_failed():
    cluster = failed()
    cluster.edit()["template"]["spec"]["roles"][0]["replicas"] = 2
    settle(cluster)
    assert images(cluster) == [BAD] * 2 + ["engine:v1"] * 6
    assert status(cluster)["failedRevision"]


# Back by itself.


def test_an_automatic_rollback_brings_the_last_completed_revision_back_and_edits_no_spec():
    cluster = running(automaticRollback=True)
    good = status(cluster)["completedRevision"]
    set_image(cluster, BAD)
    settle(cluster)
    spec = cluster.storm["spec"]
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    settle(cluster)
    assert images(cluster) == ["engine:v1"] * 3
    assert cluster.storm["spec"] == spec
    assert [(result.result, result.revision == good) for result in cluster.rollouts] == [
        ("failed", False), ("completed", True),
    ]  # fmt: skip
    found = status(cluster)
    assert found["updateRevision"] == found["currentRevision"] == found["completedRevision"] == good
    assert found["failedRevision"] not in (good, "")
    ready = condition(cluster.storm, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RolledBack")
    assert "3 of 3 RoleSets ready" in ready["message"]
    assert condition(cluster.storm, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert len(cluster.all("controllerrevision")) == 2


def test_no_serving_roleset_is_lost_on_the_way_back():
    cluster = running(automaticRollback=True, updateStrategy={"maxSurge": 0, "maxUnavailable": 1})
    set_image(cluster, BAD)
    settle(cluster)
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    for _ in range(30):
        serving = [pod for pod in cluster.all("pod") if condition(pod, "Ready").get("status") == "True"]
        assert len(serving) >= 2
        cluster.step("stormservice", "storm")
        for found in cluster.all("roleset"):
            cluster.step("roleset", name_of(found))
        cluster.finish_deletions()
    settle(cluster)
    assert images(cluster) == ["engine:v1"] * 3


def test_after_a_rollback_it_scales_at_the_old_revision_and_waits_for_another_template():
    cluster = running(automaticRollback=True)
    set_image(cluster, BAD)
    settle(cluster)
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    settle(cluster)
    cluster.edit()["replicas"] = 4
    cluster.now += timedelta(days=1)
    settle(cluster)
    assert images(cluster) == ["engine:v1"] * 4
    assert len(cluster.rollouts) == 2
    set_image(cluster, "engine:v3")
    settle(cluster)
    assert images(cluster) == ["engine:v3"] * 4
    assert "failedRevision" not in status(cluster)


def test_a_template_that_comes_while_it_goes_back_takes_over():
    cluster = running(automaticRollback=True)
    set_image(cluster, BAD)
    settle(cluster)
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    for _ in range(3):
        cluster.step("stormservice", "storm")
    assert cluster.rollout == status(cluster)["completedRevision"]
    set_image(cluster, "engine:v3")
    settle(cluster)
    assert [result.result for result in cluster.rollouts] == ["failed", "superseded", "completed"]
    assert images(cluster) == ["engine:v3"] * 3


def test_in_place_a_bad_image_goes_back_in_place():
    cluster = running(automaticRollback=True, updateStrategy={"type": "InPlaceUpdate"}, replicas=1)
    before = [name_of(found) for found in cluster.all("roleset")]
    set_image(cluster, BAD)
    settle(cluster)
    cluster.now = cluster.plan("stormservice", "storm").wake_at
    settle(cluster)
    assert images(cluster) == ["engine:v1"]
    assert [name_of(found) for found in cluster.all("roleset")] == before
    assert [result.result for result in cluster.rollouts] == ["failed", "completed"]


def test_asking_for_a_rollback_after_the_failure_is_enough():
    cluster = failed()
    cluster.edit()["automaticRollback"] = True
    settle(cluster)
    assert images(cluster) == ["engine:v1"] * 3


@pytest.mark.parametrize(
    ("after", "beyond"),
    [
        (Counted(2, 1, 3, 2, 1), False),
        (Counted(3, 1, 3, 2, 1), True),
        (Counted(2, 2, 3, 2, 1), True),
        (Counted(2, 1, 2, 2, 1), True),
        (Counted(2, 1, 3, 3, 1), True),
        (Counted(2, 1, 3, 2, 2), True),
        (Counted(1, 0, 4, 1, 0), False),
    ],
)
def test_progress_is_more_that_is_updated_or_less_that_is_not(after, beyond):
    assert after.is_beyond(Counted(2, 1, 3, 2, 1)) == beyond
