"""How Python values reach C and how C refuses: what `binding` and `pieces` share."""

from __future__ import annotations

from typing import Any

from csrc import _kernel
from csrc.records import KernelError, LimitReached, MessageUnreadable, SegmentForeign, SegmentMissing, WriterBusy

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
