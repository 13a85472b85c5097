"""The worker of one operator: workflows and their activities on one queue (see `timing` for why).

Workflows run outside the SDK's sandbox. With every module of ours passed through, the sandbox still took a quarter of
the operator's CPU during a burst (imports for each instance, a guarded evaluation for each payload) and found nothing:
the workflows hold a page of code each. Recorded histories, replayed in the tests, and the lane without a workflow cache
guard their determinism instead.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from activities.decisions import Decisions
from activities.edits import Edits
from activities.polls import Polls
from activities.steps import Steps
from activities.warm_ups import WarmUps
from workflows.object import ObjectWorkflow
from workflows.rollout import RolloutWorkflow
from workflows.settings import OperatorSettings
from workflows.timing import WORKFLOWS_QUEUE

GRACE = timedelta(seconds=4)
WORKFLOW_TASKS = 20
WORKFLOW_POLLERS = 6
ACTIVITY_POLLERS = 3
"""Few: most activities start eagerly and never pass a poller."""
LONGEST_STICKY = timedelta(seconds=5)
"""How long a task waits for the worker that knows its workflow before any other may take it: part of every takeover."""
END_POLLS_AFTER_SECONDS = 0.1
"""Time for the worker to stop asking for tasks, so that an ended poll is not handed back to this process."""


@dataclass(frozen=True, slots=True)
class ActivitySet:
    """The objects whose methods are the activities."""

    decisions: Decisions
    steps: Steps
    edits: Edits
    warm_ups: WarmUps


def make_worker(client: Client, settings: OperatorSettings, activities: ActivitySet) -> Worker:
    """A worker that is not running yet."""
    return Worker(
        client,
        task_queue=WORKFLOWS_QUEUE,
        workflows=[ObjectWorkflow, RolloutWorkflow],
        activities=[
            activities.decisions.next_decision,
            activities.steps.carry_out,
            activities.edits.edit_object,
            activities.warm_ups.warm_up,
            activities.edits.forecast_change,
        ],
        max_cached_workflows=settings.workflow_cache,
        max_concurrent_workflow_tasks=WORKFLOW_TASKS,
        max_concurrent_activities=settings.activity_slots,
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(WORKFLOW_POLLERS),
        activity_task_poller_behavior=PollerBehaviorSimpleMaximum(ACTIVITY_POLLERS),
        sticky_queue_schedule_to_start_timeout=min(settings.heartbeat, LONGEST_STICKY),
        graceful_shutdown_timeout=GRACE,
    )


async def run_worker(worker: Worker, polls: Polls, stop: asyncio.Event) -> None:
    """Run until `stop` or until the worker ends by itself; then end polls with a retryable error and shut down."""
    polls.reopen()
    running = asyncio.create_task(worker.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not running.done():
            ending = asyncio.create_task(worker.shutdown())
            await asyncio.sleep(END_POLLS_AFTER_SECONDS)
            polls.close()
            await ending
    await running
