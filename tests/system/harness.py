"""A running local system as tests see it: the commands that a user has, and what they show."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.settings import LocalSettings

BIN = Path(sys.executable).parent


def eventually(check: Callable[[], Any], within: float = 60, every: float = 0.25) -> Any:
    """The first true answer of `check`; its last answer or error is the failure's text."""
    last: Any = None
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            last = check()
            if last:
                return last
        except (AssertionError, KeyError, IndexError, OSError, subprocess.CalledProcessError) as error:
            last = error
        time.sleep(every)
    raise AssertionError(f"not within {within} s; last seen: {last!r}")


@dataclass
class System:
    """A running local system and the commands that a user has for it."""

    environment: dict[str, str]
    settings: LocalSettings
    up_output: str = ""
    first_parts: dict[str, int] = field(default_factory=dict)

    def run(self, *command: str, given: str | None = None, check: bool = True, timeout: float = 180) -> str:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=self.environment, input=given, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        return self.run("kubectl", *arguments, given=given, check=check)

    def brixflow(self, *arguments: str, check: bool = True, timeout: float = 180) -> str:
        return self.run("brixflow", *arguments, check=check, timeout=timeout)

    def get(self, *what: str) -> Any:
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=json.dumps(manifest))

    def pods(self, service: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get("pods", "-l", f"storm-service-name={service}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def condition(self, service: str, kind: str = "Ready") -> str:
        conditions = self.get("stormservice", service).get("status", {}).get("conditions", [])
        return next((str(c["status"]) for c in conditions if c["type"] == kind), "")

    def wait_ready(self, service: str, within: float = 90) -> None:
        def settled() -> bool:
            live = self.get("stormservice", service)
            status = live.get("status", {})
            return (
                status.get("observedGeneration") == live["metadata"]["generation"]
                and self.condition(service) == "True"
                and status.get("currentRevision") == status.get("updateRevision")
            )

        eventually(settled, within)

    def parts(self) -> dict[str, dict[str, Any]]:
        return {part["name"]: part for part in json.loads(self.brixflow("status", "--json", check=False))["parts"]}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.settings.gateway_port}"


def service_manifest(
    name: str, replicas: int = 2, image: str = "aibrix/vllm-mock:nightly", **spec: Any
) -> dict[str, Any]:
    """A StormService with one role of one simulated engine that serves a model of the same name."""
    labels = {"app": name}
    container = {
        "name": "engine", "image": image, "command": ["python3", "app.py"],
        "ports": [{"containerPort": 8000}],
        "env": [{"name": "MODEL_NAME", "value": name}, {"name": "MOCK_BASE_LATENCY_SECONDS", "value": "0.02"}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "failureThreshold": 1},
    }  # fmt: skip
    pod_labels = {**labels, "model.aibrix.ai/name": name, "model.aibrix.ai/port": "8000"}
    role = {
        "name": "worker", "replicas": 1,
        "template": {"metadata": {"labels": pod_labels},
                     "spec": {"terminationGracePeriodSeconds": 10, "containers": [container]}},
    }  # fmt: skip
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "StormService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate", "maxSurge": 1, "maxUnavailable": 0},
            "template": {"metadata": {"labels": labels}, "spec": {"roles": [role]}},
            **spec,
        },
    }
