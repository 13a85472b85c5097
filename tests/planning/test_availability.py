"""Pods that count only after a while, that are drained before they go, and that have to be warm (design 4, issue 6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from planning.names import role_hash
from planning.objects import annotations_of, condition, format_time, is_deleting, name_of, uid_of
from planning.warm_up import mark, request_of
from planning.wire import DeletePods
from tests.planning.kubelet import GATE, refresh, run_all, settle
from tests.planning.test_in_place import image_of, in_place, pods, running, set_image
from tests.planning.world import Cluster, role, roleset
from tests.planning.world_pods import set_condition

Json = dict[str, Any]
DRAIN = "brixflow.aibrix.ai/drain-since"
DRAINED = "brixflow.aibrix.ai/drained"
WARM = "brixflow.aibrix.ai/warm-up"


def ready_condition(cluster: Cluster) -> str:
    return str(condition(cluster.get("roleset", "set"), "Ready").get("status"))


def ready_pods(cluster: Cluster) -> list[Json]:
    return [pod for pod in pods(cluster) if condition(pod, "Ready").get("status") == "True" and not is_deleting(pod)]


def drained(cluster: Cluster) -> list[Json]:
    return [pod for pod in pods(cluster) if DRAIN in annotations_of(pod)]


# --- minReadySeconds ------------------------------------------------------------------------------------------------


def test_a_pod_counts_once_it_has_been_ready_for_long_enough() -> None:
    cluster = Cluster(roleset(role(replicas=1, minReadySeconds=30)))
    cluster.run()
    run_all(cluster)
    cluster.run()
    assert ready_condition(cluster) == "False"
    plan = cluster.plan("roleset", "set")
    assert plan.wake_at == cluster.now + timedelta(seconds=30)
    cluster.now = plan.wake_at
    cluster.run()
    assert ready_condition(cluster) == "True"


def test_an_update_waits_until_what_it_made_has_been_ready_for_long_enough() -> None:
    cluster = running(role(replicas=2, minReadySeconds=30, maxSurge=0, maxUnavailable=1))
    cluster.now += timedelta(seconds=60)
    settle(cluster)
    set_image(cluster)
    settle(cluster)
    assert sorted(image_of(pod) for pod in pods(cluster)) == ["engine:v1", "engine:v2"]
    cluster.now += timedelta(seconds=30)
    settle(cluster)
    cluster.now += timedelta(seconds=30)
    settle(cluster)
    assert {image_of(pod) for pod in pods(cluster)} == {"engine:v2"}


# --- drainSeconds ---------------------------------------------------------------------------------------------------


def test_a_ready_pod_leaves_the_choice_and_is_deleted_when_its_requests_had_their_time() -> None:
    cluster = running(role(replicas=2, drainSeconds=20))
    cluster.edit("roleset", "set")["roles"][0]["replicas"] = 1
    cluster.run()
    (pod,) = drained(cluster)
    assert condition(pod, GATE)["status"] == condition(pod, "Ready")["status"] == "False"
    assert not is_deleting(pod)
    plan = cluster.plan("roleset", "set")
    assert plan.wake_at == cluster.now + timedelta(seconds=20)
    cluster.now = plan.wake_at
    cluster.run()
    assert [name_of(left) for left in pods(cluster)] == [name_of(p) for p in ready_pods(cluster)]
    assert len(pods(cluster)) == 1


def test_a_drain_is_over_once_the_engine_says_that_nothing_runs_any_more() -> None:
    cluster = running(role(replicas=2, drainSeconds=20))
    cluster.edit("roleset", "set")["roles"][0]["replicas"] = 1
    cluster.run()
    (pod,) = drained(cluster)
    pod["metadata"]["annotations"][DRAINED] = "2025-01-01T00:00:00Z"
    cluster.run()
    assert not is_deleting(pod), "the note is of an earlier drain"
    pod["metadata"]["annotations"][DRAINED] = annotations_of(pod)[DRAIN]
    cluster.run()
    assert [name_of(left) for left in pods(cluster)] == [name_of(left) for left in ready_pods(cluster)]


def test_draining_keeps_the_floor_and_other_roles_are_not_kept_waiting() -> None:
    cluster = running(
        role("worker", 3, drainSeconds=20), role("other", 2), update_strategy="Parallel"
    )  # fmt: skip
    set_image(cluster)
    set_image(cluster, role_name="other")
    for _ in range(6):
        cluster.run()
        of_worker = [pod for pod in ready_pods(cluster) if pod["metadata"]["labels"]["role-name"] == "worker"]
        assert len(of_worker) == 2
        run_all(cluster)
    others = [pod for pod in pods(cluster) if pod["metadata"]["labels"]["role-name"] == "other"]
    assert {image_of(pod) for pod in others} == {"engine:v2"}
    for _ in range(20):
        cluster.now += timedelta(seconds=20)
        settle(cluster)
        assert len(ready_pods(cluster)) >= 4
    assert {image_of(pod) for pod in pods(cluster)} == {"engine:v2"}


def test_a_pod_is_drained_before_it_is_patched_in_place() -> None:
    cluster = running(in_place(2, drainSeconds=20))
    before = {uid_of(pod) for pod in pods(cluster)}
    set_image(cluster)
    cluster.run()
    (pod,) = drained(cluster)
    assert {image_of(each) for each in pods(cluster)} == {"engine:v1"}
    cluster.now += timedelta(seconds=20)
    cluster.run()
    assert (image_of(pod), drained(cluster)) == ("engine:v2", [])
    for _ in range(4):
        settle(cluster)
        cluster.now += timedelta(seconds=20)
    settle(cluster)
    assert {uid_of(each) for each in pods(cluster)} == before
    assert len(ready_pods(cluster)) == 2
    assert {image_of(each) for each in pods(cluster)} == {"engine:v2"}


@pytest.mark.parametrize("in_place_too", [False, True])
def test_a_drained_pod_is_restored_when_nothing_is_to_happen_any_more(in_place_too: bool) -> None:
    cluster = running(in_place(2, drainSeconds=20) if in_place_too else role(replicas=2, drainSeconds=20))
    before = {uid_of(pod) for pod in pods(cluster)}
    set_image(cluster)
    cluster.run()
    assert len(drained(cluster)) == 1
    set_image(cluster, "engine:v1")
    settle(cluster)
    assert drained(cluster) == []
    assert {uid_of(pod) for pod in ready_pods(cluster)} == before


def test_a_repair_in_the_midst_of_a_drain_does_not_start_it_anew() -> None:
    cluster = running(role(replicas=3, drainSeconds=20))
    set_image(cluster)
    cluster.run()
    (pod,) = drained(cluster)
    since = annotations_of(pod)[DRAIN]
    victim = ready_pods(cluster)[0]
    del cluster.objects["pod", name_of(victim)]
    cluster.now += timedelta(seconds=5)
    cluster.run()
    assert annotations_of(pod)[DRAIN] == since


def test_a_pod_without_a_gate_gets_a_grace_that_covers_its_requests() -> None:
    cluster = running(role(replicas=2))
    cluster.edit("roleset", "set")["roles"][0] |= {"drainSeconds": 90, "replicas": 1}
    decision = cluster.step("roleset", "set")
    assert decision is not None
    (step,) = decision.steps
    assert isinstance(step, DeletePods)
    assert step.grace_seconds == 90


def test_a_pod_that_is_not_ready_has_nothing_to_drain() -> None:
    cluster = Cluster(roleset(role(replicas=2, drainSeconds=20)))
    cluster.run()
    cluster.edit("roleset", "set")["roles"][0]["replicas"] = 1
    cluster.run()
    assert len(pods(cluster)) == 1


def test_a_gate_that_nobody_opened_is_opened() -> None:
    cluster = running(role(replicas=1, drainSeconds=20))
    (pod,) = pods(cluster)
    set_condition(pod, GATE, False, cluster.now)
    refresh(cluster, pod)
    settle(cluster)
    assert len(ready_pods(cluster)) == 1


def test_a_role_set_that_goes_gives_its_pods_the_grace() -> None:
    cluster = running(role(replicas=2, drainSeconds=90))
    cluster.delete("roleset", "set")
    decision = cluster.step("roleset", "set")
    assert decision is not None
    (step,) = decision.steps
    assert isinstance(step, DeletePods)
    assert step.grace_seconds == 90


# --- warm-up --------------------------------------------------------------------------------------------------------


def warm(cluster: Cluster, state: str = "done", message: str = "", tries: int = 1) -> None:
    found = cluster.get("roleset", "set")["spec"]["roles"][0]
    for pod in pods(cluster):
        if WARM in annotations_of(pod):
            pod["metadata"]["annotations"][WARM] = mark(state, role_hash(found), tries, cluster.now, message)


def test_an_updated_pod_counts_once_it_has_generated_its_first_token() -> None:
    cluster = Cluster(roleset(role(replicas=2, warmUp={"path": "/v1/completions"})))
    settle(cluster)
    assert ready_condition(cluster) == "False"
    assert [step.type for _, decision in cluster.decisions for step in decision.steps] == [
        "create-pods",
        "warm-up-pods",
    ]
    warm(cluster)
    settle(cluster)
    assert ready_condition(cluster) == "True"


def test_a_warm_up_that_failed_is_said_and_tried_again_later() -> None:
    cluster = Cluster(roleset(role(replicas=1, warmUp={})))
    settle(cluster)
    warm(cluster, "failed", "answers 500", tries=3)
    cluster.run()
    plan = cluster.plan("roleset", "set")
    assert "warm-up failed (3 tries): answers 500" in plan.view.blocked
    assert plan.wake_at == cluster.now + timedelta(seconds=4)
    cluster.now = plan.wake_at
    decision = cluster.step("roleset", "set")
    assert decision is not None
    assert [step.type for step in decision.steps] == ["warm-up-pods"]


def test_a_warm_up_that_leaves_no_result_is_taken_as_lost() -> None:
    cluster = Cluster(roleset(role(replicas=1, warmUp={"timeoutSeconds": 10})))
    settle(cluster)
    began = len(cluster.decisions)
    cluster.now += timedelta(seconds=26)
    settle(cluster)
    assert len(cluster.decisions) == began + 1


def test_a_new_template_has_to_be_warmed_anew_and_outdated_pods_serve_on() -> None:
    cluster = running(in_place(2, warmUp={}, maxUnavailable=1))
    warm(cluster)
    settle(cluster)
    set_image(cluster)
    settle(cluster)
    assert sorted(image_of(pod) for pod in pods(cluster)) == ["engine:v1", "engine:v2"]
    warm(cluster)
    settle(cluster)
    warm(cluster)
    settle(cluster)
    assert {image_of(pod) for pod in pods(cluster)} == {"engine:v2"}
    assert ready_condition(cluster) == "True"


def test_the_request_names_the_model_and_the_prompt() -> None:
    assert request_of({}, "m") == {"model": "m", "prompt": "Hello", "max_tokens": 1, "stream": False}
    chat = request_of({"path": "/v1/chat/completions", "prompt": "Hi", "model": "x"}, "m")
    assert chat["messages"] == [{"role": "user", "content": "Hi"}]
    assert chat["model"] == "x"


# --- recovery, budgets ----------------------------------------------------------------------------------------------


def test_one_failed_pod_ends_all_pods_where_the_service_recovers_as_one() -> None:
    cluster = running(role("a", 2, recoveryPolicy="Service"), role("b", 2))
    before = {uid_of(pod) for pod in pods(cluster)}
    pods(cluster)[0]["status"]["phase"] = "Failed"
    cluster.now += timedelta(minutes=2)
    settle(cluster)
    assert not before & {uid_of(pod) for pod in pods(cluster)}
    assert len(ready_pods(cluster)) == 4


def test_a_restarted_container_counts_as_failure_and_pods_too_young_are_left_alone() -> None:
    cluster = running(role("a", 1, recoveryPolicy="Service"), role("b", 1))
    before = {uid_of(pod) for pod in pods(cluster)}
    pods(cluster)[0]["status"]["containerStatuses"][0]["restartCount"] = 1
    cluster.run()
    assert {uid_of(pod) for pod in pods(cluster)} == before
    plan = cluster.plan("roleset", "set")
    assert plan.wake_at is not None
    cluster.now = plan.wake_at
    settle(cluster)
    assert not before & {uid_of(pod) for pod in pods(cluster)}


@pytest.mark.parametrize("policy", [None, "Pod", "Group"])
def test_elsewhere_the_failed_pod_alone_is_replaced(policy: str | None) -> None:
    cluster = running(role("a", 2, **({"recoveryPolicy": policy} if policy else {})))
    before = {uid_of(pod) for pod in pods(cluster)}
    pods(cluster)[0]["status"]["phase"] = "Failed"
    cluster.now += timedelta(minutes=2)
    settle(cluster)
    assert len(before & {uid_of(pod) for pod in pods(cluster)}) == 1


def test_a_role_that_tolerates_so_much_gets_a_disruption_budget() -> None:
    cluster = running(role("a", 4, disruptionTolerance={"maxUnavailable": "25%"}), role("b", 1))
    (budget,) = cluster.all("poddisruptionbudget")
    assert name_of(budget) == "set-a"
    assert budget["spec"] == {
        "minAvailable": 3, "selector": {"matchLabels": {"roleset-name": "set", "role-name": "a"}}
    }  # fmt: skip
    cluster.edit("roleset", "set")["roles"][0]["replicas"] = 2
    settle(cluster)
    assert cluster.get("poddisruptionbudget", "set-a")["spec"]["minAvailable"] == 1
    del cluster.edit("roleset", "set")["roles"][0]["disruptionTolerance"]
    settle(cluster)
    assert cluster.all("poddisruptionbudget") == []


def test_times_are_read_from_the_pods_alone() -> None:
    """What a verdict depends on stands in Kubernetes: another memory plans the same."""
    cluster = running(in_place(2, drainSeconds=20, minReadySeconds=5))
    cluster.now += timedelta(seconds=30)
    settle(cluster)
    set_image(cluster)
    cluster.run()
    first = cluster.plan("roleset", "set")
    cluster.memories.clear()
    assert cluster.plan("roleset", "set").wake_at == first.wake_at
    assert annotations_of(drained(cluster)[0])[DRAIN] <= format_time(cluster.now)
