"""The loop that object workflows and rollouts share: ask for a decision, carry it out, remember, show.

    poll ──► decision ──► carry out ──► remember ──► show ──┐
      ▲                                                     │
      └─────────────────────────────────────────────────────┘

Nothing here fails: a failed activity becomes an outcome in the memory, a cancel is handed to `cancelled` and noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.messages import (
        CARRY_OUT,
        EDIT_OBJECT,
        NEXT_DECISION,
        Answer,
        CarryOut,
        DecisionRequest,
        Edit,
        Edited,
        Outcomes,
    )
    from activities.wording import decision_line
    from planning import backoff
    from planning.wire import Decision, Failed, Logged, Memory, Outcome, Ref
    from workflows import timing
    from workflows.shown import Shown, started_with

Result = TypeVar("Result")


def is_fresh(opening: Answer, now: datetime) -> bool:
    """True while the decision that came with a start may still be carried out."""
    return opening.decided_at is not None and now - opening.decided_at < timing.OPENING_LIFE


class Loop:
    """One workflow's loop about `ref`. `rollout` is the revision that a child carries out, None for the object."""

    def __init__(
        self,
        ref: Ref,
        memory: Memory,
        rollout: str | None,
        cancelled: Callable[[], Awaitable[str]],
        opening: Answer | None = None,
    ) -> None:
        self.ref = ref
        self.memory = memory
        self.rollout = rollout
        self.searchable = False
        self._cancelled = cancelled
        self._opening = opening
        self._shown = Shown(ref, started_with(opening, rollout))

    async def next_decision(self) -> Answer:
        """The decision that came with the start, else poll until there is one; a failed poll is noted and repeated."""
        opening, self._opening = self._opening, None
        if opening is not None and is_fresh(opening, workflow.now()):
            self.searchable = opening.searchable
            return opening
        while True:
            try:
                answer = await self.unhurried(self._poll())
            except ActivityError as error:
                self.note("poll failed", str(error.cause or error))
                await self.unhurried(workflow.sleep(timing.AFTER_POLL_FAILED))
            else:
                self.searchable = answer.searchable
                return answer

    def _poll(self) -> Awaitable[Answer]:
        request = DecisionRequest(ref=self.ref, memory=self.memory, rollout=self.rollout)
        jitter = timing.POLL_LIFE_JITTER * workflow.random().random()
        return workflow.start_activity(
            NEXT_DECISION,
            request,
            result_type=Answer,
            task_queue=timing.WORKFLOWS_QUEUE,
            start_to_close_timeout=timing.POLL_LIFE + jitter,
            heartbeat_timeout=timing.timing.heartbeat,
            retry_policy=timing.RETRY_POLL,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary="wait for something to do",
        )

    async def carry_out(self, decision: Decision) -> bool:
        """Carry the decision's short steps out and remember; True when all of them are done."""
        outcomes: Sequence[Outcome] = []
        if decision.steps:
            try:
                outcomes = (await self.unhurried(self._steps(decision))).outcomes
            except ActivityError as error:
                outcomes = _all_failed(decision, str(error.cause or error))
        self.remember(decision, outcomes)
        return all(outcome.outcome == "done" for outcome in outcomes)

    def _steps(self, decision: Decision) -> Awaitable[Outcomes]:
        return workflow.start_activity(
            CARRY_OUT,
            CarryOut(ref=self.ref, decision=decision, number=self.memory.number, rollout=self.rollout),
            result_type=Outcomes,
            task_queue=timing.WORKFLOWS_QUEUE,
            start_to_close_timeout=timing.STEPS_LIFE,
            schedule_to_close_timeout=timing.STEPS_PATIENCE,
            heartbeat_timeout=timing.timing.heartbeat,
            retry_policy=timing.RETRY_STEPS,
            summary=decision_line(decision),
        )

    def remember(self, decision: Decision, outcomes: Sequence[Outcome]) -> None:
        """Memory and what the UI shows, once a decision is carried out."""
        before = self.memory.shown_at
        memory = backoff.after(self.memory, decision, outcomes, workflow.now())
        if decision.steps:
            memory = memory.model_copy(update={"shown_at": before})
        self.memory = memory
        self.show()

    def note(self, what: str, result: str = "") -> None:
        """A line among the last decisions, for what no decision of the planner explains."""
        workflow.logger.info("note what=%r result=%r", what, result)
        line = Logged(at=workflow.now(), reason=what, result=result[: backoff.LONGEST_MESSAGE])
        recent = [*self.memory.recent, line][-backoff.REMEMBERED_DECISIONS :]
        self.memory = self.memory.model_copy(update={"recent": recent})
        self.show()

    def show(self) -> None:
        self._shown.show(self.memory, self.rollout, searchable=self.searchable)

    async def edit(self, *, paused: bool) -> Edited:
        """Pause or resume by an edit of the object; the answer says when that was refused."""
        try:
            edited: Edited = await workflow.execute_activity(
                EDIT_OBJECT,
                Edit(ref=self.ref, paused=paused),
                result_type=Edited,
                task_queue=timing.WORKFLOWS_QUEUE,
                start_to_close_timeout=timedelta(seconds=15),
                schedule_to_close_timeout=timing.EDIT_PATIENCE,
                summary="pause" if paused else "resume",
            )
        except ActivityError as error:
            edited = Edited(paused=not paused, message=str(error.cause or error))
        self.note("pause" if paused else "resume", edited.message)
        return edited

    async def unhurried(self, work: Awaitable[Result]) -> Result:
        """Await `work` to its end: a cancel of the workflow is answered by `cancelled` and does not reach it."""
        task = asyncio.ensure_future(work)
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise
                self.note("cancel", await self._cancelled())

    async def handlers_finished(self) -> None:
        await self.unhurried(workflow.wait_condition(workflow.all_handlers_finished))


def _all_failed(decision: Decision, message: str) -> list[Outcome]:
    return [
        Failed(step=backoff.step_key(step), cause="unavailable", message=message[: backoff.LONGEST_MESSAGE])
        for step in decision.steps
    ]
