"""Reading an object that nobody has checked yet: whatever is not of the expected shape reads as empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def mapping(value: Any, *path: str) -> Json:
    """The mapping at `path` inside `value`."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def mappings(value: Any) -> Iterator[tuple[int, Json]]:
    """The mappings in a list with their places."""
    return ((place, part) for place, part in enumerate(items(value)) if isinstance(part, dict))


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def annotations_of(obj: Json) -> Json:
    return mapping(obj, "metadata", "annotations")
