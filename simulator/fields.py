"""Typed reading of a JSON body, with the error that vLLM's validation gives for each wrong field.

Numbers are read leniently, as the engine does: "8" is an integer, 8.0 too. A null counts as absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TypeAlias

from simulator.errors import InvalidFieldsError

Body: TypeAlias = Mapping[str, object]


def parse_body(raw: bytes) -> Body:
    """Return the JSON object in `raw`. Raises InvalidFieldsError."""
    try:
        value = json.loads(raw)
    except json.JSONDecodeError as error:
        raise InvalidFieldsError("json_invalid", f"body.{error.pos}", "JSON decode error", {}, error.msg) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        cause = "Not valid UTF-8" if isinstance(error, UnicodeDecodeError) else "Too large to read"
        raise InvalidFieldsError("json_invalid", "body.0", "JSON decode error", {}, cause) from error
    if not isinstance(value, dict):
        raise InvalidFieldsError("dict_type", "body", "Input should be a valid dictionary", value)
    return value


def required(body: Body, name: str) -> object:
    """Return a field that must be there and not null. Raises InvalidFieldsError."""
    value = body.get(name)
    if value is None:
        raise InvalidFieldsError("missing", f"body.{name}", "Field required", body)
    return value


def integer(body: Body, name: str) -> int | None:
    value = body.get(name)
    if value is None or isinstance(value, int):
        return None if value is None else int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError as error:
            raise _wrong(name, "int_parsing", "integer, unable to parse string as an integer", value) from error
    if isinstance(value, float):
        raise _wrong(name, "int_from_float", "integer, got a number with a fractional part", value)
    raise _wrong(name, "int_type", "integer", value)


def number(body: Body, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError) as error:
            raise _wrong(name, "float_parsing", "number, unable to parse it as a number", value) from error
    raise _wrong(name, "float_type", "number", value)


def boolean(body: Body, name: str) -> bool:
    """Return a flag; absent is false."""
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if isinstance(value, int) and value in {0, 1}:
        return bool(value)
    raise _wrong(name, "bool_parsing", "boolean, unable to interpret input", value)


def string(value: object, location: str) -> str:
    if not isinstance(value, str):
        raise InvalidFieldsError("string_type", location, "Input should be a valid string", value)
    return value


def mapping(value: object, location: str) -> Body:
    if not isinstance(value, dict):
        raise InvalidFieldsError("dict_type", location, "Input should be a valid dictionary", value)
    return value


def array(value: object, location: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidFieldsError("list_type", location, "Input should be a valid list", value)
    return value


def _wrong(name: str, kind: str, expected: str, value: object) -> InvalidFieldsError:
    return InvalidFieldsError(kind, f"body.{name}", f"Input should be a valid {expected}", value)
