"""What a workflow remembers of its decisions, and how long a failed step waits before it is planned again.

A wait starts at one second, doubles up to five minutes and ends at once when somebody changes the object's spec.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from planning.wire import (
    CreateRayReplicaSet,
    CreateRevision,
    Decision,
    Failed,
    Failure,
    Logged,
    Memory,
    ObjectVersion,
    Outcome,
    Step,
)

FIRST_WAIT: Final = timedelta(seconds=1)
LONGEST_WAIT: Final = timedelta(minutes=5)
REMEMBERED_DECISIONS: Final = 10
REMEMBERED_FAILURES: Final = 20
LONGEST_MESSAGE: Final = 500


def step_key(step: Step) -> str:
    """What a failure is remembered by: the type, and the role, revision or replica set it was about."""
    if isinstance(step, CreateRevision | CreateRayReplicaSet):
        return f"{step.type}/{step.name}"
    role = getattr(step, "role", "")
    return f"{step.type}/{role}" if role else step.type


def wait_after(failures: int) -> timedelta:
    """1 s, 2 s, 4 s … 5 min for the first, second, third … failure in a row."""
    return min(FIRST_WAIT * (1 << min(failures - 1, 16)), LONGEST_WAIT)


def after(memory: Memory, decision: Decision, outcomes: Sequence[Outcome], now: datetime) -> Memory:
    """The memory once `decision` has been carried out with `outcomes`.

    A conflict and a stale step say that the world moved on, so they are no failures; success ends the failure of its
    step.
    """
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed) and outcome.cause != "conflict"]
    settled = {outcome.step for outcome in outcomes}
    kept = [failure for failure in memory.failures if failure.step not in settled]
    fresh = [_failure(memory, outcome, decision.generation, now) for outcome in failed]
    logged = Logged(at=now, reason=decision.reason[:LONGEST_MESSAGE], result=_result(outcomes))
    return memory.model_copy(
        update={
            "number": memory.number + 1,
            "written": _written(outcomes),
            "failures": (kept + fresh)[-REMEMBERED_FAILURES:],
            "recent": [*memory.recent, logged][-REMEMBERED_DECISIONS:],
            "shown": decision.view,
            "shown_at": now,
        }
    )


def _failure(memory: Memory, outcome: Failed, generation: int, now: datetime) -> Failure:
    before = next((failure for failure in memory.failures if failure.step == outcome.step), None)
    count = before.count + 1 if before is not None and before.generation == generation else 1
    return Failure(
        step=outcome.step,
        cause=outcome.cause,
        message=outcome.message[:LONGEST_MESSAGE],
        count=count,
        generation=generation,
        retry_at=now + wait_after(count),
    )


def _written(outcomes: Iterable[Outcome]) -> list[ObjectVersion]:
    return [version for outcome in outcomes for version in outcome.written]


def _result(outcomes: Sequence[Outcome]) -> str:
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            return f"{outcome.step} failed: {outcome.message}"[:LONGEST_MESSAGE]
        if outcome.outcome == "stale":
            return f"{outcome.step} held back: {outcome.reason}"[:LONGEST_MESSAGE]
    return ""


def waiting(memory: Memory, generation: int, now: datetime) -> dict[str, Failure]:
    """Failures that still hold their step back, by step key."""
    return {
        failure.step: failure
        for failure in memory.failures
        if failure.generation == generation and failure.retry_at > now
    }


def held_back(steps: Iterable[Step], memory: Memory, generation: int, now: datetime) -> list[Step]:
    """`steps` without those that wait after a failure."""
    waits = waiting(memory, generation, now)
    return [step for step in steps if step_key(step) not in waits]


def failures_of(memory: Memory, generation: int) -> list[Failure]:
    """Failures that still say something about this generation of the object."""
    return [failure for failure in memory.failures if failure.generation == generation]


def earliest(*times: datetime | None) -> datetime | None:
    """The first of those that are set."""
    known = [time for time in times if time is not None]
    return min(known) if known else None
