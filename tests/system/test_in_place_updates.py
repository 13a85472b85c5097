"""In-place updates on the whole system: pods keep their uids, containers really change, and no request fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.system.harness import System, eventually, service_manifest
from tests.system.load import SteadyLoad

pytestmark = pytest.mark.system
GATE = "stormservice.orchestration.aibrix.ai/in-place-update-ready"


def in_place_manifest(name: str, image: str = "aibrix/vllm-mock:nightly") -> dict[str, Any]:
    """One RoleSet with two engines, rewritten in place; each pod is drained before it is patched."""
    manifest = service_manifest(name, 1, image, updateStrategy={"type": "InPlaceUpdate"})
    (role,) = manifest["spec"]["template"]["spec"]["roles"]
    role |= {
        "replicas": 2, "drainSeconds": 2, "updateStrategy": {"type": "InPlaceIfPossible", "maxUnavailable": 1}
    }  # fmt: skip
    return manifest


def containers(system: System, service: str) -> dict[str, tuple[str, int, bool]]:
    """By pod uid: the image id that its container runs, how often it was started again, and whether it is ready."""
    found = {}
    for pod in system.pods(service):
        (status,) = pod["status"]["containerStatuses"]
        found[pod["metadata"]["uid"]] = (status["imageID"], status["restartCount"], status["ready"])
    return found


def test_another_image_in_place_fails_no_request_and_keeps_the_pods(system: System, service: str) -> None:
    system.apply(in_place_manifest(service))
    system.wait_ready(service)
    before = containers(system, service)
    with SteadyLoad(system.endpoint, service) as load:
        system.apply(in_place_manifest(service, "aibrix/vllm-mock:v2"))
        system.wait_ready(service, within=120)
    after = containers(system, service)
    assert load.failures == 0, load.details
    assert before.keys() == after.keys()
    for uid, (image, restarts, ready) in after.items():
        assert image != before[uid][0]
        assert (restarts, ready) == (before[uid][1] + 1, True)
    labels = {pod["metadata"]["labels"]["role-template-hash"] for pod in system.pods(service)}
    assert len(labels) == 1
    names = {pod["metadata"]["name"] for pod in system.pods(service)}
    told = json.loads(system.kubectl("get", "events", "-o", "json"))["items"]
    completed = [each["message"] for each in told if each["reason"] == "InPlaceUpdateCompleted"]
    assert all(any(name in message for message in completed) for name in names)


@pytest.mark.slow
def test_an_image_that_nobody_has_takes_one_pod_and_the_next_edit_mends_it(system: System, service: str) -> None:
    system.apply(in_place_manifest(service))
    system.wait_ready(service)
    before = containers(system, service)
    system.apply(in_place_manifest(service, "no/such:1"))

    def is_stuck() -> bool:
        return sorted(ready for _, _, ready in containers(system, service).values()) == [False, True]

    eventually(is_stuck)
    eventually(lambda: "no/such:1" in str(system.get("stormservice", service)["status"]))
    with SteadyLoad(system.endpoint, service) as load:
        system.apply(in_place_manifest(service))
        system.wait_ready(service, within=120)
    assert load.failures == 0, load.details
    assert containers(system, service).keys() == before.keys()
