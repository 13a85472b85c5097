"""The workers of one operator: a queue for workflows, one for polls, one for writes, so that none starves another.

Workflows run in the SDK's sandbox with our own modules passed through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from activities.decisions import Decisions
from activities.edits import Edits
from activities.polls import Polls
from activities.steps import Steps
from workflows.object import ObjectWorkflow
from workflows.rollout import RolloutWorkflow
from workflows.settings import OperatorSettings
from workflows.timing import KUBE_QUEUE, WATCH_QUEUE, WORKFLOWS_QUEUE

GRACE = timedelta(seconds=4)
WORKFLOW_TASKS = 20
WORKFLOW_POLLERS = 8
ACTIVITY_POLLERS = 6
STEPS_AT_ONCE = 64
END_POLLS_AFTER_SECONDS = 0.1
"""Time for the workers to stop asking for tasks, so that an ended poll is not handed back to this process."""


@dataclass(frozen=True, slots=True)
class ActivitySet:
    """The objects whose methods are the activities."""

    decisions: Decisions
    steps: Steps
    edits: Edits


def make_workers(client: Client, settings: OperatorSettings, activities: ActivitySet) -> Sequence[Worker]:
    """Workers that are not running yet."""
    pollers = PollerBehaviorSimpleMaximum(ACTIVITY_POLLERS)
    return (
        Worker(
            client,
            task_queue=WORKFLOWS_QUEUE,
            workflows=[ObjectWorkflow, RolloutWorkflow],
            max_cached_workflows=settings.workflow_cache,
            max_concurrent_workflow_tasks=WORKFLOW_TASKS,
            workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(WORKFLOW_POLLERS),
        ),
        Worker(
            client,
            task_queue=WATCH_QUEUE,
            activities=[activities.decisions.next_decision],
            max_concurrent_activities=settings.watch_slots,
            activity_task_poller_behavior=pollers,
            graceful_shutdown_timeout=GRACE,
        ),
        Worker(
            client,
            task_queue=KUBE_QUEUE,
            activities=[activities.steps.carry_out, activities.edits.edit_object],
            max_concurrent_activities=STEPS_AT_ONCE,
            max_task_queue_activities_per_second=settings.writes_per_second or None,
            activity_task_poller_behavior=pollers,
            graceful_shutdown_timeout=GRACE,
        ),
    )


async def run_workers(workers: Sequence[Worker], polls: Polls, stop: asyncio.Event) -> None:
    """Run until `stop` or until one of them ends by itself; then end polls with a retryable error and shut down."""
    polls.reopen()
    running = [asyncio.create_task(worker.run()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        ending = [asyncio.create_task(worker.shutdown()) for worker in workers if worker.is_running]
        await asyncio.sleep(END_POLLS_AFTER_SECONDS)
        polls.close()
        await asyncio.gather(*ending, return_exceptions=True)
    for result in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
