"""Which Kubernetes Events a rollout is worth: what a user wants to see in `kubectl describe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from crds import labels
from planning.objects import condition
from planning.wire import KNOWN_STEPS, CloseRollout, Decision, StartRollout

Json = dict[str, Any]
Event = tuple[str, str, str]

_ENDS: Final[Mapping[str, tuple[str, str]]] = {
    "completed": ("Normal", labels.EVENT_ROLLOUT_COMPLETED),
    "superseded": ("Normal", labels.EVENT_ROLLOUT_SUPERSEDED),
    "undone": ("Normal", labels.EVENT_ROLLOUT_UNDONE),
    "failed": ("Warning", labels.EVENT_ROLLOUT_FAILED),
}


def of_status(before: Json, after: Json) -> list[Event]:
    """What a written status tells that the one before did not: paused, resumed, out of time."""
    old, new = (condition({"status": each}, labels.PROGRESSING) for each in (before, after))
    was, now = old.get("reason", ""), new.get("reason", "")
    if was == now:
        return []
    update = after.get("updateRevision") or "the update"
    if now == labels.REASON_PAUSED:
        return [("Normal", labels.EVENT_ROLLOUT_PAUSED, f"paused: {update} is not rolled out until it is resumed")]
    if now == labels.REASON_DEADLINE:
        why = new.get("message") or "no progress within spec.progressDeadlineSeconds"
        return [("Warning", labels.REASON_DEADLINE, f"{after.get('failedRevision') or update}: {why}")]
    if was == labels.REASON_PAUSED and now == labels.REASON_PROCESSING:
        return [("Normal", labels.EVENT_ROLLOUT_RESUMED, f"resumed: {update} is rolled out")]
    return []


def of_decision(decision: Decision, rollout: str | None, started_at: datetime | None, now: datetime) -> list[Event]:
    """What a returned decision tells: a rollout that starts or ends."""
    found: list[Event] = []
    for step in decision.steps:
        if isinstance(step, StartRollout):
            number = f" (revision {step.number})" if step.number else ""
            found.append(("Normal", labels.EVENT_ROLLOUT_STARTED, f"roll out {step.revision}{number}"))
        elif isinstance(step, CloseRollout) and step.result in _ENDS:
            kind, reason = _ENDS[step.result]
            found.append((kind, reason, _ending(step, decision, rollout or "", started_at, now)))
    return found


def _ending(
    step: CloseRollout, decision: Decision, rollout: str, started_at: datetime | None, now: datetime
) -> str:  # fmt: skip
    took = f" after {spoken(now - started_at)}" if started_at is not None else ""
    blocked = decision.view.blocked
    told = step.result == "completed" or not blocked or blocked in step.message
    why = "" if told else f"; blocked by {blocked}"
    return f"{rollout} {step.result}{took}: {step.message}{why}"


def spoken(duration: Any) -> str:
    """`8 s`, `2 min 5 s`, `3 h 4 min`, from a timedelta or seconds."""
    seconds = round(duration if isinstance(duration, int | float) else duration.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def reasons_of(decision: Decision) -> Sequence[str]:
    """The step types of a decision, each once; `close-completed` and so on for the end of a rollout, `view` for none.

    Bounded by the step types that exist: fit for a metric's label.
    """
    found: dict[str, None] = {}
    for step in decision.steps:
        if isinstance(step, CloseRollout):
            found[f"close-{step.result}"] = None
        else:
            found[step.type if isinstance(step, KNOWN_STEPS) else "unknown"] = None
    return list(found) or ["view"]
