"""An object that is being deleted and does not go: what its status says, so that somebody can help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from planning.backoff import earliest
from planning.conditions import Condition, merged
from planning.objects import condition, deletion_time, in_order, is_deleting, name_of, status_of
from planning.roleset_status import REASON_BLOCKED
from planning.trouble import leaving_trouble

Json = dict[str, Any]
ORPHAN_FINALIZER: Final = "orphan"
# A pod may take so long after its grace period before anybody is told: a kubelet's last report needs a moment.
OVERDUE: Final = timedelta(seconds=5)


def is_orphaning(owner: Json) -> bool:
    """The owner goes and its children stay: the garbage collector takes the owner references off."""
    return ORPHAN_FINALIZER in (owner["metadata"].get("finalizers") or ())


def status(leaving: Json, blocked: str, now: datetime) -> Json | None:
    """The status of `leaving` with what holds it up; None while nothing does, so that a swift end costs no write."""
    if not blocked:
        return None
    conditions = status_of(leaving).get("conditions") or ()
    said = Condition(labels.PROGRESSING, "False", REASON_BLOCKED, blocked)
    return {**status_of(leaving), "conditions": merged(conditions, [said], (labels.PROGRESSING,), now)}


def held_by_pods(pods: Iterable[Json], now: datetime) -> tuple[str, datetime | None]:
    """The first pod that should have gone, and when to look again at those that still may take their time."""
    leaving = [pod for pod in in_order(pods) if is_deleting(pod)]
    overdue = [sentence for pod in leaving if (sentence := leaving_trouble(pod, now - OVERDUE))]
    limits = (at + OVERDUE for pod in leaving if (at := deletion_time(pod)) is not None)
    return (overdue[0] if overdue else ""), earliest(*(at for at in limits if at > now))


def held_by(children: Sequence[Json], finalizer: str) -> str:
    """What keeps children that leave, with the child's name: what they say themselves, or somebody's finalizer.

    `finalizer` is ours: a child that still has it is not waiting for others yet.
    """
    for child in children:
        if not is_deleting(child):
            continue
        said = condition(child, labels.PROGRESSING)
        if said.get("reason") == REASON_BLOCKED:
            return f"{child['kind']} {name_of(child)}: {said.get('message', '')}"
        finalizers = child["metadata"].get("finalizers") or ()
        if finalizers and finalizer not in finalizers:
            return f"{child['kind']} {name_of(child)} does not go: finalizer {', '.join(finalizers)} holds it"
    return ""
