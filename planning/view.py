"""What a person reads about an object in the Temporal UI: one page of markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from crds import labels
from planning.objects import format_time

Json = dict[str, Any]
MAX_ROWS: Final = 20
MAX_DETAILS_BYTES: Final = 6_000


@dataclass(frozen=True, slots=True)
class RoleRow:
    name: str
    desired: int
    ready: int
    updated: int
    note: str = ""


def counted(number: int, noun: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def page(
    *, phase: str, revision: str, rows: Sequence[RoleRow], wake_at: datetime | None, now: datetime,
    facts: Iterable[str] = (), timer: str = "",
) -> str:  # fmt: skip
    """At most 6,000 bytes: phase, table of roles, the next timer and what it is for. The loop adds what blocks."""
    head = f"**{phase}**" + (f" at `{revision}`" if revision else "") + f", as of {format_time(now)}"
    parts = [head, *facts, *_table(rows)]
    if wake_at is not None:
        parts.append(f"Next timer: {format_time(wake_at)}{f' ({timer})' if timer else ''}")
    return "\n\n".join(parts).encode()[:MAX_DETAILS_BYTES].decode(errors="ignore")


def blocked_roles(rolesets: Iterable[Json]) -> dict[str, str]:
    """By role: what keeps its pods, as the first RoleSet that says so has it, and how many more do."""
    found: dict[str, list[str]] = {}
    for roleset in rolesets:
        for shown in (roleset.get("status") or {}).get("roles") or ():
            if said := shown.get("blocked"):
                found.setdefault(str(shown.get("name", "")), []).append(str(said))
    return {
        role: said[0] + (f" (and {counted(len(said) - 1, 'more RoleSet')})" if len(said) > 1 else "")
        for role, said in found.items()
    }


def _table(rows: Sequence[RoleRow]) -> list[str]:
    if not rows:
        return []
    lines = ["| role | desired | ready | updated | blocked by |", "|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.desired} | {r.ready} | {r.updated} | {_cell(r.note)} |" for r in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        lines.append(f"| and {len(rows) - MAX_ROWS} more | | | | |")
    return ["\n".join(lines)]


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def model_of(roles: Iterable[Json]) -> str:
    """The model that the roles' pods serve, by label, else by annotation."""
    for role in roles:
        metadata = (role.get("template") or {}).get("metadata") or {}
        for place in ("labels", "annotations"):
            if name := (metadata.get(place) or {}).get(labels.MODEL_NAME):
                return str(name)
    return ""
