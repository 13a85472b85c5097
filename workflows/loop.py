"""The loop that object workflows and rollouts share: ask for a decision, carry it out, remember, show.

    poll ──► decision ──► carry out ──► remember ──► show ──┐
      ▲                                                     │
      └─────────────────────────────────────────────────────┘

Nothing here fails: a failed activity becomes an outcome in the memory, a cancel is handed to `cancelled` and noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.messages import (
        CARRY_OUT,
        EDIT_OBJECT,
        FORECAST_CHANGE,
        NEXT_DECISION,
        WARM_UP,
        Answer,
        CarryOut,
        DecisionRequest,
        Edit,
        Edited,
        ForecastRequest,
        Foretold,
        Outcomes,
        WarmUp,
    )
    from activities.wording import cut_bytes, decision_line, step_line, waiting_line
    from planning import backoff
    from planning.objects import format_time
    from planning.wire import Decision, Failed, Logged, Memory, Outcome, Ref, WarmUpPods
    from workflows import timing
    from workflows.shown import Shown, started_with

Result = TypeVar("Result")
SETTLED_PHASE = "Ready"


def is_fresh(opening: Answer, now: datetime) -> bool:
    """True while the decision that came with a start may still be carried out."""
    return opening.decided_at is not None and now - opening.decided_at < timing.OPENING_LIFE


class Loop:
    """One workflow's loop about `ref`. `rollout` is the revision that a child carries out, None for the object.

    `steps` counts what was carried out by type, `started_at` is when the rollout began.
    """

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
        self.gone = False
        self._poll_lost = False
        self.started_at: datetime | None = None
        self.steps: dict[str, int] = {}
        self._edits = asyncio.Lock()
        self._cancelled = cancelled
        self._opening = opening
        self._shown = Shown(ref, started_with(opening, rollout))
        self._long: set[asyncio.Future[None]] = set()

    async def next_decision(self) -> Answer:
        """The decision that came with the start, else poll until there is one; a failed poll is noted and repeated."""
        opening, self._opening = self._opening, None
        if opening is not None and is_fresh(opening, workflow.now()):
            self.searchable = opening.searchable
            return opening
        while True:
            try:
                answer = await self.unhurried(self._asked())
            except ActivityError as error:
                self.note("poll failed", str(error.cause or error))
                await self.pause_for(timing.AFTER_POLL_FAILED, "ask again: the last poll could not be run")
            else:
                self.searchable = answer.searchable
                return answer

    async def _asked(self) -> Answer:
        """The answer of a poll; one that is said to be lost with its process is given up for another."""
        while True:
            self._poll_lost = False
            poll = self._poll()
            await workflow.wait_condition(lambda: self._poll_lost or poll.done())  # noqa: B023 - awaited at once
            if poll.done():
                return await poll
            poll.cancel()
            with suppress(ActivityError):
                return await poll

    def lose_poll(self) -> None:
        """The process that polls is gone: ask again."""
        self._poll_lost = True

    @property
    def is_settled(self) -> bool:
        """The object was shown as ready, and no rollout is under way here."""
        return self.rollout is None and self.memory.shown.phase == SETTLED_PHASE

    def _poll(self) -> workflow.ActivityHandle[Answer]:
        request = DecisionRequest(ref=self.ref, memory=self.memory, rollout=self.rollout, started_at=self.started_at)
        jitter = timing.POLL_LIFE_JITTER * workflow.random().random()
        return workflow.start_activity(
            NEXT_DECISION,
            request,
            result_type=Answer,
            task_queue=timing.WORKFLOWS_QUEUE,
            start_to_close_timeout=timing.POLL_LIFE + jitter,
            heartbeat_timeout=timing.timing.heartbeat * (timing.SETTLED_HEARTBEATS if self.is_settled else 1),
            retry_policy=timing.RETRY_POLL,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary=waiting_line(self.memory.shown, self.rollout),
        )

    async def carry_out(self, decision: Decision) -> bool:
        """Carry the decision's short steps out and remember; True when all of them are done."""
        outcomes: Sequence[Outcome] = []
        if decision.steps:
            try:
                answer = await self.unhurried(self._steps(decision))
                outcomes, self.gone = answer.outcomes, answer.gone
            except ActivityError as error:
                outcomes = _all_failed(decision, str(error.cause or error))
        for step, outcome in zip(decision.steps, outcomes, strict=False):
            if outcome.outcome == "done":
                self.steps[step.type] = self.steps.get(step.type, 0) + 1
        self.remember(decision, outcomes)
        self._start_long(decision, outcomes)
        return all(outcome.outcome == "done" for outcome in outcomes)

    def _start_long(self, decision: Decision, outcomes: Sequence[Outcome]) -> None:
        """Start what goes on beside the loop; its result is seen in Kubernetes, so nobody waits for it here."""
        for step, outcome in zip(decision.steps, outcomes, strict=False):
            if isinstance(step, WarmUpPods) and outcome.outcome == "done":
                running = asyncio.ensure_future(self._warm_up(step))
                self._long.add(running)
                running.add_done_callback(self._long.discard)

    async def _warm_up(self, step: WarmUpPods) -> None:
        try:
            said: str = await workflow.execute_activity(
                WARM_UP,
                WarmUp(ref=self.ref, step=step),
                result_type=str,
                task_queue=timing.WORKFLOWS_QUEUE,
                start_to_close_timeout=timing.WARM_UP_LIFE,
                heartbeat_timeout=timing.timing.heartbeat,
                retry_policy=timing.RETRY_NEVER,
                summary=cut_bytes(step_line(step)),
            )
        except ActivityError as error:
            said = str(error.cause or error)
        self.note("warm-up", said)

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

    async def edit(self, verb: str, revision: str = "") -> Edited:
        """Pause, resume, restart or undo (to a revision's name) by an edit of the object.

        The answer says when that was refused. Edits come one after another.
        """
        async with self._edits:
            edited = await self._edit(Edit(
                ref=self.ref, verb=verb, paused=verb == "pause", at=format_time(workflow.now()), revision=revision
            ))  # fmt: skip
        self.note(verb, edited.message or edited.did)
        return edited

    async def _edit(self, asked: Edit) -> Edited:
        try:
            edited: Edited = await workflow.execute_activity(
                EDIT_OBJECT,
                asked,
                result_type=Edited,
                task_queue=timing.WORKFLOWS_QUEUE,
                start_to_close_timeout=timedelta(seconds=15),
                schedule_to_close_timeout=timing.EDIT_PATIENCE,
                summary=cut_bytes(
                    f"{asked.verb}{f' to {asked.revision}' if asked.revision else ''} by edit of the object"
                ),
            )
        except ActivityError as error:
            edited = Edited(paused=not asked.paused, message=str(error.cause or error))
        return edited

    async def undo(self, to_revision: int) -> Edited:
        """Which revision is meant is settled first, by name: an edit that is tried twice then goes to the same one."""
        found = await self.foretell("undo", to_revision)
        if found.refused or found.forecast is None:
            self.note("undo", found.refused)
            return Edited(paused=False, message=found.refused or "the revision cannot be read")
        edited = await self.edit("undo", found.revision)
        return edited.model_copy(update={"did": f"{edited.did}; it {found.forecast.sentence}"})

    async def foretell(self, verb: str, to_revision: int = 0) -> Foretold:
        """What an undo, or with no verb what is left to do, would replace; nothing is changed."""
        asked = ForecastRequest(ref=self.ref, verb=verb, to_revision=to_revision, at=format_time(workflow.now()))
        try:
            found: Foretold = await workflow.execute_activity(
                FORECAST_CHANGE,
                asked,
                result_type=Foretold,
                task_queue=timing.WORKFLOWS_QUEUE,
                start_to_close_timeout=timedelta(seconds=15),
                schedule_to_close_timeout=timing.EDIT_PATIENCE,
                summary=f"foretell what {verb or 'the rollout'} replaces",
            )
        except ActivityError as error:
            return Foretold(refused=str(error.cause or error))
        return found

    async def pause_for(self, duration: timedelta, why: str) -> None:
        """A timer that the UI explains."""
        await self.unhurried(workflow.sleep(duration, summary=cut_bytes(why)))

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
