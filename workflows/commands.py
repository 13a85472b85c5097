"""The commands that both workflows take as updates, from `temporal workflow update` and from the Temporal UI.

| update | arguments | answer |
|---|---|---|
| pause, resume, restart | none | what was done |
| undo | revision number, 0 or none: the previous one | what was done |
| plan | revision number to undo to, none: what is left to do | by role, how many pods are replaced and why |

Each but `plan` is an edit of the object, made by an activity. What can be refused without a look at the object is
refused by the validator and leaves nothing in the history; any other refusal fails the update with its reason, never
the workflow.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.messages import Edited
    from planning.edits import fault_of
    from planning.forecast import Forecast
    from workflows.loop import Loop


class Commands:
    """Mixed into a workflow that has a `_loop`."""

    _loop: Loop

    @workflow.update(description="Set spec.paused of the object: nothing more is rolled out until it is resumed")
    async def pause(self) -> Edited:
        return _answered(await self._loop.edit("pause"))

    @pause.validator
    def _may_pause(self) -> None:
        self._check("pause")

    @workflow.update(description="Clear spec.paused of the object; a rollout out of time is tried again")
    async def resume(self) -> Edited:
        return _answered(await self._loop.edit("resume"))

    @resume.validator
    def _may_resume(self) -> None:
        self._check("resume")

    @workflow.update(description="Write an older revision's template back: its number, or 0 for the previous one")
    async def undo(self, to_revision: int = 0) -> Edited:
        return _answered(await self._loop.undo(to_revision))

    @undo.validator
    def _may_undo(self, to_revision: int = 0) -> None:
        self._check("undo")
        _check_number(to_revision)

    @workflow.update(description="Replace every pod, within the budget, by a stamp in each pod template")
    async def restart(self) -> Edited:
        return _answered(await self._loop.edit("restart"))

    @restart.validator
    def _may_restart(self) -> None:
        self._check("restart")

    @workflow.update(description="Say what is left to replace, or what an undo to this revision number would replace")
    async def plan(self, to_revision: int | None = None) -> Forecast:
        found = await self._loop.foretell("" if to_revision is None else "undo", to_revision or 0)
        if found.forecast is None:
            raise ApplicationError(found.refused, type="Refused", non_retryable=True)
        return found.forecast

    @plan.validator
    def _may_plan(self, to_revision: int | None = None) -> None:
        if to_revision is not None:
            self._check("undo")
            _check_number(to_revision)

    def _check(self, verb: str) -> None:
        if fault := fault_of(verb, self._loop.ref.kind):
            raise ApplicationError(fault, type="Refused", non_retryable=True)


def _check_number(to_revision: int) -> None:
    if to_revision < 0:
        fault = f"toRevision {to_revision} is below zero; 0 is the previous revision"
        raise ApplicationError(fault, type="Refused", non_retryable=True)


def _answered(edited: Edited) -> Edited:
    if edited.message:
        raise ApplicationError(edited.message, type="Refused", non_retryable=True)
    return edited
