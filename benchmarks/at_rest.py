"""What 300 objects cost while nothing happens: CPU of operator and Temporal, memory of the operator.

100 StormServices with 2 RoleSets of one ready pod each; the rollouts are over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping

import uvloop

from benchmarks.figure import Figure
from benchmarks.objects import bench, until
from benchmarks.resident import cpu_seconds, descendants, proportional_mib, running_parts
from local.settings import LocalSettings

SERVICES = 100
SETTLE_SECONDS = 75.0
"""Views are shown at most once a minute and object: after that time the last one has been."""
REST_SECONDS = 60.0


def figures() -> Iterator[Figure]:
    settings = LocalSettings.from_environment()
    os.environ["KUBECONFIG"] = str(settings.kubeconfig)
    parts = running_parts()
    yield from uvloop.run(measured({name: descendants(parts[name]) for name in ("operator", "temporal")}))


async def measured(parts: Mapping[str, list[int]]) -> list[Figure]:
    """The figures for these processes, with 300 objects that the operator looks after."""
    async with bench("rest") as made:
        await asyncio.gather(*(made.create(index, replicas=2) for index in range(SERVICES)))
        async with made.kubelet():
            await until(lambda: made.are_complete(SERVICES), "StormServices become ready", pause=2.0)
        await asyncio.sleep(SETTLE_SECONDS)
        before = {name: cpu_seconds(pids) for name, pids in parts.items()}
        await asyncio.sleep(REST_SECONDS)
        used = {name: (cpu_seconds(pids) - before[name]) / REST_SECONDS * 100 for name, pids in parts.items()}
        memory = sum(map(proportional_mib, parts["operator"]))
    return [
        Figure("300 objects at rest: operator", used["operator"], "% of a core"),
        Figure("300 objects at rest: Temporal", used["temporal"], "% of a core"),
        Figure("300 objects at rest: both", sum(used.values()), "% of a core", "below 5"),
        Figure("300 objects at rest: operator's memory", memory, "MiB", "below 300"),
    ]
