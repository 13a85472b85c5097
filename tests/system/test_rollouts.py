"""Rollouts on the whole system: no request fails, the budget holds, and a killed operator changes nothing."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from tests.system.harness import System, eventually, service_manifest
from tests.system.load import SteadyLoad

pytestmark = pytest.mark.system


class Watched:
    """Samples the number of existing and of ready RoleSets of a service until the block ends."""

    def __init__(self, system: System, service: str) -> None:
        self.existing: list[int] = []
        self.ready: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(system, service))

    def _run(self, system: System, service: str) -> None:
        while not self._stop.wait(0.3):
            items = system.get("rolesets", "-l", f"storm-service-name={service}")["items"]
            live = [item for item in items if "deletionTimestamp" not in item["metadata"]]
            self.existing.append(len(live))
            self.ready.append(sum(1 for item in live if is_ready(item)))

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def is_ready(item: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", []))


def with_argument(manifest: dict[str, Any], value: str) -> dict[str, Any]:
    changed = json.loads(json.dumps(manifest))
    containers = changed["spec"]["template"]["spec"]["roles"][0]["template"]["spec"]["containers"]
    containers[0]["env"].append({"name": "RELEASE", "value": value})
    return dict(changed)


def released(system: System, service: str, value: str) -> bool:
    found = releases(system, service)
    return bool(found) and found == [value] * len(found)


def releases(system: System, service: str) -> list[str]:
    """What each pod of the service has in the variable RELEASE, empty where it is unset."""
    environments = [pod["spec"]["containers"][0]["env"] for pod in system.pods(service)]
    return [next((env["value"] for env in variables if env["name"] == "RELEASE"), "") for variables in environments]


def rollout_id(system: System, service: str) -> str:
    revision = system.get("stormservice", service)["status"]["updateRevision"]
    return f"rollout/stormservice/default/{service}/{revision}"


async def test_a_rolling_update_fails_no_request_and_keeps_the_budget(system: System, service: str) -> None:
    manifest = service_manifest(service, 3)
    system.apply(manifest)
    system.wait_ready(service)
    with SteadyLoad(system.endpoint, service) as load, Watched(system, service) as seen:
        system.apply(with_argument(manifest, "two"))
        eventually(lambda: released(system, service, "two"), within=120)
        system.wait_ready(service)
    assert load.failures == 0, load.details
    assert max(seen.existing) <= 4
    assert min(seen.ready) >= 3
    client = await Client.connect(f"127.0.0.1:{system.settings.temporal_port}")
    handle = client.get_workflow_handle(rollout_id(system, service))
    described = await handle.describe()
    assert described.status == WorkflowExecutionStatus.COMPLETED
    history = await handle.fetch_history()
    summaries = [bytes(event.user_metadata.summary.data).decode() for event in history.events]
    assert any("create" in text.lower() and "roleset" in text.lower() for text in summaries), summaries
    assert any("delete" in text.lower() and "roleset" in text.lower() for text in summaries), summaries


def test_scaling_follows_in_both_directions(system: System, service: str) -> None:
    system.apply(service_manifest(service, 2))
    system.wait_ready(service)
    for replicas in (4, 1):
        system.kubectl("scale", f"stormservice/{service}", f"--replicas={replicas}")
        eventually(lambda wanted=replicas: len(system.pods(service)) == wanted)
        eventually(lambda wanted=replicas: scale_of(system, service) == wanted)
        system.wait_ready(service)


def scale_of(system: System, service: str) -> int:
    path = f"/apis/orchestration.aibrix.ai/v1alpha1/namespaces/default/stormservices/{service}/scale"
    return int(json.loads(system.kubectl("get", "--raw", path))["status"]["replicas"])


@pytest.mark.parametrize("moment", [1.5, *(pytest.param(moment, marks=pytest.mark.slow) for moment in (0.3, 3.0))])
def test_an_operator_killed_in_mid_rollout_changes_nothing(system: System, service: str, moment: float) -> None:
    manifest = service_manifest(service, 2)
    system.apply(manifest)
    system.wait_ready(service)
    with SteadyLoad(system.endpoint, service) as load, Watched(system, service) as seen:
        system.apply(with_argument(manifest, "two"))
        time.sleep(moment)
        system.brixflow("kill", "operator")
        eventually(lambda: released(system, service, "two"), within=120)
        system.wait_ready(service)
    assert load.failures == 0, load.details
    assert max(seen.existing) <= 3
    assert min(seen.ready) >= 2
    assert len(system.get("rolesets", "-l", f"storm-service-name={service}")["items"]) == 2


def test_a_pause_holds_the_rollout_and_a_resume_ends_it(system: System, service: str) -> None:
    manifest = service_manifest(service, 2)
    system.apply(manifest)
    system.wait_ready(service)
    system.apply(with_argument({**manifest, "spec": {**manifest["spec"], "paused": True}}, "two"))
    eventually(lambda: is_paused(system, service))
    time.sleep(1)
    assert releases(system, service) == ["", ""]
    system.kubectl("patch", "stormservice", service, "--type=merge", "-p", '{"spec":{"paused":false}}')
    eventually(lambda: released(system, service, "two"), within=120)


def is_paused(system: System, service: str) -> bool:
    conditions = system.get("stormservice", service)["status"]["conditions"]
    return any(each["type"] == "Progressing" and each["reason"] == "Paused" for each in conditions)


async def test_a_deleted_service_leaves_nothing_behind(system: System, service: str) -> None:
    system.apply(service_manifest(service, 2))
    system.wait_ready(service)
    system.kubectl("delete", "stormservice", service, "--timeout=90s")
    selector = ("-l", f"storm-service-name={service}")
    eventually(lambda: not system.get("pods", *selector)["items"])
    eventually(lambda: not system.get("rolesets", *selector)["items"])
    eventually(lambda: not system.get("controllerrevisions", "-l", f"name={service}")["items"])
    eventually(lambda: not system.kubectl("get", "service", service, "--ignore-not-found"))
    client = await Client.connect(f"127.0.0.1:{system.settings.temporal_port}")
    handle = client.get_workflow_handle(f"stormservice/default/{service}")
    for _ in range(100):
        if (await handle.describe()).status == WorkflowExecutionStatus.COMPLETED:
            return
        await asyncio.sleep(0.2)
    raise AssertionError((await handle.describe()).status)


@pytest.mark.slow
def test_objects_follow_with_no_workflow_cache_at_all(system: System, service: str) -> None:
    system.environment["BRIXFLOW_WORKFLOW_CACHE"] = "0"
    assert "operator" in system.brixflow("up")
    try:
        manifest = service_manifest(service, 2)
        system.apply(manifest)
        system.wait_ready(service)
        system.apply(with_argument(manifest, "two"))
        eventually(lambda: released(system, service, "two"), within=120)
    finally:
        del system.environment["BRIXFLOW_WORKFLOW_CACHE"]
        system.brixflow("up")
