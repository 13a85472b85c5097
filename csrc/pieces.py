"""Pieces of the kernel alone, for tests and explanations: the body scanner and the parser of metrics pages."""

from __future__ import annotations

from typing import Any

from csrc import _kernel
from csrc.handles import Texts, check, string
from csrc.records import METRICS, Reading, Scan

_ffi: Any = _kernel.ffi
_lib: Any = _kernel.lib

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
