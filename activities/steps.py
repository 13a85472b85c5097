"""`carry_out`: the short steps of one decision, in order, one outcome each.

Steps of one family stand side by side and run together: what stands beside the object, creations of pods of several
roles, deletions. The first stage with a failure is the last. A failure is an outcome, never an exception; only a call
whose result nobody knows raises, so that Temporal runs the activity again and the same names meet what exists.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import adoption, budget_steps, child_steps, group_steps, object_steps, pod_steps, ray_steps
from activities.decisions import heartbeat_seconds
from activities.errors import KubeAmbiguous, KubeError, KubeNotFound
from activities.events import EventRecorder
from activities.fences import Fence, StaleStep, StepRefused
from activities.kube import KubeClient
from activities.messages import CARRY_OUT, CarryOut, Outcomes
from activities.metrics import Metrics
from activities.polls import Polls
from activities.store import Cache
from activities.wording import EVENT_REASONS, FAILURE_REASONS, step_line
from activities.writes import StepContext
from crds import labels
from planning.backoff import step_key
from planning.planner import Json
from planning.render import RenderError
from planning.wire import Done, Failed, Outcome, Stale

log = logging.getLogger(__name__)

Handler = Callable[[StepContext, Any], Awaitable[None]]

HANDLERS: Mapping[str, Handler] = {
    "add-finalizer": object_steps.add_finalizer,
    "release-finalizer": object_steps.release_finalizer,
    "create-revision": object_steps.create_revision,
    "renumber-revision": object_steps.renumber_revision,
    "delete-revisions": object_steps.delete_revisions,
    "apply-service": object_steps.apply_service,
    "apply-budget": budget_steps.apply_budget,
    "delete-budgets": budget_steps.delete_budgets,
    "adopt": adoption.adopt,
    "create-rolesets": child_steps.create_rolesets,
    "update-rolesets": child_steps.update_rolesets,
    "delete-rolesets": child_steps.delete_rolesets,
    "create-pods": child_steps.create_pods,
    "delete-pods": child_steps.delete_pods,
    "patch-pods": pod_steps.patch_pods,
    "complete-pods": pod_steps.complete_pods,
    "note-pods": pod_steps.note_pods,
    "drain-pods": pod_steps.drain_pods,
    "restore-pods": pod_steps.restore_pods,
    "warm-up-pods": pod_steps.mark_warm_ups,
    "fall-back": pod_steps.fall_back,
    "create-podsets": group_steps.create_podsets,
    "update-podsets": group_steps.update_podsets,
    "delete-podsets": group_steps.delete_podsets,
    "create-group-pods": group_steps.create_group_pods,
    "delete-group-pods": group_steps.delete_group_pods,
    "apply-pod-group": group_steps.apply_pod_group,
    "delete-pod-groups": group_steps.delete_pod_groups,
    "create-ray-clusters": ray_steps.create_ray_clusters,
    "delete-ray-clusters": ray_steps.delete_ray_clusters,
    "create-ray-replica-set": ray_steps.create_ray_replica_set,
    "update-ray-replica-sets": ray_steps.update_ray_replica_sets,
    "delete-ray-replica-sets": ray_steps.delete_ray_replica_sets,
    "note-fleet": ray_steps.note_fleet,
    "roll-back-fleet": ray_steps.roll_back_fleet,
}
STAGES: Mapping[str, str] = {
    "add-finalizer": "beside",
    "create-revision": "beside",
    "renumber-revision": "beside",
    "apply-service": "beside",
    "apply-budget": "beside",
    "complete-pods": "beside",
    "note-pods": "beside",
    "restore-pods": "beside",
    "apply-pod-group": "beside",
    "delete-pod-groups": "beside",
    "create-pods": "create",
    "create-podsets": "create",
    "delete-pods": "delete",
    "delete-podsets": "delete",
}
"""Steps of the same stage run together; every other step type is a stage of its own."""


class Steps:
    """The activity `carry_out` and what it works with."""

    def __init__(
        self, client: KubeClient, cache: Cache, recorder: EventRecorder, metrics: Metrics, polls: Polls
    ) -> None:
        self._client = client
        self._cache = cache
        self._recorder = recorder
        self._metrics = metrics
        self._polls = polls

    @activity.defn(name=CARRY_OUT)
    async def carry_out(self, order: CarryOut) -> Outcomes:
        """Carry the decision's steps out; raise only when a call's result is open."""
        store = self._cache.stores[order.ref.kind]
        fence = Fence(self._client, store, order.ref, order.decision)
        about = store.get(order.ref.namespace, order.ref.name)
        with self._polls.tending(order.ref.uid):
            async with heartbeats():
                contexts = self._contexts(order, fence)
                outcomes = await self._stages(contexts)
        for (step, context), outcome in zip(contexts, outcomes, strict=False):
            self._tell(order, about, step, outcome)
            for event in context.told:
                self._recorder.record(context.fence.owner(), *event)
        return Outcomes(outcomes=outcomes, gone=await self._is_gone(order, outcomes))

    async def _is_gone(self, order: CarryOut, outcomes: Sequence[Outcome]) -> bool:
        """Asked only after a finalizer was released. Gone is a live 404 about this very name, nothing else."""
        released = [
            step for step, outcome in zip(order.decision.steps, outcomes, strict=False)
            if step.type == "release-finalizer" and isinstance(outcome, Done)
        ]  # fmt: skip
        if not released:
            return False
        ref, resource = order.ref, self._cache.stores[order.ref.kind].resource
        try:
            await self._client.get(resource, ref.namespace, ref.name)
        except KubeNotFound as error:
            return error.about == ref.name
        except KubeError:
            return False
        return False

    def _contexts(self, order: CarryOut, fence: Fence) -> list[tuple[Any, StepContext]]:
        """Each step with its context; names of the whole decision are numbered through."""
        run_id = activity.info().workflow_run_id or ""
        made: dict[tuple[str, str], Json] = {}
        contexts, index = [], 0
        for step in order.decision.steps:
            context = StepContext(
                self._client, self._cache, order.ref, order.decision, fence, run_id, order.number, index, made
            )
            contexts.append((step, context))
            index += _creates(step)
        return contexts

    async def _stages(self, contexts: list[tuple[Any, StepContext]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for _, group in groupby(contexts, key=lambda pair: STAGES.get(pair[0].type, pair[0].type)):
            stage = await _all(self._one(step, context) for step, context in group)
            outcomes.extend(stage)
            if any(outcome.outcome != "done" for outcome in stage):
                break
        return outcomes

    async def _one(self, step: Any, context: StepContext) -> Outcome:
        began = time.monotonic()
        outcome = await self._outcome(step, context)
        self._metrics.step_seconds.labels(step.type).observe(time.monotonic() - began)
        self._metrics.steps.labels(context.ref.kind, step.type, outcome.outcome).inc()
        return outcome

    async def _outcome(self, step: Any, context: StepContext) -> Outcome:
        key, handler = step_key(step), HANDLERS.get(step.type)
        if handler is None:
            message = f"this release does not know the step {step.type}"
            return Failed(step=key, cause="unknown-step", message=message)
        try:
            await handler(context, step)
        except KubeAmbiguous as error:
            raise ApplicationError(f"{step_line(step)}: {error}", type="KubeAmbiguous") from error
        except StaleStep as stale:
            return Stale(step=key, reason=str(stale), written=context.written)
        except RenderError as error:
            return Failed(step=key, cause="invalid", message=str(error), written=context.written)
        except (KubeError, StepRefused) as error:
            return Failed(step=key, cause=error.cause, message=str(error), written=context.written)
        return Done(step=key, written=context.written)

    def _tell(self, order: CarryOut, about: Json | None, step: Any, outcome: Outcome) -> None:
        line = step_line(step)
        log.info(
            "step object=%s decision=%d step=%r outcome=%s detail=%r",
            order.ref.workflow_id, order.number, line, outcome.outcome, _detail(outcome),
        )  # fmt: skip
        if about is None:
            return
        if isinstance(outcome, Failed):
            reason, word = (labels.EVENT_ROLLOUT, "rollout") if order.rollout else (labels.EVENT_SCALING, "scaling")
            reason = FAILURE_REASONS.get(order.ref.kind, reason)
            self._recorder.record(about, "Warning", reason, f"{word} error: {line}: {outcome.message}")
        elif isinstance(outcome, Done) and outcome.written:
            if reason := EVENT_REASONS.get(step.type, ""):
                self._recorder.record(about, "Normal", reason, line)
            for told in getattr(step, "tells", ()):
                self._recorder.record(about, told.type, told.reason, told.message)


async def _all(steps: Iterable[Awaitable[Outcome]]) -> list[Outcome]:
    """Wait for every step of a stage, then raise what one of them raised."""
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _creates(step: Any) -> int:
    """How many generated names the step needs."""
    if step.type == "create-rolesets":
        return len(step.indexes)
    return int(step.count) if step.type in ("create-pods", "create-ray-clusters") else 0


def _detail(outcome: Outcome) -> str:
    if isinstance(outcome, Failed):
        return f"{outcome.cause}: {outcome.message}"
    return outcome.reason if isinstance(outcome, Stale) else ""


@asynccontextmanager
async def heartbeats() -> AsyncIterator[None]:
    """Heartbeat while the body runs: a dead process is noticed long before the activity's time is up."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(heartbeat_seconds())
            activity.heartbeat()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
