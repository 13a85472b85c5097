"""The workflow of one object: id `<kind>/<namespace>/<name>`, from the object's creation until it is gone."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, FailureError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.messages import Answer, ObjectState, RolloutState
    from activities.wording import cut_bytes, ended_line, rollout_details
    from planning.wire import CloseObject, Decision, RolloutResult, StartRollout
    from workflows import timing
    from workflows.commands import Commands
    from workflows.loop import Loop
    from workflows.rollout import RolloutWorkflow
    from workflows.shown import start_attributes

GONE = "the object is gone"


@workflow.defn(name="Object", sandboxed=False)
class ObjectWorkflow(Commands):
    """Asks, acts, remembers; hands each rollout to a child. It never fails, and ignores being cancelled."""

    @workflow.init
    def __init__(self, state: ObjectState) -> None:
        self._loop = Loop(state.ref, state.memory, None, self._cancelled, state.opening)
        self._child_waits = timing.CHILD_EXISTS_WAIT

    @workflow.run
    async def run(self, _state: ObjectState) -> str:
        """Return once the object is gone; go on as a new run for a successor, or when the history grows long."""
        self._loop.show()
        while True:
            decision = await self._loop.next_decision()
            closing = next((step for step in decision.steps if isinstance(step, CloseObject)), None)
            if closing is not None:
                return await self._close(decision, closing)
            await self._act(decision)
            if self._loop.gone:
                await self._loop.handlers_finished()
                return GONE
            if workflow.info().is_continue_as_new_suggested():
                await self._loop.handlers_finished()
                workflow.continue_as_new(ObjectState.of(self._loop.ref, self._loop.memory))

    @workflow.signal
    def look(self) -> None:
        """Sent by a process that took over: the poll is lost with its predecessor, and there is something to do."""
        self._loop.lose_poll()

    async def _cancelled(self) -> str:
        return "ignored: delete the object instead"

    async def _close(self, decision: Decision, closing: CloseObject) -> str:
        self._loop.remember(decision, [])
        await self._loop.handlers_finished()
        if closing.successor is not None:
            workflow.continue_as_new(ObjectState.of(closing.successor))
        return GONE

    async def _act(self, decision: Answer) -> None:
        starting = next((step for step in decision.steps if isinstance(step, StartRollout)), None)
        short = [step for step in decision.steps if not isinstance(step, StartRollout)]
        if starting is None or short:
            done = await self._loop.carry_out(decision.model_copy(update={"steps": short}))
        else:
            self._loop.remember(decision, [])
            done = True
        if starting is not None and done:
            await self._roll_out(starting, decision.opening)

    async def _roll_out(self, step: StartRollout, opening: Answer | None) -> None:
        """Run the child to its end; whatever that end is, the next poll decides what follows."""
        try:
            result = await self._loop.unhurried(self._child(step, opening))
        except WorkflowAlreadyStartedError:
            self._loop.note(f"rollout of {step.revision}", "is running already")
            await self._loop.pause_for(self._child_waits, f"wait for the rollout of {step.revision} that runs already")
            self._child_waits = min(self._child_waits * 2, timing.CHILD_EXISTS_LONGEST_WAIT)
        except (ChildWorkflowError, FailureError) as error:
            self._loop.note(f"rollout of {step.revision}", f"ended early: {error.cause or error}")
            await self._loop.pause_for(timedelta(seconds=1), f"look again: the rollout of {step.revision} ended early")
        else:
            self._child_waits = timing.CHILD_EXISTS_WAIT
            self._loop.note(f"rollout of {step.revision}", ended_line(result))

    async def _child(self, step: StartRollout, opening: Answer | None) -> RolloutResult:
        ref = self._loop.ref
        state = RolloutState(ref=ref, revision=step.revision, number=step.number, opening=opening)
        number = f" (revision {step.number})" if step.number else ""
        return await workflow.execute_child_workflow(
            RolloutWorkflow.run,
            state,
            id=ref.rollout_id(step.revision),
            task_queue=timing.WORKFLOWS_QUEUE,
            task_timeout=timing.WORKFLOW_TASK_LIFE,
            cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
            search_attributes=start_attributes(ref, opening, step.revision),
            static_summary=cut_bytes(f"{ref.kind} {ref.namespace}/{ref.name} to {step.revision}{number}"),
            static_details=rollout_details(ref, step.revision),
        )
