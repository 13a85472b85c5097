"""One operator's parts without Temporal: client, cache with running informers, activities, and how to call them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.credentials import Credentials
from activities.decisions import Decisions
from activities.events import EventRecorder
from activities.informer import Informer
from activities.kube import KubeClient
from activities.messages import Answer, CarryOut, DecisionRequest, Outcomes
from activities.metrics import Metrics
from activities.polls import Polls
from activities.steps import Steps
from activities.store import Cache
from planning.planner import Json, Planner
from planning.registry import PLANNERS
from planning.wire import Decision, Memory, Ref

HEARTBEAT = timedelta(seconds=2)


@dataclass
class Parts:
    """Activities that share one cache, as in a process."""

    client: KubeClient
    cache: Cache
    polls: Polls
    decisions: Decisions
    steps: Steps
    recorder: EventRecorder

    async def poll(self, ref: Ref, memory: Memory | None = None, rollout: str | None = None) -> Answer:
        request = DecisionRequest(ref=ref, memory=memory or Memory(), rollout=rollout)
        found: Answer = await environment().run(self.decisions.next_decision, request)
        return found

    async def carry_out(self, ref: Ref, *steps: Any, number: int = 0, run: str = "run-1", **fences: Any) -> Outcomes:
        """Carry steps out as one decision made at this moment, unless `fences` say otherwise."""
        fences = {"generation": 1, "decided_at": datetime.now(UTC)} | fences
        order = CarryOut(ref=ref, decision=Decision(reason="test", steps=list(steps), **fences), number=number)
        found: Outcomes = await environment(run).run(self.steps.carry_out, order)
        return found


def environment(run: str = "run-1") -> ActivityEnvironment:
    env = ActivityEnvironment()
    env.info = replace(env.info, workflow_run_id=run, heartbeat_timeout=HEARTBEAT)
    return env


@asynccontextmanager
async def parts_of(kubeconfig: Path, planners: Mapping[str, Planner] = PLANNERS) -> AsyncIterator[Parts]:
    """Parts whose cache is synced."""
    client, metrics = KubeClient(Credentials(str(kubeconfig))), Metrics()
    resources = {each.key: each for planner in planners.values() for each in (planner.resource, *planner.owns)}
    cache = Cache(resources.values())
    polls, recorder = Polls(cache), EventRecorder(client)
    shared = (recorder, metrics, polls)
    tasks = [asyncio.create_task(Informer(client, store).run()) for store in cache.stores.values()]
    tasks.append(asyncio.create_task(recorder.run()))
    try:
        await cache.wait_synced()
        decisions = Decisions(client, cache, planners, *shared)
        yield Parts(client, cache, polls, decisions, Steps(client, cache, *shared), recorder)
    finally:
        polls.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()


def ref_to(obj: Json) -> Ref:
    metadata = obj["metadata"]
    return Ref(kind=obj["kind"].lower(), namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
