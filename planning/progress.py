"""The progress deadline: when a rollout is given up, what is the target then, and when it is worth another try.

    template changes ─► clock starts ─► progress restarts it ─► … ─► complete
                            │ `progressDeadlineSeconds` without progress
                            ▼
                   failed: only repair and scaling, or (`automaticRollback`) back to the last completed revision
                            │ another template, a resume, the annotation retry-at, or more pods ready at it
                            └─► clock starts

Everything that the verdict depends on stands in the status, so a lost workflow changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from planning.objects import annotations_of, condition, name_of, parse_time, spec_of, status_of

Json = dict[str, Any]

# The clock wakes the planner in time; a deadline seen so much later passed while nobody watched and proves nothing.
WATCHED_MARGIN: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a rollout moves: more of the first two and of pods, fewer RoleSets that are not at the target."""

    updated: int
    updated_ready: int
    not_updated: int
    pods_updated: int
    pods_updated_ready: int

    @classmethod
    def of(cls, status: Json) -> Counted:
        """The numbers that a status shows."""
        roles: Iterable[Json] = status.get("roleStatuses") or ()
        updated = int(status.get("updatedReplicas") or 0)
        return cls(
            updated,
            int(status.get("updatedReadyReplicas") or 0),
            int(status.get("replicas") or 0) - updated,
            sum(int(role.get("updatedReplicas") or 0) for role in roles),
            sum(int(role.get("updatedReadyReplicas") or 0) for role in roles),
        )

    def is_beyond(self, before: Counted) -> bool:
        """Any progress since `before`."""
        more = self.updated > before.updated or self.pods_updated > before.pods_updated
        return more or self.not_updated < before.not_updated or self.is_readier_than(before)

    def is_readier_than(self, before: Counted) -> bool:
        return self.updated_ready > before.updated_ready or self.pods_updated_ready > before.pods_updated_ready


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the status says of the deadline: the revision that is given up, why, and where the clock stands."""

    failed: str = ""
    why: str = ""
    back_to: str = ""
    progressed_at: datetime | None = None


def deadline_of(storm: Json) -> timedelta | None:
    seconds = spec_of(storm).get("progressDeadlineSeconds")
    return None if seconds is None else timedelta(seconds=int(seconds))


def asks_again(storm: Json) -> bool:
    """Somebody wants another try: the annotation has a new value, or a pause that the status shows is over."""
    asked = annotations_of(storm).get(labels.RETRY_AT, "")
    if asked and asked != status_of(storm).get("retriedAt"):
        return True
    return condition(storm, labels.PROGRESSING).get("reason") == labels.REASON_PAUSED and not spec_of(storm).get(
        "paused"
    )


def stands_failed(storm: Json, revision: str) -> bool:
    """The template's `revision` has been given up, and nobody asked for another try."""
    failed = status_of(storm).get("failedRevision")
    return failed == revision and deadline_of(storm) is not None and not asks_again(storm)


def fallback(storm: Json, failed: str, stored: Iterable[Json]) -> str:
    """The revision to go back to by itself: the last completed one while it is stored; empty for none."""
    completed = str(status_of(storm).get("completedRevision") or "")
    if not spec_of(storm).get("automaticRollback") or completed == failed:
        return ""
    return completed if any(name_of(found) == completed for found in stored) else ""


def shown_clock(storm: Json) -> datetime | None:
    """The clock as it stands; None without a deadline."""
    shown = status_of(storm).get("progressedAt")
    return parse_time(shown) if shown and deadline_of(storm) is not None else None


def clock(storm: Json, target: str, after: Counted, now: datetime) -> datetime | None:
    """Since when a rollout that is under way has made no progress towards `target`; None without a deadline."""
    deadline, before, since = deadline_of(storm), status_of(storm), shown_clock(storm)
    if deadline is None:
        return None
    if since is None or before.get("updateRevision") != target or asks_again(storm):
        return now
    unwatched = now > since + deadline + WATCHED_MARGIN
    return now if after.is_beyond(Counted.of(before)) or unwatched else since


def why_failed(storm: Json, culprit: str) -> str:
    """The sentence of the verdict; once published it stays."""
    shown = condition(storm, labels.PROGRESSING)
    if shown.get("reason") == labels.REASON_DEADLINE and shown.get("message"):
        return str(shown["message"])
    deadline = deadline_of(storm)
    seconds = int(deadline.total_seconds()) if deadline is not None else 0
    return f"no progress for {seconds} s" + (f": {culprit}" if culprit else "")
