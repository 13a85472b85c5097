"""In-place updates of pods (roleset section 7, cases 25 to 32 and 35 to 42)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from planning.flight import (
    CONTAINER_NOT_READY,
    IMAGE_UNCHANGED,
    POD_NOT_READY,
    SPEC_NOT_OBSERVED,
    STATUS_MISSING,
    flight_of,
)
from planning.members import member_of, wanted_of
from planning.names import role_hash
from planning.objects import annotations_of, condition, labels_of, name_of, uid_of
from tests.planning.kubelet import GATE, refresh, run, run_all, settle
from tests.planning.world import Cluster, role, roleset
from tests.planning.world_pods import set_condition

Json = dict[str, Any]
PREFIX = "stormservice.orchestration.aibrix.ai/"
TARGET = f"{PREFIX}in-place-update-target-hash"
STATE = f"{PREFIX}in-place-update-state"
REASON = f"{PREFIX}in-place-update-pending-reason"
MARKS = {TARGET, STATE, REASON, "brixflow.aibrix.ai/in-place-since"}


def running(*roles: Json, **fields: Any) -> Cluster:
    cluster = Cluster(roleset(*roles, **fields))
    settle(cluster)
    cluster.decisions.clear()
    return cluster


def in_place(replicas: int = 1, **fields: Any) -> Json:
    return role("worker", replicas, type="InPlaceIfPossible", **fields)


def set_image(cluster: Cluster, image: str = "engine:v2", role_name: str = "worker") -> None:
    for found in cluster.edit("roleset", "set")["roles"]:
        if found["name"] == role_name:
            found["template"]["spec"]["containers"][0]["image"] = image


def wanted(cluster: Cluster) -> Json:
    found: Json = cluster.get("roleset", "set")["spec"]["roles"][0]
    return found


def pods(cluster: Cluster) -> list[Json]:
    return cluster.all("pod")


def image_of(pod: Json) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def hash_of(pod: Json) -> str:
    return labels_of(pod)["role-template-hash"]


def flying(cluster: Cluster) -> list[Json]:
    return [pod for pod in pods(cluster) if TARGET in annotations_of(pod)]


def tick(cluster: Cluster) -> None:
    """One decision, and the time that a note on a pod needs."""
    cluster.step("roleset", "set")


@pytest.mark.parametrize("stateful", [False, True])
def test_25_31_the_image_of_the_running_pod_is_patched(stateful: bool) -> None:
    cluster = running(in_place(stateful=stateful))
    (pod,) = pods(cluster)
    uid, old = uid_of(pod), hash_of(pod)
    set_image(cluster)
    tick(cluster)
    (after,) = pods(cluster)
    assert (uid_of(after), image_of(after), hash_of(after)) == (uid, "engine:v2", old)
    assert annotations_of(after)[TARGET] == role_hash(wanted(cluster))
    state = json.loads(annotations_of(after)[STATE])
    assert state["lastContainerStatuses"]["engine"]["imageID"] == "sha256:engine:v1"
    assert cluster.said == [("InPlaceUpdateStarted", f"role worker pod {name_of(after)}")]


def test_26_it_is_complete_once_the_new_image_runs_and_the_pod_is_ready() -> None:
    cluster = running(in_place())
    set_image(cluster)
    tick(cluster)
    run_all(cluster)
    tick(cluster)
    (after,) = pods(cluster)
    assert hash_of(after) == role_hash(wanted(cluster))
    assert not MARKS & set(annotations_of(after))
    assert cluster.said[-1] == ("InPlaceUpdateCompleted", f"role worker pod {name_of(after)}")
    assert cluster.step("roleset", "set") is None


def test_27_with_the_image_id_unchanged_it_stays_pending() -> None:
    cluster = running(in_place())
    (pod,) = pods(cluster)
    old = hash_of(pod)
    set_image(cluster)
    tick(cluster)
    cluster.now += timedelta(seconds=6)
    tick(cluster)
    assert hash_of(pod) == old
    assert annotations_of(pod)[TARGET] == role_hash(wanted(cluster))
    assert annotations_of(pod)[REASON] == "ImageIDUnchanged"


def test_28_another_change_replaces_the_pods_and_says_so_once_a_revision() -> None:
    cluster = running(in_place(1, maxSurge=1, maxUnavailable=1))
    (pod,) = pods(cluster)
    spec = cluster.edit("roleset", "set")["roles"][0]["template"]["spec"]
    spec["containers"][0]["command"] = ["serve", "--fast"]
    tick(cluster)
    (new,) = [found for found in pods(cluster) if name_of(found) != name_of(pod)]
    assert new["spec"]["containers"][0]["command"] == ["serve", "--fast"]
    reason, message = cluster.said[0]
    assert reason == "InPlaceFallback"
    assert f"role worker pod {name_of(pod)} cannot be updated in place: non-image pod fields changed" in message
    settle(cluster)
    assert len(cluster.said) == 1
    cluster.edit("roleset", "set")["roles"][0]["template"]["spec"]["containers"][0]["command"] = ["serve"]
    settle(cluster)
    assert [reason for reason, _ in cluster.said] == ["InPlaceFallback"] * 2


def test_29_without_budget_only_a_pod_that_is_not_ready_is_patched() -> None:
    cluster = running(in_place(2, maxUnavailable=1))
    first, second = pods(cluster)
    run(cluster, second, ready=False)
    set_image(cluster)
    tick(cluster)
    assert [image_of(pod) for pod in (first, second)] == ["engine:v1", "engine:v2"]


@pytest.mark.parametrize("stateful", [False, True])
def test_30_a_pod_under_way_that_still_looks_ready_costs_the_budget(stateful: bool) -> None:
    cluster = running(in_place(2, stateful=stateful, maxUnavailable=1))
    set_image(cluster)
    tick(cluster)
    (under_way,) = flying(cluster)
    assert condition(under_way, "Ready")["status"] == "True"
    assert cluster.step("roleset", "set") is None
    assert len(flying(cluster)) == 1


@pytest.mark.parametrize("strategy", ["Interleave", "Sequential", "Parallel"])
@pytest.mark.parametrize("stateful", [False, True])
def test_32_pods_are_patched_one_after_another_and_keep_their_uids(strategy: str, stateful: bool) -> None:
    cluster = running(in_place(2, stateful=stateful, maxUnavailable=1), update_strategy=strategy)
    before = {uid_of(pod) for pod in pods(cluster)}
    set_image(cluster)
    cluster.run()
    assert len(flying(cluster)) == 1
    run_all(cluster)
    cluster.run()
    assert len(flying(cluster)) == 1
    assert [hash_of(pod) == role_hash(wanted(cluster)) for pod in pods(cluster)].count(True) == 1
    settle(cluster)
    assert {uid_of(pod) for pod in pods(cluster)} == before
    assert {image_of(pod) for pod in pods(cluster)} == {"engine:v2"}


def test_roles_of_a_sequence_follow_each_other_in_place() -> None:
    cluster = running(in_place(2, upgradeOrder=1), role("later", 1, type="InPlaceIfPossible"))
    set_image(cluster)
    set_image(cluster, role_name="later")
    seen = []
    for _ in range(12):
        cluster.run()
        seen += [labels_of(pod)["role-name"] for pod in flying(cluster)]
        run_all(cluster)
    assert seen == ["worker", "worker", "later"]


def test_35_completion_brings_the_labels_of_the_roles_revision() -> None:
    cluster = running(in_place())
    notes = {f"{PREFIX}role-revision.worker": "2", f"{PREFIX}role-revision-name.worker": "storm-b"}
    cluster.get("roleset", "set")["metadata"]["annotations"] = notes
    set_image(cluster)
    settle(cluster)
    (pod,) = pods(cluster)
    assert labels_of(pod)[f"{PREFIX}role-revision"] == "2"
    assert labels_of(pod)[f"{PREFIX}role-revision-name"] == "storm-b"


def test_37_the_gate_is_closed_before_the_patch_and_opened_at_the_end() -> None:
    gated = in_place()
    gated["template"]["spec"]["readinessGates"] = [{"conditionType": GATE}]
    cluster = running(gated)
    (pod,) = pods(cluster)
    assert condition(pod, "Ready")["status"] == "True"
    set_image(cluster)
    tick(cluster)
    assert condition(pod, GATE)["status"] == condition(pod, "Ready")["status"] == "False"
    cluster.step("roleset", "set")
    assert condition(pod, GATE)["status"] == "False"
    run_all(cluster)
    assert condition(pod, "Ready")["status"] == "False"
    cluster.step("roleset", "set")
    assert condition(pod, GATE)["status"] == "True"
    refresh(cluster, pod)
    assert condition(cluster.get("roleset", "set"), "Ready")["status"] == "False"
    cluster.run()
    assert condition(cluster.get("roleset", "set"), "Ready")["status"] == "True"


def in_flight(*, gated: bool = False) -> tuple[Cluster, Json]:
    found = in_place()
    if gated:
        found["template"]["spec"]["readinessGates"] = [{"conditionType": GATE}]
    cluster = running(found)
    set_image(cluster)
    tick(cluster)
    (pod,) = pods(cluster)
    run(cluster, pod)
    return cluster, pod


def pending(pod: Json) -> str:
    flight = flight_of(pod)
    assert flight is not None
    return flight.pending


def test_38_what_is_missing_is_told_in_order() -> None:
    cluster, pod = in_flight()
    assert pending(pod) == ""
    status = pod["status"]["containerStatuses"][0]
    status["imageID"], status["restartCount"] = "sha256:engine:v1", 0
    assert pending(pod) == IMAGE_UNCHANGED
    status["ready"] = False
    assert pending(pod) == CONTAINER_NOT_READY
    pod["status"]["containerStatuses"].clear()
    assert pending(pod) == STATUS_MISSING
    set_condition(pod, "Ready", False, cluster.now)
    assert pending(pod) == POD_NOT_READY


def test_39_the_runtimes_image_name_is_never_compared() -> None:
    _, pod = in_flight()
    pod["status"]["containerStatuses"][0]["image"] = "mirror.example/engine@sha256:abc"
    assert pending(pod) == ""


def test_40_a_target_that_the_label_already_says_is_done() -> None:
    cluster = running(in_place())
    (pod,) = pods(cluster)
    pod["metadata"]["annotations"][TARGET] = hash_of(pod)
    tick(cluster)
    assert TARGET not in annotations_of(pod)
    assert cluster.step("roleset", "set") is None


def test_41_without_a_target_nothing_is_complete() -> None:
    cluster = running(in_place())
    (pod,) = pods(cluster)
    set_image(cluster)
    assert flight_of(pod) is None
    found = wanted(cluster)
    assert not member_of(pod, wanted_of(found, cluster.get("roleset", "set")), cluster.now).updated


def fail_to_pull(cluster: Cluster, pod: Json) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    status = pod["status"]["containerStatuses"][0]
    status.update(ready=False, state={"waiting": waiting})
    set_condition(pod, "ContainersReady", False, cluster.now)
    refresh(cluster, pod)


def test_42_an_image_that_cannot_be_pulled_is_shown_and_later_the_pod_is_replaced() -> None:
    cluster = running(in_place(2, maxUnavailable=1))
    old = hash_of(pods(cluster)[0])
    set_image(cluster, "engine:none")
    tick(cluster)
    (pod,) = flying(cluster)
    uid = uid_of(pod)
    fail_to_pull(cluster, pod)
    cluster.now += timedelta(seconds=30)
    cluster.run()
    assert (uid_of(pod), hash_of(pod), annotations_of(pod)[REASON]) == (uid, old, "PodNotReady")
    plan = cluster.plan("roleset", "set")
    assert "ImagePullBackOff: no such image" in plan.view.blocked
    assert plan.wake_at is not None
    cluster.now = plan.wake_at
    cluster.run()
    left = {uid_of(found) for found in pods(cluster)}
    assert uid not in left
    assert len(left) == 2
    assert len(flying(cluster)) == 0, "the pod that serves stays"


def test_a_model_that_loads_for_long_is_not_replaced() -> None:
    cluster = running(in_place())
    set_image(cluster)
    tick(cluster)
    (pod,) = pods(cluster)
    run(cluster, pod, ready=False)
    cluster.now += timedelta(hours=1)
    cluster.run()
    assert pods(cluster) == [pod]
    assert annotations_of(pod)[REASON] == "PodNotReady"


def test_a_tag_of_the_same_digest_is_accepted_once_the_container_restarted() -> None:
    cluster, pod = in_flight()
    status = pod["status"]["containerStatuses"][0]
    status.update(imageID="sha256:engine:v1", restartCount=1)
    assert pending(pod) == ""
    cluster.run()
    assert hash_of(pod) == role_hash(wanted(cluster))


def test_a_node_that_has_not_seen_the_new_spec_proves_nothing() -> None:
    _, pod = in_flight()
    pod["metadata"]["generation"], pod["status"]["observedGeneration"] = 2, 1
    assert pending(pod) == SPEC_NOT_OBSERVED


def test_a_state_nobody_can_read_counts_as_empty() -> None:
    _, pod = in_flight()
    pod["metadata"]["annotations"][STATE] = "{"
    assert pending(pod) == ""


def test_a_second_image_while_the_first_is_under_way_is_patched_too() -> None:
    cluster = running(in_place(2, maxUnavailable=1))
    before = {uid_of(pod) for pod in pods(cluster)}
    set_image(cluster)
    cluster.run()
    set_image(cluster, "engine:v3")
    cluster.run()
    assert sorted(image_of(pod) for pod in pods(cluster)) == ["engine:v1", "engine:v3"]
    settle(cluster)
    assert {uid_of(pod) for pod in pods(cluster)} == before
    assert {image_of(pod) for pod in pods(cluster)} == {"engine:v3"}
    assert {reason for reason, _ in cluster.said} == {"InPlaceUpdateStarted", "InPlaceUpdateCompleted"}


@pytest.mark.parametrize("seen", [True, False])
def test_a_revert_in_mid_update_brings_the_old_image_back_in_place(seen: bool) -> None:
    cluster = running(in_place(2, maxUnavailable=1))
    before, old = {uid_of(pod) for pod in pods(cluster)}, hash_of(pods(cluster)[0])
    set_image(cluster)
    cluster.run()
    if seen:
        run_all(cluster)
    set_image(cluster, "engine:v1")
    settle(cluster)
    assert {uid_of(pod) for pod in pods(cluster)} == before
    assert {(image_of(pod), hash_of(pod)) for pod in pods(cluster)} == {("engine:v1", old)}
    assert not [pod for pod in pods(cluster) if MARKS & set(annotations_of(pod))]


def test_with_nothing_unavailable_allowed_pods_are_replaced_by_surge() -> None:
    cluster = running(in_place(2, maxSurge=1, maxUnavailable=0))
    set_image(cluster)
    for _ in range(20):
        cluster.run()
        assert sum(condition(pod, "Ready").get("status") == "True" for pod in pods(cluster)) >= 2
        run_all(cluster)
    assert {image_of(pod) for pod in pods(cluster)} == {"engine:v2"}
    assert "maxUnavailable 0" in cluster.said[0][1]


def test_an_in_place_update_is_no_failure_to_the_recovery_of_a_service() -> None:
    cluster = running(in_place(2, recoveryPolicy="Service"))
    before = {uid_of(pod) for pod in pods(cluster)}
    set_image(cluster)
    settle(cluster)
    cluster.now += timedelta(hours=1)
    settle(cluster)
    assert {uid_of(pod) for pod in pods(cluster)} == before


def test_a_second_image_is_not_complete_because_the_first_one_runs() -> None:
    cluster, pod = in_flight()
    old = hash_of(pod)
    set_image(cluster, "engine:v3")
    cluster.run()
    assert (hash_of(pod), pending(pod)) == (old, IMAGE_UNCHANGED)
    run(cluster, pod)
    cluster.run()
    assert hash_of(pod) == role_hash(wanted(cluster))


def test_an_image_that_the_container_still_runs_needs_no_restart() -> None:
    cluster, pod = in_flight()
    set_image(cluster, "engine:v3")
    cluster.run()
    set_image(cluster, "engine:v2")
    cluster.run()
    assert (image_of(pod), hash_of(pod)) == ("engine:v2", role_hash(wanted(cluster)))
