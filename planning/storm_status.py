"""The status of a StormService: counts of RoleSets, counts by role, promotion of a revision, conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from crds import labels
from planning.conditions import Condition, merged
from planning.fleet import Fleet, desired_replicas, revision_of, roles_are
from planning.objects import (
    annotations_of,
    condition,
    format_time,
    generation_of,
    is_condition_true,
    name_of,
    status_of,
)
from planning.progress import Counted, Verdict
from planning.revisions import Revisions
from planning.roleset_status import REASON_BLOCKED

Json = dict[str, Any]
NOTHING_SAID: Final = Verdict()
_OWNED: Final = (labels.READY, labels.PROGRESSING, labels.REPLICA_FAILURE, labels.SERVICE_CONFLICT)
_COUNTS: Final = ("replicas", "readyReplicas", "notReadyReplicas", "updatedReplicas", "updatedReadyReplicas")


@dataclass(frozen=True, slots=True)
class Counts:
    """RoleSets, those that are being deleted included."""

    desired: int
    replicas: int
    ready: int
    current: int
    updated: int
    updated_ready: int
    current_revision: str

    def is_ready(self, update: str) -> bool:
        settled = self.updated == self.desired and self.replicas == self.desired
        return settled and self.ready >= self.desired and self.current_revision == update


def count(storm: Json, rolesets: Sequence[Json], revisions: Revisions) -> Counts:
    """Once no RoleSet is at the current revision any more, the update revision is promoted to it."""
    ready = [found for found in rolesets if is_condition_true(found, labels.READY)]
    at_update = [found for found in rolesets if revision_of(found) == revisions.update]
    updated = [found for found in at_update if roles_are(found, "updatedReplicas")]
    updated_ready = [found for found in updated if found in ready and roles_are(found, "updatedReadyReplicas")]
    current = sum(revision_of(found) == revisions.current for found in rolesets)
    promoted = current == 0
    return Counts(
        desired=desired_replicas(storm),
        replicas=len(rolesets),
        ready=len(ready),
        current=len(updated) if promoted else current,
        updated=len(updated),
        updated_ready=len(updated_ready),
        current_revision=revisions.update if promoted else revisions.current,
    )


def moved(counts: Counts, roles: Iterable[Json]) -> Counted:
    """What the progress deadline looks at."""
    shown = {"updatedReplicas": counts.updated, "updatedReadyReplicas": counts.updated_ready}
    return Counted.of({**shown, "replicas": counts.replicas, "roleStatuses": roles})


def role_statuses(rolesets: Iterable[Json], update: str) -> list[Json]:
    """Sums over all RoleSets by role, sorted by name; updated counts come from RoleSets at the update revision."""
    found: dict[str, dict[str, int]] = {}
    for roleset in rolesets:
        at_update = revision_of(roleset) == update
        for role in status_of(roleset).get("roles") or ():
            sums = found.setdefault(role.get("name", ""), dict.fromkeys(_COUNTS, 0))
            for key in _COUNTS[:3]:
                sums[key] += int(role.get(key) or 0)
            if at_update:
                sums["updatedReplicas"] += _reported(role, "updatedReplicas", "replicas")
                sums["updatedReadyReplicas"] += _reported(role, "updatedReadyReplicas", "readyReplicas")
    return [{"name": name, **sums} for name, sums in sorted(found.items())]


def _reported(role: Json, key: str, instead: str) -> int:
    """A RoleSet that does not report updated pods is taken as wholly updated."""
    value = role.get(key)
    return int(role.get(instead) or 0) if value is None else int(value)


@dataclass(frozen=True, slots=True)
class Findings:
    """What the pass found besides numbers: sentences, empty when there is nothing to say."""

    failure: str = ""
    service_conflict: str = ""
    blocked: str = ""
    completed_revision: str = ""
    verdict: Verdict = NOTHING_SAID


def status(
    storm: Json, counts: Counts, roles: Sequence[Json], fleet: Fleet, revisions: Revisions, findings: Findings,
    now: datetime,
) -> Json:  # fmt: skip
    """The whole status to publish."""
    found: Json = {
        "observedGeneration": generation_of(storm),
        "replicas": counts.replicas,
        "readyReplicas": counts.ready,
        "notReadyReplicas": counts.replicas - counts.ready,
        "currentReplicas": counts.current,
        "updatedReplicas": counts.updated,
        "updatedReadyReplicas": counts.updated_ready,
        "currentRevision": counts.current_revision,
        "updateRevision": revisions.update,
        "collisionCount": revisions.collision_count,
        "scalingTargetSelector": f"{labels.STORM_SERVICE_NAME}={name_of(storm)}",
        "roleStatuses": list(roles),
    }
    found |= _progress(storm, findings)
    wanted = _conditions(counts, fleet, revisions, findings)
    found["conditions"] = merged(status_of(storm).get("conditions") or (), wanted, _OWNED, now)
    return found


def _progress(storm: Json, findings: Findings) -> Json:
    """What the progress deadline needs, and only that: without one nothing is added."""
    at = findings.verdict.progressed_at
    found = {
        "completedRevision": findings.completed_revision or status_of(storm).get("completedRevision"),
        "failedRevision": findings.verdict.failed,
        "progressedAt": format_time(at) if at is not None else None,
        "retriedAt": annotations_of(storm).get(labels.RETRY_AT) if at is not None else None,
    }
    return {key: value for key, value in found.items() if value}


def _conditions(counts: Counts, fleet: Fleet, revisions: Revisions, findings: Findings) -> list[Condition]:
    ready = counts.is_ready(revisions.update)
    found = [_ready(counts, findings.verdict, ready), _progressing(fleet, findings, ready)]
    if findings.failure:
        found.append(Condition(labels.REPLICA_FAILURE, "True", labels.REASON_FAILURE, findings.failure))
    if findings.service_conflict:
        conflict = findings.service_conflict
        found.append(Condition(labels.SERVICE_CONFLICT, "True", labels.REASON_NAME_CONFLICT, conflict))
    return found


def _ready(counts: Counts, verdict: Verdict, ready: bool) -> Condition:
    """A service that went back serves, but not what its spec asks for."""
    if ready and not verdict.failed:
        return Condition(labels.READY, "True", labels.REASON_READY)
    if verdict.back_to:
        shown = (
            f"{verdict.failed} failed; {counts.updated_ready} of {counts.desired} RoleSets ready at {verdict.back_to}"
        )
        return Condition(labels.READY, "False", labels.REASON_ROLLED_BACK, shown)
    shown = f"{counts.ready} of {counts.desired} RoleSets ready, {counts.updated_ready} of them updated"
    return Condition(labels.READY, "False", labels.REASON_NOT_READY, shown)


def _progressing(fleet: Fleet, findings: Findings, ready: bool) -> Condition:
    failed = bool(findings.verdict.failed)
    if ready and not failed:
        return Condition(labels.PROGRESSING, "False", labels.REASON_COMPLETED)
    if failed and not fleet.paused:
        return Condition(labels.PROGRESSING, "False", labels.REASON_DEADLINE, findings.verdict.why)
    if fleet.paused and (fleet.outdated or failed):
        return Condition(labels.PROGRESSING, "False", labels.REASON_PAUSED)
    return Condition(labels.PROGRESSING, "True", labels.REASON_PROCESSING, findings.blocked)


def blocked_by(rolesets: Iterable[Json]) -> str:
    """The first RoleSet that says what keeps it, with its name."""
    for roleset in rolesets:
        progress = condition(roleset, labels.PROGRESSING)
        if progress.get("reason") == REASON_BLOCKED:
            return f"RoleSet {name_of(roleset)}: {progress.get('message', '')}"
    return ""


def culprit(rolesets: Iterable[Json], revision: str) -> str:
    """What keeps `revision` from being reached: its first RoleSet that is blocked, not ready or not wholly updated."""
    at_it = [found for found in rolesets if revision_of(found) == revision]
    if blocked := blocked_by(at_it):
        return blocked
    for roleset in at_it:
        if not is_condition_true(roleset, labels.READY):
            said = condition(roleset, labels.READY).get("message") or "has not been looked at"
            return f"RoleSet {name_of(roleset)}: {said}"
        if not roles_are(roleset, "updatedReadyReplicas"):
            return f"RoleSet {name_of(roleset)}: ready, but not all of its pods are updated"
    return ""


def news(before: Json, after: Json, *, rolling: bool) -> list[tuple[str, str, str]]:
    """Events that the change of status is worth: a promotion, and a failure that was not there before."""
    found = []
    promoted, old = after["currentRevision"], before.get("currentRevision")
    if old and promoted != old:
        found.append(("Normal", labels.EVENT_PROMOTED, f"{promoted} replaced {old}"))
    failure = condition({"status": after}, labels.REPLICA_FAILURE).get("message", "")
    if failure and failure != condition({"status": before}, labels.REPLICA_FAILURE).get("message", ""):
        kind = labels.EVENT_ROLLOUT if rolling else labels.EVENT_SCALING
        found.append(("Warning", kind, f"{kind.lower()} error: {failure}"))
    return found
