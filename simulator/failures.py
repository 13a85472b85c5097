"""Failure control: what goes wrong on purpose, set by environment, by `POST /admin/config`, or by a header.

| field | default | effect |
|---|---|---|
| rate | 0 | percentage of generation requests that fail |
| types | all that answer with an error | kinds of failure, one drawn for each failing request |
| delay_seconds | 0 | every generation request waits so long first |
| crash_after | null | the process exits after so many generation requests |
| crash_code | 1 | with this code |
| hang | false | generation requests are never answered |
| prefill_status | null | prefill halves of a prefill/decode pair are refused with this status |
| transfer_rate | 0 | percentage of KV transfers that fail |
| slow_seconds | 5 | how long a request of the kind `slow` waits |

Header `X-Sim-Return-Error: <status>` fails one request of any kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from simulator.errors import SyntheticError

SMALLEST_STATUS, LARGEST_STATUS = 400, 599
LARGEST_NUMBER = 1e9

ERROR_TYPES: Mapping[str, tuple[int, str, str, int | str | None]] = {
    "rate_limit": (429, "rate_limit_error", "Rate limit reached. Retry later.", "rate_limit_exceeded"),
    "invalid_api_key": (401, "authentication_error", "Incorrect API key provided.", "invalid_api_key"),
    "context_length": (400, "invalid_request_error", "The prompt exceeds the context.", "context_length_exceeded"),
    "server_error": (503, "ServiceUnavailableError", "The server is overloaded. Retry later.", None),
    "invalid_request": (400, "BadRequestError", "The request is invalid.", None),
    "model_not_found": (404, "NotFoundError", "The model does not exist.", "model_not_found"),
}
CONNECTION_TYPES = frozenset({"hang", "slow", "reset", "truncated"})
"""Kinds that do not answer with an error object: silence, a wait, a broken connection, a stream without its end."""


class FailuresError(ValueError):
    """The given values are no failure control; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """See the table above."""

    rate: float = 0.0
    types: tuple[str, ...] = tuple(ERROR_TYPES)
    delay_seconds: float = 0.0
    crash_after: int | None = None
    crash_code: int = 1
    hang: bool = False
    prefill_status: int | None = None
    transfer_rate: float = 0.0
    slow_seconds: float = 5.0


def parse_failures(current: Failures, values: Mapping[str, object]) -> Failures:
    """Return `current` with `values` in the place of its own. Raises FailuresError and changes nothing."""
    names = {field.name for field in fields(Failures)}
    for name, value in values.items():
        if name not in names:
            raise FailuresError(f"{name} is unknown")
        if not _fits(name, value):
            raise FailuresError(f"{name} has no usable value")
    changed = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return replace(current, **changed)  # type: ignore[arg-type]


def synthetic(kind: str) -> SyntheticError:
    """Return the error of one of `ERROR_TYPES`."""
    return SyntheticError(*ERROR_TYPES[kind])


def _fits(name: str, value: object) -> bool:
    if name == "types":
        known = ERROR_TYPES.keys() | CONNECTION_TYPES
        return (
            isinstance(value, list) and bool(value) and all(isinstance(kind, str) and kind in known for kind in value)
        )
    if name == "hang":
        return isinstance(value, bool)
    if name in {"crash_after", "prefill_status"} and value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST_NUMBER:
        return False
    if name in {"rate", "transfer_rate"}:
        return value <= 100
    if name == "prefill_status":
        return isinstance(value, int) and SMALLEST_STATUS <= value <= LARGEST_STATUS
    return isinstance(value, int) or name in {"delay_seconds", "slow_seconds"}
