"""What the tests of the loop share: an operator as a process or in this one, and a stand-in for the kubelet.

Everything is real but the node: pods are marked Ready by a patch of their status, which is all that the operator sees
of a kubelet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from activities.credentials import Credentials
from activities.errors import KubeError, KubeNotFound
from activities.kube import MERGE_PATCH, KubeClient, path_of
from activities.resources import PODS, PODSETS, REVISIONS, ROLESETS, SERVICES, STORM_SERVICES
from planning.planner import Json, Resource
from workflows.operator import Operator
from workflows.settings import OperatorSettings, TemporalSettings

CHECKOUT = Path(__file__).parents[2]
NAMESPACES = Resource("", "v1", "namespaces", "Namespace")
HEARTBEAT_SECONDS = 2.0
PATIENCE_SECONDS = 40.0
START_SECONDS = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def eventually(check: Callable[[], Awaitable[Any]], seconds: float = PATIENCE_SECONDS, what: str = "") -> Any:
    """The first true answer of `check`; fails with the last one after `seconds`."""
    ends, last = time.monotonic() + seconds, None
    while time.monotonic() < ends:
        last = await check()
        if last:
            return last
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what or check.__name__}, last answer {last!r}")


def pod_template(labels: dict[str, str], image: str) -> Json:
    """A pod that no scheduler places: the test alone says how it fares, whatever nodes the control plane has."""
    containers = [{"name": "engine", "image": image}]
    return {"metadata": {"labels": labels}, "spec": {"schedulerName": "tests", "containers": containers}}


def storm_service(name: str, *, replicas: int = 1, image: str = "v1", **spec: Any) -> Json:
    """A StormService of one role with one pod."""
    labels = {"app": name, "model.aibrix.ai/name": name, "model.aibrix.ai/port": "8000"}
    pod = pod_template(labels, f"engine:{image}")
    return {
        "apiVersion": STORM_SERVICES.api_version,
        "kind": "StormService",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "updateStrategy": {"type": "RollingUpdate", "maxSurge": 1, "maxUnavailable": 0},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"roles": [{"name": "engine", "replicas": 1, "template": pod}]},
            },
            **spec,
        },
    }


def role_set(name: str, *, replicas: int = 1) -> Json:
    """A stand-alone RoleSet."""
    pod = pod_template({"app": name}, "engine:v1")
    spec = {"roles": [{"name": "engine", "replicas": replicas, "template": pod}]}
    return {"apiVersion": ROLESETS.api_version, "kind": "RoleSet", "metadata": {"name": name}, "spec": spec}


@dataclass
class World:
    """One Kubernetes namespace, seen by an administrator."""

    client: KubeClient
    namespace: str

    async def create(self, body: Json) -> Json:
        resource = {"RoleSet": ROLESETS, "PodSet": PODSETS}.get(body["kind"], STORM_SERVICES)
        return await self.client.create(resource, self.namespace, body)

    async def get(self, resource: Resource, name: str) -> Json | None:
        with suppress(KubeNotFound):
            return await self.client.get(resource, self.namespace, name)
        return None

    async def all(self, resource: Resource) -> list[Json]:
        found = await self.client.call("GET", path_of(resource, self.namespace))
        return list(found["items"])

    async def patch(self, resource: Resource, name: str, body: Json) -> Json:
        return await self.client.patch(resource, self.namespace, name, body)

    async def delete(self, resource: Resource, name: str) -> None:
        await self.client.call("DELETE", path_of(resource, self.namespace, name))

    async def set_image(self, name: str, image: str) -> None:
        storm = await self.client.get(STORM_SERVICES, self.namespace, name)
        template = storm["spec"]["template"]
        template["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = f"engine:{image}"
        await self.patch(STORM_SERVICES, name, {"spec": {"template": template}})

    async def make_ready(self) -> None:
        """Be the kubelet once: every pod that is not leaving becomes Ready."""
        for pod in await self.all(PODS):
            conditions = pod.get("status", {}).get("conditions") or []
            ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
            if not ready and "deletionTimestamp" not in pod["metadata"]:
                await self._set_ready(pod["metadata"]["name"])

    async def _set_ready(self, name: str) -> None:
        since = "2026-01-01T00:00:00Z"
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": since} for kind in ("Ready", "PodScheduled")
        ]
        status = {"phase": "Running", "conditions": conditions, "podIP": "10.1.2.3"}
        with suppress(KubeError):
            await self.client.call(
                "PATCH",
                path_of(PODS, self.namespace, name, "status"),
                body={"status": status},
                content_type=MERGE_PATCH,
            )

    async def set_pod_waiting(self, name: str, why: str, said: str, *, exit_code: int = 0, message: str = "") -> None:
        """Be the kubelet of a pod whose container cannot run."""
        engine: Json = {"name": "engine", "ready": False, "restartCount": 3, "image": "", "imageID": ""}
        engine["state"] = {"waiting": {"reason": why, "message": said}}
        if exit_code:
            engine["lastState"] = {"terminated": {"exitCode": exit_code, "reason": "Error", "message": message}}
        await self.client.call(
            "PATCH", path_of(PODS, self.namespace, name, "status"),
            body={"status": {"phase": "Running", "containerStatuses": [engine]}}, content_type=MERGE_PATCH,
        )  # fmt: skip

    @staticmethod
    def is_pod_ready(pod: Json) -> bool:
        conditions = pod.get("status", {}).get("conditions") or []
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        return ready and "deletionTimestamp" not in pod["metadata"]

    async def set_unready(self, name: str) -> None:
        """The pod stops serving by itself."""
        conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:01Z"}]
        path = path_of(PODS, self.namespace, name, "status")
        await self.client.call("PATCH", path, body={"status": {"conditions": conditions}}, content_type=MERGE_PATCH)

    @asynccontextmanager
    async def kubelet(self) -> AsyncIterator[None]:
        """Pods become Ready about as soon as they exist."""

        async def run() -> None:
            while True:
                with suppress(KubeError):
                    await self.make_ready()
                await asyncio.sleep(0.2)

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            task.cancel()

    async def is_ready(self, name: str, resource: Resource = STORM_SERVICES) -> bool:
        """Ready=True for the generation of the moment."""
        found = await self.get(resource, name)
        status = (found or {}).get("status") or {}
        conditions = {each["type"]: each["status"] for each in status.get("conditions") or []}
        same = found is not None and status.get("observedGeneration") == found["metadata"]["generation"]
        return same and conditions.get("Ready") == "True"

    async def is_at(self, name: str, image: str, replicas: int) -> bool:
        """Ready, every pod of its runs `image`, and there are exactly as many RoleSets and pods as asked for."""
        pods, rolesets = await self.of(name, PODS), await self.of(name, ROLESETS)
        images = {pod["spec"]["containers"][0]["image"] for pod in pods}
        counts = (len(pods), len(rolesets)) == (replicas, replicas)
        return counts and images <= {f"engine:{image}"} and await self.is_ready(name)

    async def of(self, name: str, resource: Resource) -> list[Json]:
        """Those that belong to the StormService `name`: another one's carry its label."""
        return [
            each for each in await self.all(resource) if each["metadata"].get("labels", {}).get("app", name) == name
        ]

    async def is_empty(self) -> bool:
        kinds = (STORM_SERVICES, ROLESETS, PODS, REVISIONS, SERVICES)
        return not any([await self.all(resource) for resource in kinds])


@asynccontextmanager
async def world_in(kubeconfig: Path) -> AsyncIterator[World]:
    """A fresh namespace that leaves nothing behind, with or without an operator."""
    client = KubeClient(Credentials(str(kubeconfig)))
    name = f"flow-{os.getpid()}-{time.monotonic_ns() % 10**8}"
    await client.call("POST", path_of(NAMESPACES), body={"metadata": {"name": name}})
    world = World(client, name)
    try:
        yield world
    finally:
        await _release_all(world)
        await client.call("DELETE", path_of(NAMESPACES, None, name))
        await client.close()


async def _release_all(world: World) -> None:
    for resource in (STORM_SERVICES, ROLESETS, PODSETS):
        for obj in await world.all(resource):
            name = obj["metadata"]["name"]
            with suppress(KubeError):
                await world.delete(resource, name)
                await world.patch(resource, name, {"metadata": {"finalizers": None}})


@dataclass
class OperatorProcess:
    """`python -m workflows.process`, to be killed."""

    kubeconfig: Path
    temporal_address: str
    log: Path
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    port: int = field(default_factory=free_port)

    def start(self) -> None:
        address = f"127.0.0.1:{self.port}"
        environment = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "TEMPORAL_ADDRESS": self.temporal_address,
            "BRIXFLOW_OPERATOR_METRICS_ADDRESS": address,
            "BRIXFLOW_OPERATOR_HEALTH_ADDRESS": address,
            "BRIXFLOW_WATCH_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "BRIXFLOW_WORKFLOW_CACHE": str(workflow_cache()),
            **self.variables,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workflows.process"], cwd=CHECKOUT, env=environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL, as if the machine had died."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, 15)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    async def fetch(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nothing answers."""
        with suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, await answer.text()
        return 0, ""

    async def is_leader(self) -> bool:
        _, text = await self.fetch("/metrics")
        return "brixflow_leader 1.0" in text

    async def started(self) -> None:
        self.start()
        await eventually(self.is_leader, seconds=START_SECONDS, what=f"the operator leads, see {self.log}")

    def steps(self) -> list[str]:
        """The log's lines about steps that were carried out."""
        return [line for line in self.log.read_text().splitlines() if " step object=" in line]


def workflow_cache() -> int:
    """One lane of the tests runs with 0: every workflow task replays from the start."""
    return int(os.environ.get("BRIXFLOW_TEST_WORKFLOW_CACHE", "1000"))


@asynccontextmanager
async def operator_in_process(kubeconfig: Path, temporal_address: str, **changes: Any) -> AsyncIterator[Operator]:
    """An operator in this process, leading."""
    address = ("127.0.0.1", free_port())
    settings = OperatorSettings(
        temporal=TemporalSettings(address=temporal_address),
        identity=f"test-{os.getpid()}",
        kubeconfig=str(kubeconfig),
        metrics_address=address,
        health_address=address,
        heartbeat=timedelta(seconds=HEARTBEAT_SECONDS),
        workflow_cache=workflow_cache(),
    )
    operator = Operator(replace(settings, **changes))
    stop = asyncio.Event()
    running = asyncio.create_task(operator.run(stop))
    try:

        async def leads() -> bool:
            if running.done():
                await running
            return operator.acting

        await eventually(leads, what="the operator acts")
        yield operator
    finally:
        stop.set()
        await running


def names(objects: Iterable[Json]) -> set[str]:
    return {each["metadata"]["name"] for each in objects}


def uids(objects: Iterable[Json]) -> set[str]:
    return {each["metadata"]["uid"] for each in objects}


@dataclass
class TemporalServer:
    """A Temporal of one's own, to be killed: its database is a file, so it comes back with everything."""

    database: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        values = [part for option in self.options for part in ("--dynamic-config-value", option)]
        program = Path(sys.executable).parent / "temporal"
        command = [str(program), "server", "start-dev", "--headless", "--port", str(self.port)]
        command += ["--db-filename", str(self.database), "--log-level", "never", *values]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def forget(self) -> None:
        """Delete the database, as when the disk is lost."""
        for path in self.database.parent.glob(f"{self.database.name}*"):
            path.unlink()
