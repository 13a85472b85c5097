"""Queues and times of the loop.

The heartbeat is a setting of the process. Workflows read it here: options of an activity take no part in replay, so a
changed setting reaches running workflows without a new version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio.common import RetryPolicy

WORKFLOWS_QUEUE = "workflows"
"""Workflows, polls and API writes share one queue, so that Temporal can start an activity eagerly: with the answer to
the workflow task that asked for it, without a way through the matching service. That halves Temporal's CPU during a
burst (30 StormServices: 5.4 s instead of 12.6 s). What may hang, as calls to engines do, belongs on a queue of its own;
API writes are bounded by the client's connections instead of by the queue."""

SETTLED_HEARTBEATS = 4
"""A settled object's poll beats so much more seldom: its beats were most of what a quiet cluster costs Temporal. After
a takeover the new process wakes those that need something (`look`), so nobody waits for the longer timeout."""
WORKFLOW_TASK_LIFE = timedelta(seconds=5)
"""Half of Temporal's default: a workflow task that died with its process is part of every takeover."""
POLL_LIFE = timedelta(hours=12)
POLL_LIFE_JITTER = timedelta(hours=2)
STEPS_LIFE = timedelta(seconds=60)
STEPS_PATIENCE = timedelta(minutes=15)
EDIT_PATIENCE = timedelta(seconds=30)
RETRY_POLL = RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=1.0)
RETRY_STEPS = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10))
WARM_UP_LIFE = timedelta(hours=2)
"""The longest that a warm-up may take; the role's own timeout ends each request much sooner."""
RETRY_NEVER = RetryPolicy(maximum_attempts=1)
AFTER_POLL_FAILED = timedelta(seconds=10)
OPENING_LIFE = timedelta(seconds=10)
"""A decision that came with the workflow's start and has become older than this is made anew by a poll."""
CHILD_EXISTS_WAIT = timedelta(seconds=1)
CHILD_EXISTS_LONGEST_WAIT = timedelta(seconds=30)


@dataclass(slots=True)
class Timing:
    """`heartbeat`: how long a dead process goes unnoticed."""

    heartbeat: timedelta = timedelta(seconds=15)


timing = Timing()
