"""An object that is being deleted and does not go: what its status says, so that somebody can help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from crds import labels
from planning.conditions import Condition, merged
from planning.objects import condition, in_order, is_deleting, name_of, status_of
from planning.roleset_status import REASON_BLOCKED
from planning.storm_status import blocked_by
from planning.trouble import leaving_trouble

Json = dict[str, Any]


def status(leaving: Json, blocked: str, now: datetime) -> Json | None:
    """The status of `leaving` with what holds it up; None while nothing does, so that a swift end costs no write."""
    if not blocked:
        return None
    conditions = status_of(leaving).get("conditions") or ()
    said = Condition(labels.PROGRESSING, "False", REASON_BLOCKED, blocked)
    return {**status_of(leaving), "conditions": merged(conditions, [said], (labels.PROGRESSING,), now)}


def held_by(rolesets: Sequence[Json]) -> str:
    """What keeps the RoleSets of a StormService that goes: their pods, or somebody's finalizer."""
    return blocked_by(found for found in rolesets if is_deleting(found)) or _foreign_finalizer(rolesets)


def held_by_members(pods: Iterable[Json], podsets: Iterable[Json], now: datetime) -> str:
    """What keeps the pods and PodSets of a RoleSet that goes."""
    said = [leaving_trouble(pod, now) for pod in in_order(pods)]
    said += [_of_podset(podset) for podset in in_order(podsets)]
    return next((sentence for sentence in said if sentence), "")


def _of_podset(podset: Json) -> str:
    progressing = condition(podset, labels.PROGRESSING)
    if not is_deleting(podset) or progressing.get("reason") != REASON_BLOCKED:
        return ""
    return str(progressing.get("message") or "")


def _foreign_finalizer(rolesets: Iterable[Json]) -> str:
    """A RoleSet that we have let go already and that somebody else has not."""
    for found in rolesets:
        finalizers = found["metadata"].get("finalizers") or ()
        if is_deleting(found) and finalizers and labels.ROLESET_FINALIZER not in finalizers:
            return f"RoleSet {name_of(found)} does not go: finalizer {', '.join(finalizers)} holds it"
    return ""
