"""How soon readiness is seen, what a replaced RoleSet costs in history, and how fast a StormService is gone."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import uvloop
from temporalio.client import Client

from activities.errors import KubeError
from activities.kube import path_of
from activities.resources import PODS, REVISIONS, ROLESETS, SERVICES, STORM_SERVICES
from benchmarks.figure import Figure
from benchmarks.objects import Bench, bench, until
from local.settings import LocalSettings

SAMPLES = 60
SERVICES_WATCHED = 10
REPLICAS = 10
SHOWN_SECONDS = 12.0
"""After that time every RoleSet has shown that it is ready: what follows belongs to the update."""
LARGE = (10, 5)
"""RoleSets and pods in each of the StormService that is deleted."""


def figures() -> Iterator[Figure]:
    settings = LocalSettings.from_environment()
    os.environ["KUBECONFIG"] = str(settings.kubeconfig)
    os.environ["TEMPORAL_ADDRESS"] = settings.temporal_address
    yield from uvloop.run(measured())


async def measured() -> list[Figure]:
    return [figure async for figure in _measure()]


async def _measure() -> AsyncIterator[Figure]:
    seen = sorted(await readiness_seconds())
    yield Figure("pod readiness to StormService status, p50", statistics.median(seen) * 1000, "ms", "at most 300")
    yield Figure("pod readiness to StormService status, p99", seen[int(len(seen) * 0.99)] * 1000, "ms", "at most 1,000")
    for surge, target in ((5, 60), (1, 90)):
        events = await events_per_roleset(surge)
        yield Figure(f"history events a replaced RoleSet, surge {surge}", events, "events", f"at most {target}")
    yield Figure("StormService with 50 pods deleted", await deletion_seconds(), "s", "at most 15")


# --- readiness -------------------------------------------------------------------------------------------------------


async def readiness_seconds() -> list[float]:
    """From the answer to a pod's status patch to the StormService's event in a watch of our own."""
    async with bench("ready") as made:
        for index in range(SERVICES_WATCHED):
            await made.create(index, replicas=1)
        async with made.kubelet():
            await until(lambda: made.are_complete(SERVICES_WATCHED), "StormServices become ready")
        await asyncio.sleep(2.0)
        pods = {pod["metadata"]["labels"]["app"]: pod for pod in await made.all(PODS)}
        seen = Seen(made)
        watching = asyncio.create_task(seen.run())
        await asyncio.sleep(1.0)
        found = []
        for sample in range(SAMPLES):
            name = f"bench-{sample % SERVICES_WATCHED:03d}"
            await made.set_ready(pods[name], False)
            await seen.has(name, 0)
            await asyncio.sleep(0.7)
            began = time.perf_counter()
            await made.set_ready(pods[name], True)
            found.append(await seen.has(name, 1) - began)
        watching.cancel()
        return found


class Seen:
    """When each StormService's number of ready RoleSets last changed."""

    def __init__(self, made: Bench) -> None:
        self._made = made
        self._ready: dict[str, tuple[int, float]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                path = path_of(STORM_SERVICES, self._made.namespace)
                async for event in self._made.client.watch(path, {"watch": "1"}, 60.0):
                    self._take(event["object"])
            except KubeError:
                await asyncio.sleep(0.1)

    def _take(self, storm: dict[str, object]) -> None:
        status = storm.get("status")
        metadata = storm.get("metadata")
        if not isinstance(status, dict) or not isinstance(metadata, dict):
            return
        name, ready = metadata["name"], int(status.get("readyReplicas") or 0)
        if self._ready.get(name, (-1, 0.0))[0] != ready:
            self._ready[name] = (ready, time.perf_counter())
            self._changed.set()

    async def has(self, name: str, ready: int) -> float:
        while self._ready.get(name, (-1, 0.0))[0] != ready:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 30.0)
        return self._ready[name][1]


# --- history ---------------------------------------------------------------------------------------------------------


async def events_per_roleset(surge: int) -> float:
    """Events of all workflows that a rolling update of ten RoleSets takes, for each RoleSet."""
    temporal = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    async with bench(f"surge-{surge}") as made:
        strategy = {"type": "RollingUpdate", "maxSurge": surge, "maxUnavailable": 0}
        await made.create(0, replicas=REPLICAS, updateStrategy=strategy)
        async with made.kubelet():
            await until(lambda: made.is_complete(0), "the StormService becomes ready")
            await asyncio.sleep(SHOWN_SECONDS)
            names = set(await made.rolesets_of(0))
            before = await events(temporal, made, names)
            storm = await made.storm(0)
            template = storm["spec"]["template"]
            template["spec"]["roles"][0]["template"]["spec"]["containers"][0]["env"].append({"name": "V", "value": "2"})
            await made.client.patch(STORM_SERVICES, made.namespace, "bench-000", {"spec": {"template": template}})
            await asyncio.sleep(1.0)

            async def is_over() -> bool:
                names.update(await made.rolesets_of(0))
                return await made.is_complete(0) and len(await made.rolesets_of(0)) == REPLICAS

            await until(is_over, "the rolling update ends")
            await asyncio.sleep(SHOWN_SECONDS)
        return (await events(temporal, made, names) - before) / REPLICAS


async def events(temporal: Client, made: Bench, rolesets: set[str]) -> int:
    """Of the object's workflow, its rollouts and the RoleSets' workflows, those of closed ones included."""
    owner = f"stormservice/{made.namespace}/bench-000"
    revisions = [each["metadata"]["name"] for each in await made.all(REVISIONS)]
    ids = [owner, *(f"rollout/{owner}/{name}" for name in revisions)]
    ids += [f"roleset/{made.namespace}/{name}" for name in rolesets]
    found = await asyncio.gather(*(temporal.get_workflow_handle(each).describe() for each in ids))
    return sum(each.history_length for each in found)


# --- deletion --------------------------------------------------------------------------------------------------------


async def deletion_seconds() -> float:
    async with bench("deletion") as made:
        rolesets, pods = LARGE
        await made.create(0, replicas=rolesets, roleset_pods=pods)
        async with made.kubelet():
            await until(lambda: made.is_complete(0), "the StormService becomes ready")

        async def is_gone() -> bool:
            kinds = (STORM_SERVICES, ROLESETS, PODS, REVISIONS, SERVICES)
            return not any([await made.all(resource) for resource in kinds])

        began = time.perf_counter()
        await made.client.call("DELETE", path_of(STORM_SERVICES, made.namespace, "bench-000"))
        await until(is_gone, "the StormService is gone", pause=0.1)
        return time.perf_counter() - began


if __name__ == "__main__":
    for figure in uvloop.run(measured()):
        print(f"{figure.name}: {figure.value:,.1f} {figure.unit} {figure.target}")
