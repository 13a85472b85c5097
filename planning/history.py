"""The history of a StormService's rollouts: its ControllerRevisions joined with what Temporal still knows of each.

Without Temporal, or once its retention has passed, the StormService's own status tells how the newest ones ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import Field

from crds import labels
from planning import names
from planning.objects import annotations_of, name_of, parse_time, spec_of, status_of
from planning.render import desired_replicas, revision_template
from planning.revisions import in_number_order, number_of
from planning.wire import Wire

Json = dict[str, Any]


class Run(Wire):
    """One rollout of a revision, as its workflow tells it. `seconds` is None while it runs."""

    workflow_id: str
    run_id: str = ""
    revision: str
    number: int = 0
    result: str
    message: str = ""
    started_at: datetime
    seconds: float | None = None
    blocked: list[str] = Field(default_factory=list)
    steps: dict[str, int] = Field(default_factory=dict)


class RoleSummary(Wire):
    name: str
    images: list[str] = Field(default_factory=list)
    replicas: int = 1


class Entry(Wire):
    """One revision; `revision` is 0 when only Temporal remembers it. `result` is that of its last rollout.

    `source` says who knows the result: `temporal`, or `status` of the StormService; empty when nobody does.
    """

    revision: int
    name: str
    created_at: datetime | None = None
    change_cause: str = ""
    is_live: bool = False
    result: str = ""
    source: str = ""
    started_at: datetime | None = None
    seconds: float | None = None
    message: str = ""
    roles: list[RoleSummary] = Field(default_factory=list)
    runs: list[Run] = Field(default_factory=list)


def history(storm: Json, revisions: Iterable[Json], runs: Iterable[Run] = ()) -> list[Entry]:
    """Oldest first; revisions that only Temporal remembers come before the stored ones."""
    by_name: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.started_at):
        by_name.setdefault(run.revision, []).append(run)
    live = names.template_digest(spec_of(storm).get("template") or {})
    stored = [_entry(storm, found, by_name.pop(name_of(found), []), live) for found in in_number_order(revisions)]
    return [*(_forgotten(name, found) for name, found in by_name.items()), *stored]


def _entry(storm: Json, revision: Json, runs: list[Run], live: str) -> Entry:
    template = revision_template(revision)
    created = revision["metadata"].get("creationTimestamp")
    found = Entry(
        revision=number_of(revision),
        name=name_of(revision),
        created_at=parse_time(created) if created else None,
        change_cause=annotations_of(revision).get(labels.CHANGE_CAUSE, ""),
        is_live=names.template_digest(template) == live,
        roles=[_summary(role) for role in (template.get("spec") or {}).get("roles") or ()],
        runs=runs,
    )
    if runs:
        return found.model_copy(update=_last(runs))
    result = _by_status(storm, found)
    return found.model_copy(update={"result": result, "source": "status" if result else ""})


def _last(runs: list[Run]) -> dict[str, Any]:
    run = runs[-1]
    told = run.result == "completed" or not run.blocked or run.blocked[-1] in run.message
    blocked = "" if told else f"; blocked by {run.blocked[-1]}"
    return {
        "result": run.result, "source": "temporal", "started_at": run.started_at, "seconds": run.seconds,
        "message": f"{run.message}{blocked}",
    }  # fmt: skip


def _by_status(storm: Json, entry: Entry) -> str:
    status = status_of(storm)
    if status.get("failedRevision") == entry.name:
        return "failed"
    if status.get("completedRevision") == entry.name:
        return "completed"
    if status.get("updateRevision") == entry.name:
        return "paused" if spec_of(storm).get("paused") else "running"
    return ""


def _forgotten(name: str, runs: list[Run]) -> Entry:
    return Entry(revision=runs[-1].number, name=name, runs=runs).model_copy(update=_last(runs))


def _summary(role: Json) -> RoleSummary:
    containers = ((role.get("template") or {}).get("spec") or {}).get("containers") or ()
    images = [str(each.get("image", "")) for each in containers]
    return RoleSummary(name=role["name"], images=images, replicas=desired_replicas(role))
