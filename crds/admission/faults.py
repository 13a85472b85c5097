"""One thing that is wrong with one field, worded as the API server words its own complaints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

Json = dict[str, Any]


class Kind(Enum):
    """What is wrong: the words shown, and the reason that a cause of a Status carries."""

    REQUIRED = ("Required value", "FieldValueRequired")
    INVALID = ("Invalid value", "FieldValueInvalid")
    NOT_SUPPORTED = ("Unsupported value", "FieldValueNotSupported")
    FORBIDDEN = ("Forbidden", "FieldValueForbidden")
    DUPLICATE = ("Duplicate value", "FieldValueDuplicate")
    TOO_LONG = ("Too long", "FieldValueTooLong")

    @property
    def words(self) -> str:
        return self.value[0]

    @property
    def reason(self) -> str:
        return self.value[1]


_SHOWS_VALUE = (Kind.INVALID, Kind.NOT_SUPPORTED, Kind.DUPLICATE)
_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """`field` is a path such as `spec.roles[0].name`; `value` is what stands there."""

    field: str
    kind: Kind
    detail: str = ""
    value: Any = None

    @property
    def text(self) -> str:
        """Everything but the field."""
        shown = f": {json.dumps(self.value)[:_LONGEST_VALUE]}" if self.kind in _SHOWS_VALUE else ""
        return f"{self.kind.words}{shown}{': ' if self.detail else ''}{self.detail}"

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"

    @property
    def cause(self) -> Json:
        """As an entry of a Status' `details.causes`."""
        return {"reason": self.kind.reason, "message": self.text, "field": self.field}

    @property
    def identity(self) -> tuple[str, Kind, str, str]:
        """The same fault stays the same when its list is reordered."""
        return (re.sub(r"\[\d+\]", "[]", self.field), self.kind, self.detail, json.dumps(self.value, sort_keys=True))


def required(field: str, detail: str = "") -> Fault:
    return Fault(field, Kind.REQUIRED, detail)


def invalid(field: str, value: Any, detail: str) -> Fault:
    return Fault(field, Kind.INVALID, detail, value)


def forbidden(field: str, detail: str) -> Fault:
    return Fault(field, Kind.FORBIDDEN, detail)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> Fault:
    names = ", ".join(json.dumps(name) for name in supported)
    return Fault(field, Kind.NOT_SUPPORTED, f"supported values: {names}", value)


def together(faults: Iterable[Fault]) -> str:
    """One fault as it is, several in brackets."""
    texts = [str(fault) for fault in faults]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def new_ones(faults: Iterable[Fault], stored: Iterable[Fault]) -> list[Fault]:
    """Without those that the stored object has already: an edit answers only for what it makes worse."""
    known = {fault.identity for fault in stored}
    return [fault for fault in faults if fault.identity not in known]
