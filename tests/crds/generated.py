"""Objects made from our own schemas: grown from a valid one, now and then with something wrong in it."""

from __future__ import annotations

import re
from random import Random
from typing import Any

Json = dict[str, Any]

TEXTS = (
    "a", "b", "app", "t", "peak", "09:00", "18:30", "25:00", "kubernetes.io/hostname", "Ready", "1Gi", "100m", "0.5",
    "25%", "0", "-5%", "", "has space", "Bad_Name", "s3://b/m", "hf://a/b", "ftp://x", "Mon", "UTC", "Asia/Tokyo",
    "x" * 70, "é", "a\n", "2026-01-01T00:00:00Z", "http", "cpu", "In", "Exists",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 60, 100, 180, 3600, 3601, -1, 2**31 - 1, 2**31, 2**63 - 1, 10)
ODD: tuple[Any, ...] = (None, True, "text", 7, [], {}, [None], 1.5, -(2**31) - 1)
WRONG = 0.004
"""How often a value is anything at all: an object has hundreds of values."""


class Grower:
    """Everything comes from `random`, so an object can be made again from its seed."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def grow(self, base: Any, schema: Json, depth: int = 0) -> Any:
        """`base` with some of its parts changed and others added."""
        if self._random.random() < WRONG:
            return self._random.choice(ODD)
        if isinstance(base, dict) and "properties" in schema:
            return self._object(base, schema, depth)
        if isinstance(base, list) and base and "items" in schema:
            return [self.grow(part, schema["items"], depth + 1) for part in base]
        return base if self._random.random() < 0.95 else self.make(schema, depth)

    def _object(self, base: Json, schema: Json, depth: int) -> Json:
        fields = schema["properties"]
        kept = {
            name: self.grow(part, fields.get(name, {}), depth + 1)
            for name, part in base.items()
            if self._random.random() > WRONG
        }
        share = min(0.5, 3 / max(len(fields), 1)) / (1 + depth)
        added = {name: self.make(part, depth + 1) for name, part in fields.items()
                 if name not in base and self._random.random() < share}  # fmt: skip
        return kept | added

    def make(self, schema: Json, depth: int = 0) -> Any:
        """A value for `schema` that is usually valid."""
        if self._random.random() < WRONG:
            return self._random.choice(ODD)
        if schema.get("x-kubernetes-int-or-string"):
            return self._random.choice((self._text(schema), self._random.choice(NUMBERS)))
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        makers = {"string": self._text, "integer": self._number, "boolean": lambda _: self._random.random() < 0.5}
        kind = schema.get("type", "string")
        if kind == "array":
            least = schema.get("minItems", 0)
            return [self.make(schema["items"], depth + 1) for _ in range(self._random.randint(least, least + 2))]
        return self._mapping(schema, depth) if kind == "object" else makers[kind](schema)

    def _mapping(self, schema: Json, depth: int) -> Json:
        if "properties" not in schema:
            items = schema.get("additionalProperties", {"type": "string"})
            return {self._random.choice(("a", "b", "cpu")): self.make(items, depth + 1)}
        base = {name: self.make(schema["properties"][name], depth + 1) for name in schema.get("required", ())}
        return self._object(base, schema, depth)

    def _text(self, schema: Json) -> str:
        fitting = [text for text in TEXTS if re.search(schema.get("pattern", ""), text)]
        return self._random.choice(fitting or TEXTS)

    def _number(self, schema: Json) -> int:
        least, most = schema.get("minimum", -(10**9)), schema.get("maximum", 10**9)
        fitting = [number for number in NUMBERS if least <= number <= most]
        return self._random.choice(fitting if self._random.random() < 0.98 else NUMBERS)


def fullest(schema: Json, base: Any = None) -> Any:
    """`base` with every field of its schema that it leaves out: one valid value each, one entry a list or map."""
    if base is not None and not isinstance(base, dict | list):
        return base
    if isinstance(base, list):
        return [fullest(schema["items"], part) for part in base]
    if "enum" in schema:
        return schema["enum"][-1]
    if schema.get("x-kubernetes-int-or-string"):
        return "1Gi" if "pattern" in schema else "25%"
    kind = schema.get("type", "object")
    if kind == "array":
        return [fullest(schema["items"]) for _ in range(max(1, schema.get("minItems", 0)))]
    return _fullest_object(schema, base or {}) if kind == "object" else _scalar(schema, kind)


def _fullest_object(schema: Json, base: Json) -> Json:
    if "properties" not in schema:
        return base or {"a": fullest(schema.get("additionalProperties", {"type": "string"}))}
    fields = schema["properties"]
    if schema.get("maxProperties") == 1:
        fields = {name: part for name, part in fields.items() if name in base} or dict([next(iter(fields.items()))])
    return base | {name: fullest(part, base.get(name)) for name, part in fields.items()}


def _scalar(schema: Json, kind: str) -> Any:
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 1), 1)
    if kind == "boolean":
        return True
    return next(text for text in ("a", "09:00", "2026-01-01T00:00:00Z", "1Gi") if fits(text, schema))


def fits(text: str, schema: Json) -> bool:
    dated = schema.get("format") == "date-time"
    return bool(re.search(schema.get("pattern", ""), text)) and (not dated or text.startswith("2026"))
