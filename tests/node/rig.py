"""A node agent of our own on the shared control plane, and short words for what the tests ask of its pods."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from local.control_plane_only import ControlPlane
from local.node.api import ApiClient, NotFoundError
from local.node.settings import CHECKOUT, NodeSettings
from local.node.shim import find_shim
from tests.slot import SLOT

Json = dict[str, Any]
PORT = 27010 + 40 * SLOT
BACKOFF_SECONDS = 1
REFRESH_SECONDS = 1


class Agent:
    """The agent's process: started, stopped and killed by tests."""

    def __init__(self, control_plane: ControlPlane, home: Path) -> None:
        shared = control_plane.settings
        self.control_plane = control_plane
        self.settings = NodeSettings(
            home=home,
            kubeconfig=control_plane.node_kubeconfig,
            node_cert=control_plane.node_cert,
            node_key=control_plane.node_key,
            client_ca=control_plane.client_ca,
            name=shared.node_name,
            port=PORT,
            pod_range=IPv4Network(shared.pod_cidr),
            bridge=shared.bridge,
            api_server_port=control_plane.api_port,
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = self.settings
        variables = {
            "KUBECONFIG": settings.kubeconfig,
            "BRIXFLOW_HOME": settings.home,
            "BRIXFLOW_NODE_NAME": settings.name,
            "BRIXFLOW_NODE_PORT": settings.port,
            "BRIXFLOW_POD_CIDR": settings.pod_range,
            "BRIXFLOW_BRIDGE": settings.bridge,
            "BRIXFLOW_API_SERVER_PORT": settings.api_server_port,
            "BRIXFLOW_NODE_CERT": settings.node_cert,
            "BRIXFLOW_NODE_KEY": settings.node_key,
            "BRIXFLOW_CLIENT_CA": settings.client_ca,
            "BRIXFLOW_NODE_BACKOFF_SECONDS": BACKOFF_SECONDS,
            "BRIXFLOW_NODE_VOLUME_REFRESH_SECONDS": REFRESH_SECONDS,
            "BRIXFLOW_NODE_LABELS": "example.com/room=node",
        }
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        with (settings.home / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.node"], cwd=CHECKOUT, env=environment, stdout=log, stderr=log
            )

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        assert self._process.wait(20) == 0

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def pod_folder(self, pod: Json) -> Path:
        return self.settings.directory / "pods" / str(pod["metadata"]["uid"])

    def first_process(self, pod: Json) -> int:
        """The pid, on the machine, of the pod's first container."""
        shim = self.shim_pid(pod)
        return int(Path(f"/proc/{shim}/task/{shim}/children").read_text().split()[0])

    def shim_pid(self, pod: Json) -> int:
        identity = find_shim(self.pod_folder(pod))
        assert identity, "the pod has no shim"
        return identity.pid


class Pods:
    """Pods of one test's namespace."""

    def __init__(self, api: ApiClient, agent: Agent, namespace: str) -> None:
        self.api = api
        self.agent = agent
        self.namespace = namespace
        self.path = f"/api/v1/namespaces/{namespace}"

    def kubectl(self, *words: str, given: str | None = None) -> str:
        return str(self.agent.control_plane.kubectl("--namespace", self.namespace, *words, input=given))

    async def run(
        self, name: str, *command: str, image: str = "busybox:1.36", spec: Json | None = None, **more: Any
    ) -> Json:
        """Creates a pod with one container `main`; `more` goes into the container, `spec` into the pod."""
        container = {"name": "main", "image": image, **({"command": list(command)} if command else {}), **more}
        body = {"terminationGracePeriodSeconds": 2, "containers": [container], **(spec or {})}
        return await self.create({"metadata": {"name": name}, "spec": body})

    async def create(self, pod: Json) -> Json:
        return await self.api.post(f"{self.path}/pods", {"apiVersion": "v1", "kind": "Pod", **pod})

    async def add(self, kind: str, name: str, data: dict[str, str]) -> None:
        body = {"metadata": {"name": name}, "stringData" if kind == "secrets" else "data": data}
        await self.api.post(f"{self.path}/{kind}", body)

    async def get(self, name: str) -> Json:
        return await self.api.get(f"{self.path}/pods/{name}")

    async def until(self, name: str, holds: Callable[[Json], Any], seconds: float = 40) -> Json:
        """Waits until `holds` is true of the pod; the pod."""
        deadline = time.monotonic() + seconds
        while True:
            pod = await self.get(name)
            if holds(pod):
                return pod
            assert time.monotonic() < deadline, f"{name} stays {pod['status']}"
            await asyncio.sleep(0.1)

    async def until_gone(self, name: str, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                pod = await self.get(name)
            except NotFoundError:
                return
            assert time.monotonic() < deadline, f"{name} stays {pod['status']}"
            await asyncio.sleep(0.1)

    async def delete(self, name: str, **options: Any) -> None:
        await self.api.request("DELETE", f"{self.path}/pods/{name}", options)

    async def patch(self, name: str, body: Json) -> Json:
        return await self.api.request(
            "PATCH", f"{self.path}/pods/{name}", body, "application/strategic-merge-patch+json"
        )

    async def text(self, name: str, contains: str, *options: str, seconds: float = 20) -> str:
        """The pod's log once it contains a text."""
        deadline = time.monotonic() + seconds
        while contains not in (log := await asyncio.to_thread(self._logs, name, *options)):
            assert time.monotonic() < deadline, f"the log of {name} is {log!r}"
            await asyncio.sleep(0.2)
        return log

    def _logs(self, name: str, *options: str) -> str:
        try:
            return self.kubectl("logs", name, *options)
        except Exception as error:
            return f"no log: {error}"


async def until_true(holds: Callable[[], bool], seconds: float = 40) -> None:
    """Waits for a fact outside the cluster."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it stays untrue"
        await asyncio.sleep(0.1)


def is_ready(pod: Json) -> bool:
    return condition(pod, "Ready") == "True"


def condition(pod: Json, kind: str) -> str:
    return next((one["status"] for one in pod["status"].get("conditions", ()) if one["type"] == kind), "")


def container(pod: Json, name: str = "main") -> Json:
    """The status of a container or init container; empty while there is none."""
    status = pod["status"]
    listed = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    return next((one for one in listed if one["name"] == name), {})


def waiting_reason(pod: Json, name: str = "main") -> str:
    return str(container(pod, name).get("state", {}).get("waiting", {}).get("reason", ""))


def is_running(pod: Json, name: str = "main") -> bool:
    return "running" in container(pod, name).get("state", {})


def restarts(pod: Json, name: str = "main") -> int:
    return int(container(pod, name).get("restartCount", 0))
