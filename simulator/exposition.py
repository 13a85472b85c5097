"""The Prometheus text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import TypeAlias

from simulator.statistics import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels: TypeAlias = tuple[tuple[str, str], ...]
Samples: TypeAlias = Iterable[tuple[Labels, float]]


def gauge(name: str, explanation: str, samples: Samples) -> Iterator[str]:
    """Yield the lines of a gauge family."""
    yield from header(name, "gauge", explanation)
    for labels, value in samples:
        yield f"{name}{braces(labels)} {float(value)!r}"


def counter(name: str, explanation: str, samples: Samples, created: float | None = None) -> Iterator[str]:
    """Yield the lines of a counter family whose name ends in `_total`, and of the gauge that says since when."""
    samples = list(samples)
    yield from header(name, "counter", explanation)
    for labels, value in samples:
        yield f"{name}{braces(labels)} {float(value)!r}"
    if created is not None:
        yield from _created(name.removesuffix("_total"), explanation, [labels for labels, _ in samples], created)


def histogram(
    name: str, explanation: str, series: Iterable[tuple[Labels, Histogram]], created: float | None = None
) -> Iterator[str]:
    """Yield the lines of a histogram family, buckets cumulative."""
    series = list(series)
    yield from header(name, "histogram", explanation)
    for labels, values in series:
        prefixes = _bucket_prefixes(name, values.bounds, labels)
        totals = list(accumulate(values.counts))
        for prefix, total in zip(prefixes, totals, strict=True):
            yield f"{prefix}{total}.0"
        yield f"{name}_count{braces(labels)} {totals[-1]}.0"
        yield f"{name}_sum{braces(labels)} {values.sum!r}"
    if created is not None:
        yield from _created(name, explanation, [labels for labels, _ in series], created)


def summary(name: str, explanation: str, series: Iterable[tuple[Labels, int, float]], created: float) -> Iterator[str]:
    """Yield the lines of a summary family without quantiles."""
    series = list(series)
    yield from header(name, "summary", explanation)
    for labels, count, total in series:
        yield f"{name}_count{braces(labels)} {float(count)!r}"
        yield f"{name}_sum{braces(labels)} {float(total)!r}"
    yield from _created(name, explanation, [labels for labels, _, _ in series], created)


def header(name: str, kind: str, explanation: str) -> tuple[str, str]:
    return f"# HELP {name} {explanation}", f"# TYPE {name} {kind}"


def _created(stem: str, explanation: str, labels: list[Labels], created: float) -> Iterator[str]:
    if labels:
        yield from gauge(f"{stem}_created", explanation, [(each, created) for each in labels])


@lru_cache(maxsize=2048)
def _bucket_prefixes(name: str, bounds: tuple[float, ...], labels: Labels) -> tuple[str, ...]:
    names = [*(repr(bound) for bound in bounds), "+Inf"]
    return tuple(f"{name}_bucket{braces(extended(labels, 'le', bound))} " for bound in names)


@lru_cache(maxsize=2048)
def braces(labels: Labels) -> str:
    """Return the label set as Prometheus writes it, values escaped."""
    if not labels:
        return ""
    pairs = (f'{name}="{_escape(value)}"' for name, value in labels)
    return "{" + ",".join(pairs) + "}"


def extended(labels: Labels, name: str, value: str) -> Labels:
    """Return the labels with one more, in the order of their names."""
    return tuple(sorted((*labels, (name, value))))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
