"""How Python values reach C and how C refuses: what `binding` and `pieces` share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from csrc import _kernel
from csrc.records import (
    HINTS,
    KernelError,
    LimitReached,
    MessageUnreadable,
    ModelProfiles,
    Outcome,
    SegmentForeign,
    SegmentMissing,
    Settings,
    WriterBusy,
)

_ffi: Any = _kernel.ffi
_lib: Any = _kernel.lib

_REFUSALS: dict[int, type[KernelError]] = {
    _lib.BRIX_MISSING: SegmentMissing,
    _lib.BRIX_FOREIGN: SegmentForeign,
    _lib.BRIX_BUSY: WriterBusy,
    _lib.BRIX_FULL: LimitReached,
    _lib.BRIX_BAD: MessageUnreadable,
}


def check(status: int, doing: str) -> None:
    """Raise what this status means, unless it is OK; `doing` is the sentence's subject."""
    if status == _lib.BRIX_OK:
        return
    if status == _lib.BRIX_SYSTEM:
        raise OSError(_ffi.errno, f"{doing}: the system refused")
    raise _REFUSALS.get(status, KernelError)(doing)


class Texts:
    """brix_text values whose bytes live as long as this object."""

    def __init__(self) -> None:
        self._alive: list[Any] = []

    def fill(self, target: Any, value: str | bytes) -> None:
        """Let `target` be this text."""
        raw = value.encode() if isinstance(value, str) else value
        buffer = _ffi.from_buffer(raw)
        self._alive.append(buffer)
        target.at = buffer
        target.length = len(raw)


def string(text: Any) -> str:
    """A brix_text as a string."""
    return str(_ffi.unpack(text.at, text.length).decode(errors="replace")) if text.length else ""


def put_profiles(writer: Any, model: str, configuration: ModelProfiles) -> None:
    """Tell the topology being written the profiles of the model that was begun last."""
    texts, locked = Texts(), _ffi.new("brix_text *")
    rows = _ffi.new("brix_profile[]", max(1, len(configuration.profiles)))
    texts.fill(locked, configuration.locked)
    for row, profile in zip(rows, configuration.profiles, strict=False):
        texts.fill(row.name, profile.name)
        texts.fill(row.strategy, profile.strategy)
        row.is_default, row.requests_per_second = int(profile.is_default), profile.requests_per_second
        for index, hint in enumerate(HINTS):
            if hint in profile.hints:
                row.hints |= 1 << index
                row.hint[index] = profile.hints[hint]
    status = _lib.brix_writer_profiles(writer, locked[0], rows, len(configuration.profiles))
    check(status, f"profiles of model {model}")


def put_problems(writer: Any, problems: Sequence[str]) -> None:
    """Tell the topology being written what is wrong with the route of each model, in their order."""
    texts, rows = Texts(), _ffi.new("brix_text[]", max(1, len(problems)))
    for row, problem in zip(rows, problems, strict=False):
        texts.fill(row, problem)
    check(_lib.brix_writer_problems(writer, rows, len(problems)), "problems of routes")


def put_settings(writer: Any, settings: Settings) -> None:
    """Tell the topology being written what every request of the node obeys."""
    texts, raw, fair = Texts(), _ffi.new("brix_settings *"), settings.fair
    texts.fill(raw.default_strategy, settings.default_strategy)
    texts.fill(raw.api_key, settings.api_key)
    raw.hide_pod_address = int(settings.hide_pod_address)
    raw.leave_streams = int(not settings.count_streams)
    raw.users = settings.users.mask
    raw.ask_ms = round(settings.ask_within.total_seconds() * 1000)
    raw.model_in_flight, raw.pod_in_flight = settings.model_in_flight, settings.pod_in_flight
    raw.fair_window_ms = round(fair.window.total_seconds() * 1000)
    raw.fair_least_tokens, raw.fair_most_tokens = fair.least_tokens, fair.most_tokens
    raw.fair_full_load = fair.full_load
    raw.fair_input_weight, raw.fair_output_weight = fair.input_weight, fair.output_weight
    raw.fair_fairness_weight, raw.fair_utilization_weight = fair.fairness_weight, fair.utilization_weight
    check(_lib.brix_writer_settings(writer, raw), "settings of a topology")


def _all_endings() -> Iterable[tuple[int, tuple[Outcome, int]]]:
    for line in range(_lib.BRIX_ENDINGS):
        ending = _lib.brix_ending_at(line)
        if ending.outcome != Outcome.NONE:
            yield line, (Outcome(ending.outcome), int(ending.code))


def _all_strategies() -> Iterable[tuple[int, str]]:
    for line in range(_lib.BRIX_DECISIONS):
        name = string(_lib.brix_strategy_at(line))
        if name:
            yield line, name


STRATEGIES: tuple[tuple[int, str], ...] = tuple(_all_strategies())
ENDINGS: tuple[tuple[int, tuple[Outcome, int]], ...] = tuple(_all_endings())
