"""What holds a step back when the world has moved on since its decision.

A retried or doubled activity can so never spend a disruption budget that something else has used: before each
disruptive write the generation is unchanged, the decision young, and the activity within its own deadline.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from activities.errors import KubeError, KubeNotFound
from activities.kube import KubeClient
from activities.store import Store
from planning.planner import Json
from planning.wire import Cause, Decision, Ref

DECISION_LIFE = timedelta(seconds=30)
STEP_SECONDS = 45.0
"""The activity's own deadline, before Temporal's: whatever would come later is left to the next decision."""


class StaleStep(Exception):  # noqa: N818 - an outcome, not an error
    """The step must not be carried out any more; the planner decides anew."""


class StepRefused(Exception):  # noqa: N818 - an outcome, not an error
    """The step cannot be carried out, for a reason that is not an answer of the API server."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Fence:
    """The conditions of one decision about the object `ref`."""

    def __init__(self, client: KubeClient, store: Store, ref: Ref, decision: Decision) -> None:
        self._client = client
        self._store = store
        self._ref = ref
        self._decision = decision
        self._ends = time.monotonic() + STEP_SECONDS

    def owner(self) -> Json:
        """The object as the cache has it."""
        found = self._store.get(self._ref.namespace, self._ref.name)
        if found is None or found["metadata"]["uid"] != self._ref.uid:
            raise StaleStep(f"{self._ref.name} is not the object that the decision was about")
        return found

    async def check_live(self) -> None:
        """Before the first disruptive write of a step: the generation as the API server has it."""
        self.check()
        try:
            live = await self._client.get(self._store.resource, self._ref.namespace, self._ref.name)
        except KubeNotFound as error:
            raise StaleStep("the object is gone") from error
        except KubeError as error:
            raise StepRefused("unavailable", f"cannot read the object before a disruptive write: {error}") from error
        if live["metadata"]["uid"] != self._ref.uid:
            raise StaleStep("another object has taken the name")
        self._same_generation(live)

    def check(self) -> None:
        """Before every disruptive write."""
        self.in_time()
        decided_at = self._decision.decided_at
        if decided_at is None or datetime.now(UTC) - decided_at > DECISION_LIFE:
            raise StaleStep(f"the decision is older than {DECISION_LIFE.seconds} s")
        self._same_generation(self.owner())

    def in_time(self) -> None:
        """Before every write."""
        if time.monotonic() > self._ends:
            raise StaleStep(f"not finished within {STEP_SECONDS:.0f} s")

    def _same_generation(self, live: Json) -> None:
        generation = live["metadata"].get("generation", 0)
        if generation != self._decision.generation:
            raise StaleStep(f"generation is {generation}, decided for {self._decision.generation}")
