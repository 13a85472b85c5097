"""Tables and lines of `brixflow rollout`, for people; `printed` writes JSON and YAML for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import typer
import yaml
from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.cluster import as_dict
from planning.forecast import Forecast, RoleForecast
from planning.history import Entry, Run
from planning.news import spoken
from planning.standing import Count, Progress

PLAIN_WIDTH = 140
BAR_WIDTH = 28
_COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "paused": "yellow"}


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def printed(value: Any, output: str | None) -> bool:
    """Print plain data as JSON or YAML; False when a person reads."""
    if output is None:
        return False
    data = as_dict(value)
    text = json.dumps(data, indent=2) if output == "json" else yaml.safe_dump(data, sort_keys=False).rstrip()
    typer.echo(text)
    return True


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _NARROW)
    return table


_NARROW = frozenset({"role", "revision", "started", "result", "took", "pods", "replace", "patch", "create", "delete"})


# Plan.


def forecast_lines(found: Forecast) -> RenderableType:
    table = _table("role", "pods", "replace", "patch", "create", "delete", "why")
    for row in found.rows:
        counts = (row.pods, row.replaced, row.in_place, row.created, row.deleted)
        table.add_row(row.role, *(str(count) if count else "-" for count in counts), _why(row))
    revision = f" at {_revision_name(found)}" if found.revision else ""
    head = Text(f"{found.object}{revision}: {found.sentence}")
    notes = [Text(f"- {note}") for note in found.notes]
    faults = [Text(f"would be refused: {found.fault}", "red")] if found.fault else []
    return Group(head, table, *notes, *faults)


def _revision_name(found: Forecast) -> str:
    return found.revision if found.stored else f"{found.revision} (revision {found.number}, new)"


def _why(row: RoleForecast) -> Text:
    return Text("\n".join(row.why) or "unchanged", "" if row.is_touched else "dim")


# History.


def history_table(entries: Iterable[Entry]) -> Table:
    table = _table("revision", "started", "result", "took", "change-cause", "what was said")
    for entry in entries:
        table.add_row(
            f"{entry.revision or '-'}{' *' if entry.is_live else ''}",
            _time(entry.started_at or entry.created_at),
            _result(entry.result),
            _took(entry.seconds),
            entry.change_cause or "<none>",
            entry.message or "-",
        )
    return table


def entry_lines(entry: Entry) -> RenderableType:
    roles = _table("role", "replicas", "images")
    for role in entry.roles:
        roles.add_row(role.name, str(role.replicas), "\n".join(role.images))
    live = ", live" if entry.is_live else ""
    head = [
        Text(f"revision {entry.revision or '-'} ({entry.name}{live}), stored {_time(entry.created_at)}"),
        Text(f"change-cause: {entry.change_cause or '<none>'}"),
    ]
    runs = [line for run in entry.runs for line in _run_lines(run)]
    if not runs and entry.result:
        runs = [Text(f"{entry.result}, as the object's status has it")]
    return Group(*head, roles, *runs)


def _run_lines(run: Run) -> list[Text]:
    took = f" after {spoken(run.seconds)}" if run.seconds is not None else ""
    steps = ", ".join(f"{count} {step}" for step, count in sorted(run.steps.items()))
    lines = [Text(f"{_time(run.started_at)} {run.result}{took}{f': {run.message}' if run.message else ''}")]
    lines += [Text(f"  blocked by {said}") for said in run.blocked]
    lines += [Text(f"  steps: {steps}")] if steps else []
    return [*lines, Text(f"  workflow {run.workflow_id}", "dim")]


def _time(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at is not None else "-"


def _took(seconds: float | None) -> str:
    return spoken(seconds) if seconds is not None else "-"


def _result(result: str) -> Text:
    return Text(result or "unknown", _COLOURS.get(result, ""))


# Status.


def progress_lines(found: Progress, elapsed: float | None = None) -> RenderableType:
    """The line, a bar for the RoleSets and each role, and below them what blocks which role."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for count in (*([found.rolesets] if found.rolesets is not None else ()), *found.roles):
        table.add_row(count.name, _bar(count), f"{count.updated}/{count.desired} updated", f"{count.ready} ready")
    clock = f"  ({spoken(elapsed)})" if elapsed is not None else ""
    colour = "green" if found.done else "red" if found.failed else "yellow" if found.paused else ""
    blocked = [Text(f"{role.name} is blocked: {role.blocked}", "red") for role in found.roles if role.blocked]
    head = found.message.partition("; blocked: ")[0] if blocked else found.message
    return Group(Text(f"{head}{clock}", colour), table, *blocked)


def _bar(count: Count) -> ProgressBar:
    total = max(count.desired, 1)
    done = min(count.updated, total) if count.desired else 1
    return ProgressBar(total=total, completed=done, width=BAR_WIDTH)
