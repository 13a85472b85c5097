"""What a RayClusterFleet says of itself: counts, and the conditions of a Deployment."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from planning.backoff import failures_of
from planning.conditions import Condition, merged
from planning.objects import condition, format_time, generation_of, parse_time, spec_of, status_of
from planning.ray_fleet_view import RECREATE, ROLLING_UPDATE, Fleet, collisions
from planning.wire import Memory

Json = dict[str, Any]
DEFAULT_DEADLINE_SECONDS: Final = 600
NO_DEADLINE: Final = 2147483647
OWNED: Final = (labels.AVAILABLE, labels.PROGRESSING, labels.REPLICA_FAILURE)
Counts = dict[str, int]


def counts_of(fleet: Fleet) -> Counts:
    new, available = fleet.new, sum(each.available for each in fleet.sets)
    return {
        "replicas": sum(each.total for each in fleet.sets),
        "updatedReplicas": new.total if new is not None else 0,
        "readyReplicas": sum(each.ready for each in fleet.sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, fleet.total - available),
    }


def is_complete(fleet: Fleet) -> bool:
    counts, wanted = counts_of(fleet), fleet.budget.desired
    settled = all(each.observed for each in fleet.sets) and fleet.new is not None and fleet.total == wanted
    return settled and all(counts[key] == wanted for key in ("replicas", "updatedReplicas", "availableReplicas"))


def status(fleet: Fleet, memory: Memory, now: datetime) -> Json:
    """The whole status to publish."""
    before, counts = status_of(fleet.live), counts_of(fleet)
    progressing = _progressing(fleet, memory, counts, now)
    wanted = [_available(fleet, counts), *([progressing] if progressing is not None else []), *_failure(fleet)]
    conditions = merged(before.get("conditions") or (), wanted, OWNED, now)
    if _has_progressed(fleet, counts):
        conditions = [_touched(entry, now) for entry in conditions]
    found: Json = {
        "observedGeneration": generation_of(fleet.live),
        **counts,
        "scalingTargetSelector": scaling_selector(fleet.name),
        "conditions": conditions,
    }
    count = collisions(fleet, memory)
    return found | ({"collisionCount": count} if count else {})


def unreadable(live: Json, said: str, now: datetime) -> Json:
    """The status of a fleet whose spec cannot be carried out: no schema judges words and percentages."""
    conditions = merged(status_of(live).get("conditions") or (), [_invalid(said)], (labels.PROGRESSING,), now)
    return {**status_of(live), "observedGeneration": generation_of(live), "conditions": conditions}


def _invalid(said: str) -> Condition:
    return _said("False", labels.REASON_INVALID_SPEC, said)


def is_known_strategy(fleet: Fleet) -> bool:
    return fleet.strategy in (ROLLING_UPDATE, RECREATE)


def unknown_strategy(fleet: Fleet) -> str:
    return f"spec.strategy.type {fleet.strategy!r} is neither RollingUpdate nor Recreate"


def scaling_selector(fleet: str) -> str:
    """Head pods only: they are what an autoscaler measures."""
    return f"{labels.RAYCLUSTER_FLEET_NAME}={fleet},{labels.RAY_NODE_TYPE}=head"


def _touched(entry: Json, now: datetime) -> Json:
    if entry.get("type") == labels.PROGRESSING and entry.get("reason") == labels.REASON_REPLICA_SET_UPDATED:
        return {**entry, "lastUpdateTime": format_time(now)}
    return entry


def _available(fleet: Fleet, counts: Counts) -> Condition:
    if counts["availableReplicas"] >= fleet.budget.min_available:
        return Condition(labels.AVAILABLE, "True", labels.REASON_MIN_AVAILABLE, "Fleet has minimum availability.")
    message = "Fleet does not have minimum availability."
    return Condition(labels.AVAILABLE, "False", labels.REASON_MIN_UNAVAILABLE, message)


def _failure(fleet: Fleet) -> list[Condition]:
    """Of the new replica set, else of any."""
    for each in ([fleet.new] if fleet.new is not None else []) + fleet.old:
        found = condition(each.live, labels.REPLICA_FAILURE)
        if found.get("status") == "True":
            return [Condition(labels.REPLICA_FAILURE, "True", found["reason"], found.get("message", ""))]
    return []


def deadline_of(fleet: Fleet) -> timedelta | None:
    seconds = spec_of(fleet.live).get("progressDeadlineSeconds", DEFAULT_DEADLINE_SECONDS)
    return None if seconds == NO_DEADLINE else timedelta(seconds=int(seconds))


def out_of_time_at(fleet: Fleet) -> datetime | None:
    """When the rollout runs out of time; None without a deadline, and for one that is complete, paused or late."""
    found, deadline = condition(fleet.live, labels.PROGRESSING), deadline_of(fleet)
    since = found.get("lastUpdateTime")
    if (
        deadline is None
        or not since
        or found.get("reason")
        in (labels.REASON_REPLICA_SET_AVAILABLE, labels.REASON_FLEET_PAUSED, labels.REASON_DEADLINE)
    ):
        return None
    return parse_time(since) + deadline


def _has_progressed(fleet: Fleet, counts: Counts) -> bool:
    before = status_of(fleet.live)

    def old(key: str) -> int:
        return int(before.get(key) or 0)

    grown = any(counts[key] > old(key) for key in ("updatedReplicas", "readyReplicas", "availableReplicas"))
    return grown or counts["replicas"] - counts["updatedReplicas"] < old("replicas") - old("updatedReplicas")


def _progressing(fleet: Fleet, memory: Memory, counts: Counts, now: datetime) -> Condition | None:
    """The condition to show; None without a deadline, or before there is anything to say."""
    if not is_known_strategy(fleet):
        return _invalid(unknown_strategy(fleet))
    if deadline_of(fleet) is None:
        return None
    before = condition(fleet.live, labels.PROGRESSING)
    reason = before.get("reason", "")
    if fleet.paused or reason == labels.REASON_FLEET_PAUSED:
        found = _paused(fleet, before)
        if found is not None:
            return found
    if is_complete(fleet) and fleet.new is not None:
        return _said(
            "True", labels.REASON_REPLICA_SET_AVAILABLE, f'ReplicaSet "{fleet.new.name}" has successfully progressed.'
        )
    if fleet.new is None:
        return _not_created(fleet, memory, before)
    return _rolling(fleet, fleet.new.name, before, counts, now)


def _rolling(fleet: Fleet, name: str, before: Json, counts: Counts, now: datetime) -> Condition | None:
    started = (
        f'"{name}"' in str(before.get("message", "")) and before.get("reason") != labels.REASON_REPLICA_SET_CREATE_ERROR
    )
    if not started and before.get("reason") != labels.REASON_FLEET_RESUMED:
        reason, word = (
            (labels.REASON_REPLICA_SET_FOUND, "Found new")
            if counts["updatedReplicas"]
            else (labels.REASON_REPLICA_SET_CREATED, "Created new")
        )
        return _said("True", reason, f'{word} replica set "{name}"')
    if _has_progressed(fleet, counts):
        return _said("True", labels.REASON_REPLICA_SET_UPDATED, f'ReplicaSet "{name}" is progressing.')
    ends = out_of_time_at(fleet)
    if ends is not None and ends < now:
        return _said("False", labels.REASON_DEADLINE, f'ReplicaSet "{name}" has timed out progressing.')
    return _again(before)


def _paused(fleet: Fleet, before: Json) -> Condition | None:
    """Not while the rollout is out of time: that says more."""
    reason = before.get("reason", "")
    if reason == labels.REASON_DEADLINE:
        return _again(before)
    if fleet.paused:
        return _said("Unknown", labels.REASON_FLEET_PAUSED, "Fleet is paused")
    return (
        _said("Unknown", labels.REASON_FLEET_RESUMED, "Fleet is resumed")
        if reason == labels.REASON_FLEET_PAUSED
        else None
    )


def _not_created(fleet: Fleet, memory: Memory, before: Json) -> Condition | None:
    for failure in failures_of(memory, generation_of(fleet.live)):
        if failure.step.startswith("create-ray-replica-set") and failure.cause != "name-conflict":
            return _said("False", labels.REASON_REPLICA_SET_CREATE_ERROR, failure.message)
    return _again(before)


def _again(before: Json) -> Condition | None:
    return _said(before["status"], before["reason"], before.get("message", "")) if before else None


def _said(status: str, reason: str, message: str) -> Condition:
    return Condition(labels.PROGRESSING, status, reason, message)
