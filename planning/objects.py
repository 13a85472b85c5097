"""Reading the API server's JSON: one place that knows where a fact stands and what its absence means."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def name_of(found: Json) -> str:
    return str(found["metadata"].get("name", ""))


def uid_of(found: Json) -> str:
    return str(found["metadata"].get("uid", ""))


def generation_of(found: Json) -> int:
    return int(found["metadata"].get("generation") or 0)


def labels_of(found: Json) -> dict[str, str]:
    return found["metadata"].get("labels") or {}


def annotations_of(found: Json) -> dict[str, str]:
    return found["metadata"].get("annotations") or {}


def spec_of(found: Json) -> Json:
    return found.get("spec") or {}


def status_of(found: Json) -> Json:
    return found.get("status") or {}


def has_finalizer(found: Json, finalizer: str) -> bool:
    return finalizer in (found["metadata"].get("finalizers") or ())


def is_deleting(found: Json) -> bool:
    return bool(found["metadata"].get("deletionTimestamp"))


def deletion_time(found: Json) -> datetime | None:
    """When the object should be gone: for a pod the end of its grace period, else the moment of the request."""
    text = found["metadata"].get("deletionTimestamp")
    return parse_time(text) if text else None


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def format_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(found: Json, kind: str) -> Json:
    """The condition of that type, or an empty one."""
    conditions: Iterable[Json] = status_of(found).get("conditions") or ()
    for entry in conditions:
        if entry.get("type") == kind:
            return entry
    return {}


def is_condition_true(found: Json, kind: str) -> bool:
    return condition(found, kind).get("status") == "True"


def in_order(objects: Iterable[Json]) -> list[Json]:
    """Oldest first, then by name: lists of the API server have no order of their own."""
    return sorted(objects, key=lambda found: (str(found["metadata"].get("creationTimestamp") or ""), name_of(found)))


def observes_its_generation(found: Json) -> bool:
    """False while the object's status still describes an older spec. A status without the field is taken as current."""
    observed = status_of(found).get("observedGeneration")
    return observed is None or int(observed) >= generation_of(found)
