"""Does a value fit a structural schema? The API server's answer, for the embedded types that have no model of ours.

Covers what `crds.kubernetes.embed` and our own models use: type, required, format, pattern, enumeration, bounds,
int-or-string, and the keys of list-maps and sets. A null counts as absent, since the API server drops it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any, Final

Json = dict[str, Any]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "boolean": (bool,), "integer": (int,), "number": (int, float), "object": (dict,),
    "array": (list,),
}  # fmt: skip
_INTEGERS: Final = {"int32": 31, "int64": 63}
_DATE_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")


def complaints(value: Any, schema: Json, path: str = "") -> Iterator[str]:
    """One sentence for everything in `value` that `schema` does not allow, each beginning with its field path."""
    if value is None:
        return
    fault = _fault(value, schema)
    if fault:
        yield f"{path}: {fault}"
    elif isinstance(value, dict):
        yield from _object_complaints(value, schema, path)
    elif isinstance(value, list):
        yield from _list_complaints(value, schema, path)


def _fault(value: Any, schema: Json) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, int | str) and not isinstance(value, bool)
        return _text_fault(value, schema) if fits else "must be an integer or a string"
    kind = schema.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return f"must be of type {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(map(str, schema['enum']))}"
    return _number_fault(value, schema) or _text_fault(value, schema)


def _number_fault(value: Any, schema: Json) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        return ""
    bits = _INTEGERS.get(schema.get("format", ""), 63)
    if not -(2**bits) <= value < 2**bits:
        return f"must fit {bits + 1} bits"
    if value < schema.get("minimum", value):
        return f"must be at least {schema['minimum']}"
    return f"must be at most {schema['maximum']}" if value > schema.get("maximum", value) else ""


def _text_fault(value: Any, schema: Json) -> str:
    if not isinstance(value, str):
        return ""
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return "has the wrong length"
    if "pattern" in schema and not _compiled(schema["pattern"]).search(value):
        return f"must match {schema['pattern']}"
    return "must be a date and time" if schema.get("format") == "date-time" and not is_date_time(value) else ""


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """As the API server reads it: `$` is the very end and classes are those of ASCII."""
    return re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern, re.ASCII)


def is_date_time(text: str) -> bool:
    """RFC 3339."""
    if not _DATE_TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text.upper())
    except ValueError:
        return False
    return True


def _object_complaints(value: Json, schema: Json, path: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if value.get(name) is None and "default" not in schema["properties"].get(name, {}):
            yield f"{path}.{name}: required"
    if len([part for part in value.values() if part is not None]) > schema.get("maxProperties", len(value)):
        yield f"{path}: must have at most {schema['maxProperties']} fields"
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, part in value.items():
        if name in known:
            yield from complaints(part, known[name], f"{path}.{name}")
        elif isinstance(others, dict):
            yield from complaints(part, others, f"{path}[{name}]")


def _list_complaints(value: list[Any], schema: Json, path: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{path}: has the wrong number of items"
    for place, part in enumerate(value):
        at = f"{path}[{place}]"
        yield from complaints(part, schema.get("items", {}), at) if part is not None else (f"{at}: must not be null",)
    yield from _doubles(value, schema, path)


def _doubles(value: list[Any], schema: Json, path: str) -> Iterator[str]:
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("map", "set"):
        return
    seen = set()
    for place, part in enumerate(value):
        key = _key(part, schema) if kind == "map" else repr(part)
        if key in seen:
            yield f"{path}[{place}]: duplicate"
        seen.add(key)


def _key(part: Any, schema: Json) -> str:
    """What identifies an item of a list-map; a missing key field counts with its default."""
    if not isinstance(part, dict):
        return repr(part)
    fields = schema.get("items", {}).get("properties", {})
    return repr([part.get(name, fields.get(name, {}).get("default")) for name in schema["x-kubernetes-list-map-keys"]])
