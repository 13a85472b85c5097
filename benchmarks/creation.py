"""Seconds until 100 StormServices of 2 RoleSets with 2 pods each exist, beside a plain client that creates the same.

    python -m benchmarks.creation --start-operator          # both phases, an operator of its own for the second
    python -m benchmarks.creation --phase operator          # with the operator that runs already
    python -m benchmarks.creation --phase plain             # no operator may run

KUBECONFIG and TEMPORAL_ADDRESS say where. Pods ask for a node that does not exist: only their creation is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from activities.credentials import Credentials
from activities.errors import KubeError, KubeNotFound
from activities.kube import KubeClient, path_of
from activities.resources import PODS, REVISIONS, ROLESETS, SERVICES, STORM_SERVICES
from benchmarks.figure import Figure
from local.settings import LocalSettings
from planning import names, render
from planning.planner import Json, Resource
from planning.wire import CreateRevision

ROLESETS_EACH = 2
PODS_EACH = 2
NAMESPACES = Resource("", "v1", "namespaces", "Namespace")
LIMIT_SECONDS = 180.0
CHECKOUT = Path(__file__).resolve().parent.parent


def storm_service(index: int, namespace: str) -> Json:
    """Like the quickstart: one role, environment, a probe."""
    name = f"bench-{index:03d}"
    container = {
        "name": "engine",
        "image": "aibrix/vllm-mock:nightly",
        "command": ["python3", "app.py"],
        "env": [{"name": "MODEL_NAME", "value": name}, {"name": "STANDALONE_MODE", "value": "true"}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 1},
    }
    labels = {"app": name, "model.aibrix.ai/name": name, "model.aibrix.ai/port": "8000"}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "nodeSelector": {"brixflow.aibrix.ai/benchmark": "no-node"}},
    }
    role = {"name": "engine", "replicas": PODS_EACH, "template": pod}
    return {
        "apiVersion": STORM_SERVICES.api_version,
        "kind": STORM_SERVICES.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": ROLESETS_EACH,
            "selector": {"matchLabels": {"app": name}},
            "updateStrategy": {"type": "RollingUpdate", "maxSurge": 1, "maxUnavailable": 0},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"roles": [role]}},
        },
    }


async def create_all(client: KubeClient, namespace: str, services: int) -> list[Json]:
    bodies = (storm_service(index, namespace) for index in range(services))
    return await asyncio.gather(*(client.create(STORM_SERVICES, namespace, body) for body in bodies))


async def create_children(client: KubeClient, namespace: str, storm: Json) -> None:
    """What the operator makes of one StormService, made without asking anybody."""
    name = storm["metadata"]["name"]
    digest = names.template_digest(storm["spec"]["template"])
    step = CreateRevision(name=f"{name}-1", revision=1, hash=names.short_hash(digest), digest=digest)
    revision, _ = await asyncio.gather(
        client.create(REVISIONS, namespace, render.render_revision(storm, step)),
        client.create(SERVICES, namespace, render.render_service(storm)),
    )

    async def roleset(index: int) -> None:
        body = render.render_roleset(storm, revision, index, f"{name}-roleset-{index}")
        body["metadata"].pop("finalizers", None)
        made = await client.create(ROLESETS, namespace, body)
        pods = (
            render.render_pod(made, "engine", name=f"{name}-{index}-{place}", slot=None) for place in range(PODS_EACH)
        )
        await asyncio.gather(*(client.create(PODS, namespace, pod) for pod in pods))

    await asyncio.gather(*(roleset(index) for index in range(ROLESETS_EACH)))


async def count(client: KubeClient, resource: Resource, namespace: str) -> int:
    page = await client.call("GET", path_of(resource, namespace), params={"limit": "1"})
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)


async def wait_for(client: KubeClient, namespace: str, services: int, out: Callable[[str], None]) -> None:
    """Return once every object exists."""
    wanted = {ROLESETS: services * ROLESETS_EACH, PODS: services * ROLESETS_EACH * PODS_EACH}
    wanted |= {SERVICES: services, REVISIONS: services}
    ends = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < ends:
        found = {resource: await count(client, resource, namespace) for resource in wanted}
        if all(found[resource] >= number for resource, number in wanted.items()):
            return
        await asyncio.sleep(0.2)
    out(f"gave up: {', '.join(f'{resource.plural} {number}' for resource, number in found.items())}")
    raise SystemExit(1)


@asynccontextmanager
async def namespace_of(client: KubeClient, name: str) -> AsyncIterator[str]:
    await client.call("POST", path_of(NAMESPACES), body={"metadata": {"name": name}})
    try:
        yield name
    finally:
        await client.call("DELETE", path_of(NAMESPACES, None, name))
        ends = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < ends:
            try:
                await client.call("GET", path_of(NAMESPACES, None, name))
            except KubeNotFound:
                return
            await asyncio.sleep(1.0)


@asynccontextmanager
async def own_operator(log: Path) -> AsyncIterator[None]:
    """An operator process of our own, ready, ended afterwards."""
    health = os.environ.get("BRIXFLOW_OPERATOR_HEALTH_ADDRESS", "127.0.0.1:18081")
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workflows.process", cwd=CHECKOUT, stdout=file, stderr=file
        )
    try:
        await wait_ready(health)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def wait_ready(address: str) -> None:
    host, _, port = address.rpartition(":")
    for _ in range(300):
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer.split(b"\r\n", 1)[0]:
                await asyncio.sleep(2.0)
                return
        except OSError:
            pass
        await asyncio.sleep(0.2)
    raise SystemExit("the operator does not become ready")


async def timed(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def plain_phase(client: KubeClient, services: int) -> float:
    async with namespace_of(client, f"bench-plain-{os.getpid()}") as namespace:

        async def work() -> None:
            storms = await create_all(client, namespace, services)
            await asyncio.gather(*(create_children(client, namespace, storm) for storm in storms))

        return await timed(work())


async def operator_phase(client: KubeClient, services: int, out: Callable[[str], None]) -> float:
    async with namespace_of(client, f"bench-operator-{os.getpid()}") as namespace:

        async def work() -> None:
            await create_all(client, namespace, services)
            await wait_for(client, namespace, services, out)

        return await timed(work())


async def measure(arguments: argparse.Namespace) -> dict[str, float]:
    client = KubeClient(Credentials(os.environ.get("KUBECONFIG")))
    found: dict[str, float] = {}
    try:
        if arguments.phase in ("both", "plain"):
            found["plain_seconds"] = await plain_phase(client, arguments.services)
        if arguments.phase in ("both", "operator"):
            if arguments.start_operator:
                async with own_operator(arguments.log):
                    found["operator_seconds"] = await operator_phase(client, arguments.services, print)
            else:
                found["operator_seconds"] = await operator_phase(client, arguments.services, print)
    except KubeError as error:
        raise SystemExit(f"the API server refuses: {error}") from error
    finally:
        await client.close()
    if len(found) == 2:
        found["ratio"] = found["operator_seconds"] / found["plain_seconds"]
    return found


def figures() -> Iterator[Figure]:
    """Both phases on the local system of BRIXFLOW_HOME; its operator is held back while the plain client works."""
    settings = LocalSettings.from_environment()
    os.environ["KUBECONFIG"] = str(settings.kubeconfig)
    brixflow = str(Path(sys.executable).parent / "brixflow")
    subprocess.run([brixflow, "stop", "operator"], check=True, stdout=subprocess.DEVNULL)
    try:
        plain = uvloop.run(phase("plain"))
    finally:
        subprocess.run([brixflow, "start", "operator"], check=True, stdout=subprocess.DEVNULL)
    uvloop.run(wait_ready(f"127.0.0.1:{settings.operator_health_port}"))
    acted = uvloop.run(phase("operator"))
    yield Figure("100 StormServices by a plain client", plain, "s")
    yield Figure("100 StormServices by the operator", acted, "s", "at most 15")
    yield Figure("operator to plain client", acted / plain, "ratio")


async def phase(name: str) -> float:
    """Seconds of one phase."""
    found = await measure(argparse.Namespace(services=100, phase=name, start_operator=False))
    return found[f"{name}_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--phase", choices=("both", "plain", "operator"), default="both")
    parser.add_argument("--start-operator", action="store_true")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="where the started operator logs to")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = uvloop.run(measure(arguments))
    if arguments.json:
        print(json.dumps(found))
    else:
        print("  ".join(f"{name} {value:.2f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
