"""Arguments and results of the activities: they stand in histories beside `planning.wire` and keep its rules.

Additive only: fields get defaults, nothing is renamed. This module imports nothing heavy, since workflows load it.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from planning.forecast import Forecast
from planning.wire import Decision, Memory, Outcome, Ref, WarmUpPods, Wire

NEXT_DECISION = "next_decision"
CARRY_OUT = "carry_out"
EDIT_OBJECT = "edit_object"
WARM_UP = "warm_up"
FORECAST_CHANGE = "forecast_change"


class DecisionRequest(Wire):
    """Ask for the next decision about `ref`; `rollout` is the revision that the asking child carries out
    since `started_at`."""

    ref: Ref
    memory: Memory = Field(default_factory=Memory)
    rollout: str | None = None
    started_at: datetime | None = None


class Answer(Decision):
    """A decision, and whether search attributes can be upserted: a workflow must not find that out by itself.

    `opening`: what the rollout that this decision starts does first; it saves the child its first poll.
    """

    searchable: bool = False
    opening: Answer | None = None


class CarryOut(Wire):
    """Carry the steps of `decision` out; `number` is the decision's place in the workflow's life."""

    ref: Ref
    decision: Decision
    number: int
    rollout: str | None = None


class Outcomes(Wire):
    """One outcome a step, in order; shorter than the steps when one failed.

    `gone`: the steps released the object, and a live read says that it is no more; nobody need ask again.
    """

    outcomes: list[Outcome] = Field(default_factory=list)
    gone: bool = False


class WarmUp(Wire):
    """Have the pods of `step` generate their first token; the results stand on the pods."""

    ref: Ref
    step: WarmUpPods


class ObjectState(Ref):
    """An object workflow's argument: the object, and what the run before remembers.

    `opening`: the first decision about a new object, made by whoever starts the workflow.
    """

    memory: Memory = Field(default_factory=Memory)
    opening: Answer | None = None

    @classmethod
    def of(cls, ref: Ref, memory: Memory | None = None, opening: Answer | None = None) -> ObjectState:
        kept = {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name, "uid": ref.uid}
        return cls(**kept, memory=memory or Memory(), opening=opening)

    @property
    def ref(self) -> Ref:
        return Ref(kind=self.kind, namespace=self.namespace, name=self.name, uid=self.uid)


class RolloutState(Wire):
    """A rollout's argument, and all that it carries from one run to the next."""

    ref: Ref
    revision: str
    number: int = 0
    memory: Memory = Field(default_factory=Memory)
    started_at: datetime | None = None
    blocked: list[str] = Field(default_factory=list)
    steps: dict[str, int] = Field(default_factory=dict)
    opening: Answer | None = None


class Edit(Wire):
    """An edit of the object that a person asked for through its workflow.

    `verb` is one of `planning.edits`; an empty one sets `spec.paused` to `paused`. `at` stamps a restart or a retry,
    `revision` names the one to go back to, `roles` those to restart.
    """

    ref: Ref
    paused: bool = False
    verb: str = ""
    at: str = ""
    revision: str = ""
    roles: list[str] = Field(default_factory=list)


class Edited(Wire):
    """`message` says why nothing was edited; empty when the object says what was asked for. `did` says what was done,
    or that it was so already."""

    paused: bool
    message: str = ""
    did: str = ""


class ForecastRequest(Wire):
    """Foretell what an undo (`verb`, to `to_revision`) or a restart would replace; no verb: what is left to do."""

    ref: Ref
    verb: str = ""
    to_revision: int = 0
    at: str = ""


class Foretold(Wire):
    """`revision` names the one that an undo means. `refused` says why the change cannot be made."""

    forecast: Forecast | None = None
    revision: str = ""
    said: str = ""
    refused: str = ""
