"""Engines of several pods on the whole system: ranks find each other by name, only the first ones are asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.harness import System, eventually, service_manifest
from tests.system.load import SteadyLoad

pytestmark = pytest.mark.system
INDEX = "stormservice.orchestration.aibrix.ai/pod-group-index"


def groups_manifest(name: str, latency: str = "0.02") -> dict[str, Any]:
    """Two groups of two pods, each of which starts once it has found its first rank by name."""
    manifest = service_manifest(name, 1, updateStrategy={"type": "InPlaceUpdate"})
    (role,) = manifest["spec"]["template"]["spec"]["roles"]
    role |= {"replicas": 2, "podGroupSize": 2, "updateStrategy": {"maxSurge": 1, "maxUnavailable": 0}}
    spec = role["template"]["spec"]
    find = f"until getent hosts ${{PODSET_NAME}}-0.{name}.default.svc.cluster.local; do sleep 0.2; done"
    spec["initContainers"] = [{"name": "find", "image": "busybox:1.36", "command": ["sh", "-c", find]}]
    spec["containers"][0]["env"][1]["value"] = latency
    return manifest


def groups_of(system: System, service: str) -> dict[str, set[str]]:
    """Names of the pods by index."""
    found: dict[str, set[str]] = {}
    for pod in system.pods(service):
        found.setdefault(pod["metadata"]["labels"][INDEX], set()).add(pod["metadata"]["name"])
    return found


def test_groups_serve(system: System, service: str) -> None:
    """Two groups take requests at their first rank, and an update, one group after another, fails none of them."""
    system.apply(groups_manifest(service))
    system.wait_ready(service, within=120)
    before = groups_of(system, service)
    assert {index: len(pods) for index, pods in before.items()} == {"0": 2, "1": 2}
    with SteadyLoad(system.endpoint, service) as load:
        eventually(lambda: len(load.pods) == 2)
        system.apply(groups_manifest(service, latency="0.03"))
        system.wait_ready(service, within=120)
        eventually(lambda: not before["0"] & groups_of(system, service)["0"])
        after = groups_of(system, service)
    assert load.failures == 0, load.details
    assert set(load.pods) <= before["0"] | after["0"]
