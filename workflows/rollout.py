"""The workflow of one rollout: id `rollout/<kind>/<namespace>/<name>/<revision>`, a child of the object's workflow.

While it runs it is the only one that writes the object's children and status: rollout, scaling and recovery share one
disruption budget.
"""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import RolloutState
    from planning.wire import CloseRollout, Decision, RolloutResult
    from workflows.commands import Commands
    from workflows.loop import Loop

REMEMBERED_BLOCKS = 10


@workflow.defn(name="Rollout", sandboxed=False)
class RolloutWorkflow(Commands):
    """The same loop until the planner closes it. To cancel it means to pause the object."""

    @workflow.init
    def __init__(self, state: RolloutState) -> None:
        self._loop = Loop(state.ref, state.memory, state.revision, self._cancelled, state.opening)
        self._state = state
        self._started_at = state.started_at or workflow.now()
        self._loop.started_at = self._started_at
        self._loop.steps = dict(state.steps)
        self._blocked = list(state.blocked)

    @workflow.run
    async def run(self, _state: RolloutState) -> RolloutResult:
        """Return how the rollout ended; go on as a new run when the history grows long."""
        self._loop.show()
        while True:
            decision = await self._loop.next_decision()
            self._note_blocked(decision)
            closing = next((step for step in decision.steps if isinstance(step, CloseRollout)), None)
            if closing is not None:
                self._loop.remember(decision, [])
                await self._loop.handlers_finished()
                return self._result(closing)
            await self._loop.carry_out(decision)
            if workflow.info().is_continue_as_new_suggested():
                await self._loop.handlers_finished()
                workflow.continue_as_new(self._carried())

    async def _cancelled(self) -> str:
        edited = await self._loop.edit("pause")
        return edited.message or "taken as pause: spec.paused is set"

    def _note_blocked(self, decision: Decision) -> None:
        blocked = decision.view.blocked
        known = bool(self._blocked) and self._blocked[-1] in blocked
        if blocked and not known and blocked not in self._blocked:
            self._blocked = [*self._blocked, blocked][-REMEMBERED_BLOCKS:]

    def _carried(self) -> RolloutState:
        return self._state.model_copy(
            update={
                "memory": self._loop.memory,
                "started_at": self._started_at,
                "blocked": self._blocked,
                "steps": self._loop.steps,
                "opening": None,
            }
        )

    def _result(self, closing: CloseRollout) -> RolloutResult:
        return RolloutResult(
            result=closing.result,
            revision=self._state.revision,
            message=closing.message,
            decisions=self._loop.memory.number,
            started_at=self._started_at,
            ended_at=workflow.now(),
            blocked=self._blocked,
            number=self._state.number,
            seconds=round((workflow.now() - self._started_at).total_seconds(), 1),
            steps=self._loop.steps,
        )
