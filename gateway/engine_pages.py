"""Engines' pages read for what is exported again, and written as Prometheus text.

Reading happens only when somebody asks for the gateway's own page: a page of 60 KB takes about a millisecond then, and
the scrapes in between cost nothing. Counters are shown as the engine counts them, never added to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.registry import REGISTRY, Exported, Kind, left_out
from gateway.topology import Endpoint

PERCENTILES = (50, 90, 99)
UNNAMED = ("", "undefined")
PARTS = ("_bucket", "_sum", "_count")
INFINITY = math.inf

_TEXT = rb'"(?:[^"\\\n]|\\.)*"'
_NAMES = sorted({source for each in REGISTRY for source in each.sources}, key=len, reverse=True)
_LINE = re.compile(
    rb"^(%s)(_bucket|_sum|_count)?(?:\{((?:[^\"}\n]|%s)*)\})?[ \t]+([^ \t\n]+)"
    % (b"|".join(re.escape(name.encode()) for name in _NAMES), _TEXT),
    re.MULTILINE,
)
_LABEL = re.compile(rb"([a-zA-Z_][a-zA-Z0-9_]*)=(%s)" % _TEXT)
_ESCAPED = re.compile(r"\\(.)")


class PercentileRefused(ValueError):  # noqa: N818 - named by what happened
    """No such percentile, or none of these buckets."""


@dataclass
class Histogram:
    """Cumulative counts by upper bound."""

    buckets: dict[float, float] = field(default_factory=dict)
    total: float = 0.0
    count: float = 0.0

    def percentile(self, percent: float) -> float:
        """Linear within a bucket; of the open one its lower bound. Raises PercentileRefused."""
        if not 0 < percent <= 100:
            raise PercentileRefused(f"percentile must be between 0 and 100, got: {percent:f}")
        bounds = sorted(self.buckets)
        most = max(self.buckets.values(), default=0.0)
        target = percent / 100 * (self.count if self.count >= most and self.count > 0 else most)
        low, below = 0.0, 0.0
        for bound in bounds:
            reached = self.buckets[bound]
            if reached >= target:
                if bound == INFINITY:
                    return low
                return bound if reached == below else low + (bound - low) * (target - below) / (reached - below)
            low, below = bound, reached
        raise PercentileRefused("percentile not found")


class Series(NamedTuple):
    """What tells two values of one metric on one pod apart."""

    model: str
    value_of_label: str


@dataclass
class Values:
    """Of one metric on one pod."""

    numbers: dict[Series, list[float]] = field(default_factory=dict)
    histograms: dict[Series, Histogram] = field(default_factory=dict)


def read(pages: Iterable[bytes], endpoint: Endpoint) -> dict[str, Values]:
    """By name of the metric what a pod's pages say; series of several pages are joined as those of one."""
    found: dict[str, Values] = {}
    for page in pages:
        lines = _lines(page)
        for exported in REGISTRY:
            source = next((name for name in exported.sources if name in lines), None)
            if source is not None:
                _join(found.setdefault(exported.name, Values()), exported, lines[source], endpoint.model)
    return found


Line = tuple[str, Mapping[str, str], float]


def _lines(page: bytes) -> dict[str, list[Line]]:
    lines: dict[str, list[Line]] = {}
    for name, part, labels, number in _LINE.findall(page):
        try:
            value = float(number)
        except ValueError:
            continue
        named = {key.decode(): _plain(text) for key, text in _LABEL.findall(labels)}
        lines.setdefault(name.decode(), []).append((part.decode(), named, value))
    return lines


def _plain(quoted: bytes) -> str:
    text = quoted[1:-1].decode(errors="replace")
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text) if "\\" in text else text


def _join(values: Values, exported: Exported, lines: Iterable[Line], model: str) -> None:
    for part, labels, value in lines:
        named = labels.get("model_name", "")
        series = Series(model if named in UNNAMED else named, labels.get(exported.label, "") if exported.label else "")
        if exported.kind != Kind.HISTOGRAM:
            if not part:
                values.numbers.setdefault(series, []).append(value)
            continue
        histogram = values.histograms.setdefault(series, Histogram())
        if part == "_bucket":
            bound = _bound(labels.get("le", ""))
            histogram.buckets[bound] = histogram.buckets.get(bound, 0.0) + value
        elif part == "_sum":
            histogram.total += value
        elif part == "_count":
            histogram.count += value


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return INFINITY


class EnginePages:
    """Text of the families, gathered pod by pod."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._lines: dict[tuple[str, Kind], list[str]] = {}

    def add(self, endpoint: Endpoint, own: Sequence[str], pages: Iterable[bytes]) -> None:
        """What these pages say of the pod, whose labels have the values `own`."""
        skipped = left_out(endpoint.role, endpoint.name)
        said = read(pages, endpoint)
        for exported in REGISTRY:
            if exported.name in said and exported.name not in skipped:
                self._write(exported, said[exported.name], own)

    def text(self) -> str:
        """The families with their heads, each once."""
        return "".join(
            f"# HELP {name} As engines tell it.\n# TYPE {name} {kind}\n{''.join(lines)}"
            for (name, kind), lines in self._lines.items()
        )

    def _write(self, exported: Exported, values: Values, own: Sequence[str]) -> None:
        for series, numbers in values.numbers.items():
            value = sum(numbers) / len(numbers) if exported.is_mean else sum(numbers)
            self._line(exported.name, exported.kind, exported.name, self._labelled(exported, series, own), value)
        for series, histogram in values.histograms.items():
            if histogram.buckets:
                self._histogram(exported, histogram, self._labelled(exported, series, own))

    def _histogram(self, exported: Exported, histogram: Histogram, labels: str) -> None:
        name = exported.name
        for bound in sorted(histogram.buckets):
            edge = f'{labels},le="{_number(bound)}"'
            self._line(name, Kind.HISTOGRAM, f"{name}_bucket", edge, histogram.buckets[bound])
        self._line(name, Kind.HISTOGRAM, f"{name}_count", labels, histogram.count)
        self._line(name, Kind.HISTOGRAM, f"{name}_sum", labels, histogram.total)
        for percent in PERCENTILES if histogram.count > 0 else ():
            gauge = f"{name}_p{percent}"
            self._line(gauge, Kind.GAUGE, gauge, labels, histogram.percentile(percent))

    def _labelled(self, exported: Exported, series: Series, own: Sequence[str]) -> str:
        pairs = [*zip(self._labels, own, strict=True), ("model_name", series.model)]
        if exported.label:
            pairs.append((exported.label, series.value_of_label))
        return ",".join(f'{name}="{_quoted(value)}"' for name, value in pairs)

    def _line(self, family: str, kind: Kind, name: str, labels: str, value: float) -> None:
        self._lines.setdefault((family, kind), []).append(f"{name}{{{labels}}} {_number(value)}\n")


def _number(value: float) -> str:
    """As Prometheus' text has it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
