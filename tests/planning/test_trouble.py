"""Why a pod is not ready: the sentence names pod, container and the container's own message; the class is one word."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from planning.trouble import blocked_class, leaving_trouble, trouble_of, worst_of
from planning.view import RoleRow, blocked_roles, page
from tests.planning.world import START, Cluster, role, storm

Json = dict[str, Any]


def pod(phase: str = "Pending", *, conditions: list[Json] | None = None, name: str = "p", **container: Any) -> Json:
    statuses = [{"name": "engine", **container}] if container else []
    status = {"phase": phase, "containerStatuses": statuses, "conditions": conditions or []}
    return {"metadata": {"name": name}, "spec": {}, "status": status}


def waiting(why: str, said: str = "", **last: Any) -> Json:
    found: Json = {"state": {"waiting": {"reason": why, **({"message": said} if said else {})}}}
    return found | ({"lastState": {"terminated": last}} if last else {})


UNSCHEDULED = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]


@pytest.mark.parametrize(
    ("found", "sentence", "word"),
    [
        (pod(**waiting("ErrImagePull", "no such tag")),
         "pod p: container engine waits: ErrImagePull: no such tag", "image"),
        (pod(**waiting("CrashLoopBackOff", "back-off 10s", exitCode=1, reason="Error", message="no\n CUDA device\n")),
         "pod p: container engine waits: CrashLoopBackOff: back-off 10s; its last run ended with exit code 1: "
         "no CUDA device", "crash"),
        (pod(**waiting("CrashLoopBackOff", "back-off", exitCode=137, signal=9, reason="OOMKilled")),
         "pod p: container engine waits: CrashLoopBackOff: back-off; its last run was ended by signal 9 (OOMKilled)",
         "crash"),
        (pod(state={"terminated": {"exitCode": 2, "reason": "Error", "message": "bad flag"}}),
         "pod p: container engine ended with exit code 2: bad flag", "crash"),
        (pod(**waiting("CreateContainerConfigError", 'secret "x" not found')),
         'pod p: container engine waits: CreateContainerConfigError: secret "x" not found', "configuration"),
        (pod(conditions=UNSCHEDULED), "pod p is not scheduled: Unschedulable: 0/3 nodes", "scheduling"),
    ],
)  # fmt: skip
def test_a_stuck_pod_says_why(found: Json, sentence: str, word: str) -> None:
    assert (trouble_of(found).sentence, trouble_of(found).stuck) == (sentence, True)
    assert blocked_class(sentence) == word


def test_an_evicted_pod_says_so() -> None:
    found = pod("Failed")
    found["status"] |= {"reason": "Evicted", "message": "low on memory"}
    assert trouble_of(found).sentence == "pod p has failed: Evicted: low on memory"


def test_an_ordinary_start_is_no_trouble_to_tell_of() -> None:
    assert not trouble_of(pod(**waiting("ContainerCreating"))).stuck
    assert not trouble_of(pod("Running")).stuck


def test_the_stuck_pod_is_told_first() -> None:
    worst = worst_of([pod("Running", name="slow"), pod(name="broken", **waiting("ErrImagePull"))])
    assert worst is not None
    assert worst.sentence.startswith("pod broken")


def test_a_pod_that_does_not_go_names_what_holds_it() -> None:
    leaving = pod()
    assert leaving_trouble(leaving, START) == ""
    leaving["metadata"]["deletionTimestamp"] = START.isoformat()
    assert leaving_trouble(leaving, START - timedelta(seconds=1)) == ""
    leaving["spec"]["nodeName"] = "n1"
    assert leaving_trouble(leaving, START) == "pod p does not go: its node n1 has not confirmed the end"
    leaving["metadata"]["finalizers"] = ["example.com/hold"]
    said = leaving_trouble(leaving, START)
    assert said == "pod p does not go: finalizer example.com/hold holds it"
    assert blocked_class(said) == "leaving"


def test_what_fits_no_class_is_other_and_nothing_is_nothing() -> None:
    assert blocked_class("the moon is full") == "other"
    assert blocked_class("") == ""
    assert blocked_class("create-pods/engine: exceeded quota: pods") == "quota"


def test_the_page_of_a_storm_service_names_the_pod_in_the_row_of_its_role() -> None:
    cluster = Cluster(storm(role("prefill"), role("decode"), replicas=2))
    cluster.run()
    stuck = next(p for p in cluster.all("pod") if p["metadata"]["labels"]["role-name"] == "decode")
    stuck["status"] = {
        "phase": "Pending",
        "containerStatuses": [{"name": "engine", **waiting("ErrImagePull", "no tag")}],
    }
    cluster.run()
    details = cluster.plan("stormservice", "storm").view.details
    (row,) = [line for line in details.splitlines() if line.startswith("| decode |")]
    assert (
        row == f"| decode | 2 | 0 | 2 | pod {stuck['metadata']['name']}: container engine waits: ErrImagePull: no tag |"
    )
    assert "| prefill | 2 | 0 | 2 |  |" in details
    statuses = [set_["status"]["roles"] for set_ in cluster.all("roleset")]
    assert sum("blocked" in shown for shown in [each for roles in statuses for each in roles]) == 1


def test_several_rolesets_with_the_same_trouble_are_counted() -> None:
    sets = [{"status": {"roles": [{"name": "decode", "blocked": f"pod {i}"}]}} for i in range(3)]
    assert blocked_roles(sets) == {"decode": "pod 0 (and 2 more RoleSets)"}


def test_a_page_has_the_table_and_the_timer() -> None:
    text = page(phase="RollingOut", revision="r", rows=[RoleRow("a", 2, 1, 1, "x|y")], wake_at=START, now=START)
    assert "| role | desired | ready | updated | blocked by |" in text
    assert "| a | 2 | 1 | 1 | x/y |" in text
    assert "Next timer: 2026-01-01T00:00:00Z" in text
