"""Tables for people: the parts of the system and the findings about the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from local.durations import spoken

if TYPE_CHECKING:
    from local.preflight import Finding


def status_table(parts: list[dict[str, Any]]) -> Table:
    """One row a part, as the supervisor describes it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("part", no_wrap=True)
    table.add_column("address", overflow="fold")
    table.add_column("health", overflow="fold", min_width=7)
    for column in ("pid", "up", "restarts", "memory"):
        table.add_column(column, justify="right", no_wrap=True)
    for part in parts:
        table.add_row(
            part["name"],
            part["address"],
            Text("healthy", "green") if part["healthy"] else Text(part["reason"], "red"),
            str(part["pid"] or "-"),
            spoken(part["uptime_seconds"]) if part["uptime_seconds"] is not None else "-",
            str(part["restarts"]),
            f"{part['memory_bytes'] / 1024**2:.0f} MiB" if part["memory_bytes"] else "-",
        )
    total = sum(part["memory_bytes"] or 0 for part in parts)
    table.caption = f"{len(parts)} parts, {total / 1024**2:.0f} MiB"
    return table


def finding_table(findings: list[Finding]) -> Table:
    """One row a finding, with its remedy when something is lacking."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    for finding in findings:
        mark = Text("lacks", "red") if finding.is_lack else Text("ok", "green")
        table.add_row(mark, finding.name, f"{finding.text}; {finding.remedy}" if finding.is_lack else finding.text)
    return table
