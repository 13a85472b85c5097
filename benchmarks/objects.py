"""What the benchmarks of the operator share: a client, a namespace with StormServices, and a stand-in for the kubelet.

Pods ask for a node that does not exist; they become Ready by a patch of their status, so that no engine's start is
measured. KUBECONFIG and TEMPORAL_ADDRESS say where; within `make bench` they lead to the benchmark's own system.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from activities.credentials import Credentials
from activities.errors import KubeError, KubeNotFound
from activities.kube import MERGE_PATCH, KubeClient, path_of
from activities.resources import PODS, ROLESETS, STORM_SERVICES
from benchmarks.creation import namespace_of, storm_service
from planning.planner import Json, Resource

PATIENCE_SECONDS = 180.0


def kube_client() -> KubeClient:
    return KubeClient(Credentials(os.environ.get("KUBECONFIG")))


@dataclass
class Bench:
    """One namespace. Everything in it is made, made ready and counted from here."""

    client: KubeClient
    namespace: str

    async def create(self, index: int, **spec: object) -> Json:
        """A StormService `bench-<index>`; `roleset_pods` sets the pods of each RoleSet."""
        pods = spec.pop("roleset_pods", 1)
        body = storm_service(index, self.namespace)
        body["spec"] |= spec
        body["spec"]["template"]["spec"]["roles"][0]["replicas"] = pods
        return await self.client.create(STORM_SERVICES, self.namespace, body)

    async def all(self, resource: Resource) -> list[Json]:
        found = await self.client.call("GET", path_of(resource, self.namespace))
        return list(found["items"])

    async def set_ready(self, pod: Json, ready: bool) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {
            "phase": "Running",
            "conditions": [condition("Ready", ready, now), condition("PodScheduled", True, now)],
        }
        path = path_of(PODS, self.namespace, pod["metadata"]["name"], "status")
        await self.client.call("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)

    async def make_ready(self) -> None:
        waiting = [
            pod for pod in await self.all(PODS) if not is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        ]
        with suppress(KubeError):
            await asyncio.gather(*(self.set_ready(pod, True) for pod in waiting))

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

    async def storm(self, index: int) -> Json:
        return await self.client.get(STORM_SERVICES, self.namespace, f"bench-{index:03d}")

    async def is_complete(self, index: int) -> bool:
        """The StormService is Ready for its generation and its revision is completed."""
        try:
            found = await self.storm(index)
        except KubeNotFound:
            return False
        status = found.get("status") or {}
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
        same = status.get("observedGeneration") == found["metadata"]["generation"]
        return ready and same and status.get("completedRevision") == status.get("updateRevision")

    async def are_complete(self, count: int) -> bool:
        return all([await self.is_complete(index) for index in range(count)])

    async def rolesets_of(self, index: int) -> list[str]:
        found = [each["metadata"] for each in await self.all(ROLESETS)]
        return [each["name"] for each in found if each["name"].startswith(f"bench-{index:03d}-")]


def condition(kind: str, holds: bool, at: str) -> Json:
    return {"type": kind, "status": str(holds), "lastTransitionTime": at}


def is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def until(check: Callable[[], Awaitable[bool]], what: str, pause: float = 0.2) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not await check():
        if time.monotonic() > ends:
            raise SystemExit(f"gave up: {what}")
        await asyncio.sleep(pause)


@asynccontextmanager
async def bench(name: str) -> AsyncIterator[Bench]:
    """A namespace of its own, gone afterwards."""
    client = kube_client()
    try:
        async with namespace_of(client, f"bench-{name}-{os.getpid()}") as namespace:
            yield Bench(client, namespace)
    finally:
        await client.close()
