"""How long the admission server takes for a StormService of 100 KB, over TLS, as the API server asks it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson

from benchmarks.figure import Figure
from crds.admission import certificates
from crds.admission.server import AdmissionServer

Json = dict[str, Any]
SIZE_BYTES = 100_000
REQUESTS = 1000
WARM_UP = 50
TARGET_MS = 20


def figures() -> Iterator[Figure]:
    """Median and 99th percentile of an edit that mutates and of one that is judged, one after the other."""
    for verb in ("mutate", "validate"):
        taken = sorted(asyncio.run(measure(verb)))
        yield Figure(f"{verb} a StormService of 100 KB, p50", taken[len(taken) // 2], "ms")
        yield Figure(f"{verb} a StormService of 100 KB, p99", taken[len(taken) * 99 // 100], "ms", f"below {TARGET_MS}")


async def measure(verb: str) -> list[float]:
    held = certificates.renewed({}, ["localhost"], datetime.now(UTC))
    server = AdmissionServer()
    await server.start("127.0.0.1", 0)
    try:
        await server.show(held[certificates.CERT], held[certificates.KEY])
        trust = ssl.create_default_context(cadata=held[certificates.CA_CERT].decode())
        url = f"https://localhost:{server.port}/{verb}-orchestration-aibrix-ai-v1alpha1-stormservice"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
            return [await ask(session, url) for _ in range(WARM_UP + REQUESTS)][WARM_UP:]
    finally:
        await server.stop()


async def ask(session: aiohttp.ClientSession, url: str) -> float:
    body = orjson.dumps(review())
    start = time.perf_counter()
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
        found = orjson.loads(await answer.read())
    taken = (time.perf_counter() - start) * 1000
    if not found["response"]["allowed"]:
        raise RuntimeError(f"refused: {found}")
    return taken


def review() -> Json:
    """An edit of the size that is asked for, with the object before it."""
    old, new = storm(1), storm(2)
    request = {"uid": "u", "operation": "UPDATE", "name": "s", "object": new, "oldObject": old}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def storm(replicas: int) -> Json:
    container = {"name": "engine", "image": "vllm/vllm-openai:v1", "env": []}
    one = {"name": "VARIABLE", "value": "x" * 64}
    container["env"] = [one] * (SIZE_BYTES // 4 // len(orjson.dumps(one)))
    template = {"spec": {"containers": [container]}}
    roles = [{"name": f"role-{place}", "replicas": 1, "template": template} for place in range(4)]
    labels = {"app": "s"}
    spec = {"metadata": {"labels": labels}, "spec": {"roles": roles}}
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "StormService",
        "metadata": {"name": "s", "annotations": {"model.aibrix.ai/sidecar-injection": "true"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": spec},
    }
