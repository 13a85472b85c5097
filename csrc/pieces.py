"""Pieces of the kernel alone: the body scanner, the parser of metrics pages, the vocabulary and its counting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from csrc import _kernel
from csrc.handles import Texts, check, string
from csrc.records import METRICS, Reading, Scan

_ffi: Any = _kernel.ffi
_lib: Any = _kernel.lib

UNICODE = 0x110000

KINDS = ("absent", "null", "false", "true", "number", "string", "array", "object")
FIELDS = (
    "model", "stream", "messages", "prompt", "input", "query", "documents",
    "max_tokens", "max_completion_tokens", "user", "stream_options", "include_usage",
)  # fmt: skip


def read_page(page: bytes, model: str = "", rank: int = -1) -> dict[str, Reading]:
    """What a page of Prometheus text says, by metric; raises MessageUnreadable when it is none."""
    texts, raw, reading = Texts(), _ffi.new("brix_scrape *"), _ffi.new("brix_reading *")
    texts.fill(raw.page, page)
    texts.fill(raw.model, model)
    raw.rank = rank
    check(_lib.brix_metrics_read(raw, reading), "metrics page")
    values = zip(METRICS, reading.value, reading.count, strict=True)
    return {name: Reading(value, count) for name, value, count in values if value == value}


def aliases(metric: str) -> tuple[str, ...]:
    """Names of the families that are read as this metric, the best first."""
    line = METRICS.index(metric)
    names: list[str] = []
    while name := string(_lib.brix_metric_alias(line, len(names))):
        names.append(name)
    return tuple(names)


def scan(path: str, body: bytes, chunk: int = 0, capacity: int = 1 << 16) -> Scan:
    """Scan a request body as if it came in chunks of `chunk` bytes (0: whole)."""
    result, raw_path = _ffi.new("brix_scan_result *"), path.encode()
    model, text = _ffi.new("char[]", capacity), _ffi.new("char[]", capacity)
    status = _lib.brix_scan_body(
        raw_path, len(raw_path), body, len(body), chunk, model, capacity, text, capacity, result
    )
    check(status, f"scan a body for {path}")
    kinds = {name: KINDS[result.kinds[line]] for line, name in enumerate(FIELDS) if result.kinds[line]}
    elements = {
        name: frozenset(KINDS[kind] for kind in range(1, len(KINDS)) if result.elements[line] >> kind & 1)
        for line, name in enumerate(FIELDS)
        if result.elements[line]
    }
    return Scan(
        valid=bool(result.valid),
        model=bytes(_ffi.unpack(model, result.model_length)).decode(errors="replace"),
        text=bytes(_ffi.unpack(text, result.text_length)),
        kinds=kinds,
        elements=elements,
    )


def write_vocabulary(segment: Path, tokens: Sequence[bytes], classes: bytes) -> None:
    """Put a vocabulary beside the segment at this path; readers that open a segment later count with it.

    `tokens` stand in the order of their ranks and hold all single bytes; `classes` has a byte for each code point:
    0 other, 1 letter, 2 number, 3 blank. Raises MessageUnreadable when they do not, OSError when there is no room.
    """
    if len(classes) != UNICODE:
        raise ValueError(f"{len(classes)} classes instead of {UNICODE}")
    offsets = _ffi.new("uint32_t[]", [0, *accumulate(map(len, tokens))])
    text = b"".join(tokens)
    status = _lib.brix_vocabulary_write(str(segment).encode(), text, offsets, len(tokens), classes)
    check(status, f"vocabulary beside {segment}")


def has_vocabulary(segment: Path) -> bool:
    """True when a sound vocabulary stands beside the segment at this path."""
    return bool(_lib.brix_vocabulary_check(str(segment).encode()) == _lib.BRIX_OK)


class TokenCounter:
    """Counts with the vocabulary beside a segment. Use as a context manager, or close it."""

    def __init__(self, segment: Path) -> None:
        handle = _ffi.new("brix_counter **")
        check(_lib.brix_counter_open(str(segment).encode(), handle), f"vocabulary beside {segment}")
        self._handle = handle[0]

    def count(self, text: str | bytes, chunk: int = 0, limit: int = 1 << 40) -> int:
        """Tokens of a text as if it came in chunks of `chunk` bytes (0: whole); limit + 1 when there are more."""
        raw = text.encode() if isinstance(text, str) else text
        return int(_lib.brix_counter_count(self._handle, raw, len(raw), chunk, limit))

    def close(self) -> None:
        """Let go of it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _lib.brix_counter_close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
