"""Conditions side by side, each with the time of its last change and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from planning.objects import format_time

Json = dict[str, Any]
LONGEST_MESSAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str = ""


def merged(
    before: Iterable[Json], wanted: Sequence[Condition], owned: Iterable[str], now: datetime
) -> list[Json]:  # fmt: skip
    """The conditions to publish: `wanted` in order, then those of types that are not ours.

    Types in `owned` that are not wanted disappear. The transition time changes with the status alone, the update time
    with status, reason or message; a condition that says the same stays as it is.
    """
    known = {entry.get("type"): entry for entry in before}
    ours = {*owned, *(condition.type for condition in wanted)}
    foreign = [entry for kind, entry in known.items() if kind not in ours]
    return [_next(known.get(condition.type), condition, now) for condition in wanted] + foreign


def _next(before: Json | None, wanted: Condition, now: datetime) -> Json:
    content = {"type": wanted.type, "status": wanted.status, "reason": wanted.reason}
    if wanted.message:
        content["message"] = wanted.message[:LONGEST_MESSAGE]
    if before is not None and all(before.get(k, "") == content.get(k, "") for k in ("status", "reason", "message")):
        return before
    at = format_time(now)
    changed = before.get("lastTransitionTime", at) if before and before.get("status") == wanted.status else at
    return {**content, "lastTransitionTime": changed, "lastUpdateTime": at}


def standard(conditions: Iterable[Json]) -> list[Json]:
    """As Kubernetes' own condition type wants them: a message, if only an empty one, and no time of update."""
    return [
        {"message": "", **{key: value for key, value in entry.items() if key != "lastUpdateTime"}}
        for entry in conditions
    ]
