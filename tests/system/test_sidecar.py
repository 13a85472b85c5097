"""An injected sidecar runs beside its engine and becomes ready: webhook, Deployment, node agent and runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system.harness import System, eventually

pytestmark = pytest.mark.system
SAMPLE = Path(__file__).parents[2] / "deploy" / "samples" / "deployment-sidecar.yaml"


def test_an_injected_sidecar_becomes_ready_and_renames_its_engines_metrics(system: System) -> None:
    system.kubectl("apply", "--server-side", "-f", str(SAMPLE))
    try:

        def ready() -> Any:
            (pod,) = system.get("pods", "-l", "app=plain")["items"]
            states = {each["name"]: each["ready"] for each in pod["status"].get("containerStatuses", ())}
            return pod if states == {"aibrix-runtime": True, "engine": True} else None

        pod = eventually(ready)
        page = requests.get(f"http://{pod['status']['podIP']}:8080/metrics", timeout=5).text
        assert "vllm:num_requests_waiting" in page
        assert "aibrix:queue_size" in page
    finally:
        system.kubectl("delete", "-f", str(SAMPLE), "--wait=false")
