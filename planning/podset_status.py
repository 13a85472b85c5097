"""The status of a PodSet: counts, phase, conditions, and which pod keeps the group from being ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from crds import labels
from planning.backoff import failures_of
from planning.conditions import Condition, merged
from planning.objects import generation_of, status_of
from planning.podset_ranks import Group, Rank
from planning.trouble import Trouble, worst_of
from planning.warm_up import Warmth
from planning.wire import Memory

Json = dict[str, Any]
REASON_READY: Final = "PodSetReady"
REASON_NOT_READY: Final = "PodSetNotReady"
REASON_FAILED: Final = "PodFailed"
_OWNED: Final = (labels.READY, labels.PROGRESSING, labels.REPLICA_FAILURE, labels.POD_GROUP_SYNCED)


@dataclass(frozen=True, slots=True)
class Health:
    """What the status says. `phase`: Ready, Running (some are ready), Pending, or Failed while a pod has failed."""

    phase: str
    ready: int
    size: int
    trouble: Trouble | None
    failed: str
    refusals: Sequence[str]

    @property
    def sentence(self) -> str:
        """What is wrong, empty when nothing is."""
        if self.failed:
            return self.failed
        return self.trouble.sentence if self.trouble is not None else ""

    @property
    def blocked(self) -> str:
        """A sentence when something has to be done before the group can become ready."""
        if self.refusals:
            return self.refusals[0]
        return self.trouble.sentence if self.trouble is not None and self.trouble.stuck else ""


def health_of(podset: Json, group: Group, failed: Sequence[Rank], warmth: Warmth, memory: Memory) -> Health:
    """`warmth`: whether the group has generated its first token, where that is asked for."""
    waiting = [rank.pod for rank in group.staying if not rank.ready]
    refusals = [f"{failure.step}: {failure.message}" for failure in failures_of(memory, generation_of(podset))]
    return Health(
        phase=_phase(group, failed, warmth),
        ready=group.ready,
        size=group.size,
        trouble=worst_of(waiting) or _cold(group, warmth),
        failed=_said_of(failed[0]) if failed else "",
        refusals=refusals,
    )


def _cold(group: Group, warmth: Warmth) -> Trouble | None:
    """What to say of a group that is up and has not generated yet."""
    if warmth.done or group.ready < group.size:
        return None
    if not warmth.message:
        return Trouble("the first token is still to come", stuck=False)
    tries = "one try" if warmth.tries == 1 else f"{warmth.tries} tries"
    return Trouble(f"no first token in {tries}: {warmth.message}", stuck=True)


def _phase(group: Group, failed: Sequence[Rank], warmth: Warmth) -> str:
    if group.ready == group.size and warmth.done:
        return "Ready"
    if failed:
        return "Failed"
    return "Running" if group.ready else "Pending"


def _said_of(rank: Rank) -> str:
    if not rank.ended:
        return f"pod {rank.name} has restarted: the whole group starts again"
    status = status_of(rank.pod)
    why = ": ".join(part for part in (status.get("reason"), status.get("message")) if part)
    return f"pod {rank.name} has ended ({status.get('phase')}){f': {why}' if why else ''}"


def status(
    podset: Json, group: Group, health: Health, gang: Condition | None, restarts: int, now: datetime
) -> Json:  # fmt: skip
    """The whole status to publish."""
    before = status_of(podset).get("conditions") or ()
    found: Json = {
        "observedGeneration": generation_of(podset),
        "readyPods": group.ready,
        "totalPods": len(group.active),
        "phase": health.phase,
        "conditions": merged(before, _conditions(health, gang), _OWNED, now),
    }
    return found | ({"restarts": restarts} if restarts else {})


def leaving(podset: Json, blocked: str, now: datetime) -> Json | None:
    """The status of a PodSet that is being deleted and cannot go; None while nothing is in its way."""
    if not blocked:
        return None
    before = status_of(podset).get("conditions") or ()
    said = Condition(labels.PROGRESSING, "False", "Blocked", blocked)
    required = {"readyPods": 0, "totalPods": 0} | status_of(podset)
    return {**required, "conditions": merged(before, [said], (labels.PROGRESSING,), now)}


def _conditions(health: Health, gang: Condition | None) -> list[Condition]:
    found = [_ready(health), _progressing(health)]
    if health.refusals:
        found.append(
            Condition(labels.REPLICA_FAILURE, "True", labels.EVENT_RECONCILE_ERROR, "; ".join(health.refusals))
        )
    return [*found, *([gang] if gang is not None else [])]


def _ready(health: Health) -> Condition:
    if health.phase == "Ready":
        return Condition(labels.READY, "True", REASON_READY)
    reason = REASON_FAILED if health.failed else REASON_NOT_READY
    why = f"; {health.sentence}" if health.sentence else ""
    return Condition(labels.READY, "False", reason, f"{health.ready} of {health.size} pods ready{why}")


def _progressing(health: Health) -> Condition:
    if health.blocked:
        return Condition(labels.PROGRESSING, "False", "Blocked", health.blocked)
    if health.phase == "Ready":
        return Condition(labels.PROGRESSING, "False", labels.REASON_COMPLETED)
    return Condition(labels.PROGRESSING, "True", labels.REASON_PROCESSING)
