"""PodAutoscaler: target, bounds, windows, schedules, strategy and metric sources have to make sense together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from crds import labels, schedules
from crds.admission.faults import Fault, forbidden, invalid, not_supported, required
from crds.admission.values import annotations_of, items, mapping, mappings, number, text
from crds.podautoscaler import (
    DEFAULT_OBSERVE_WINDOW_SECONDS,
    DEFAULT_PANIC_WINDOW_SECONDS,
    LONGEST_WINDOW_SECONDS,
)

Json = dict[str, Any]

STRATEGIES = ("HPA", "KPA", "APA")
SOURCE_TYPES = ("pod", "resource", "custom", "external", "domain")
RESOURCES = ("cpu", "memory")
NUMBER_ANNOTATIONS = (
    labels.MAX_SCALE_UP_RATE, labels.MAX_SCALE_DOWN_RATE, labels.SCALE_UP_TOLERANCE, labels.SCALE_DOWN_TOLERANCE,
    labels.PANIC_THRESHOLD,
)  # fmt: skip
DURATION_ANNOTATIONS = (labels.SCALE_UP_COOL_DOWN, labels.SCALE_DOWN_COOL_DOWN)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_HEX = re.compile(r"[+-]?0[xX]_?[0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?\d+\Z", re.ASCII)
_DURATION = re.compile(r"[+-]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)\Z", re.ASCII)


def faults(obj: Json) -> Iterator[Fault]:
    spec = mapping(obj, "spec")
    yield from _target(spec)
    yield from _bounds(spec)
    yield from _windows(spec)
    yield from _schedules(spec)
    yield from _strategy(spec)
    yield from _sources(spec)


def warnings(obj: Json) -> Iterator[str]:
    found, spec = annotations_of(obj), mapping(obj, "spec")
    for key, instead in labels.LEGACY_SCALING.items():
        if key in found:
            yield f"annotation {key} is deprecated: use {instead}"
    for key in NUMBER_ANNOTATIONS:
        if (value := found.get(key)) is not None and parse_number(text(value)) is None:
            yield f"annotation {key} is ignored: {text(value)!r} is not a number"
    for key in DURATION_ANNOTATIONS:
        if (value := found.get(key)) is not None and not _DURATION.match(text(value)):
            yield f"annotation {key} is ignored: {text(value)!r} is not a duration such as 90s"
    yield from _unwise_target(spec)
    for place, source in mappings(spec.get("metricsSources")):
        path = f"spec.metricsSources[{place}]"
        if source.get("metricSourceType") == "domain":
            yield f'{path}.metricSourceType: "domain" is deprecated: use "external"'
        if source.get("metricSourceType") == "pod" and source.get("port") and not _is_port(text(source["port"])):
            yield f"{path}.port: {text(source['port'])!r} is no port, the metric cannot be read"


def _unwise_target(spec: Json) -> Iterator[str]:
    api_version = text(mapping(spec, "scaleTargetRef").get("apiVersion"))
    if api_version.count("/") > 1 or api_version.endswith("/"):
        yield f"spec.scaleTargetRef.apiVersion: {api_version!r} is no group and version, nothing is found"


def parse_number(value: str) -> float | None:
    """A finite number as Go's ParseFloat reads it; None for anything else."""
    try:
        if _DECIMAL.match(value):
            found = float(value)
        elif _HEX.match(value):
            found = float.fromhex(value.replace("_", ""))
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _is_port(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= 5 and 0 < int(value) < 65536


def _target(spec: Json) -> Iterator[Fault]:
    target = mapping(spec, "scaleTargetRef")
    for field in ("name", "kind"):
        if not target.get(field):
            yield required(f"spec.scaleTargetRef.{field}")


def _bounds(spec: Json) -> Iterator[Fault]:
    least, most = number(spec.get("minReplicas")), number(spec.get("maxReplicas")) or 0
    if least is not None and least < 0:
        yield invalid("spec.minReplicas", least, "must not be negative")
    if most <= 0:
        yield invalid("spec.maxReplicas", most, "must be positive")
    if least is not None and most < least:
        yield invalid("spec.minReplicas", least, f"must not be greater than maxReplicas ({most})")
        yield invalid("spec.maxReplicas", most, f"must not be less than minReplicas ({least})")


def _windows(spec: Json) -> Iterator[Fault]:
    observe, panic = number(spec.get("observeWindowSeconds")), number(spec.get("panicWindowSeconds"))
    for field, value in (("observeWindowSeconds", observe), ("panicWindowSeconds", panic)):
        if value is not None and not 0 < value <= LONGEST_WINDOW_SECONDS:
            yield invalid(f"spec.{field}", value, f"must be from 1 to {LONGEST_WINDOW_SECONDS}")
    stable = DEFAULT_OBSERVE_WINDOW_SECONDS if observe is None else observe
    short = DEFAULT_PANIC_WINDOW_SECONDS if panic is None else panic
    if short > stable:
        yield invalid("spec.panicWindowSeconds", short, f"must not be greater than observeWindowSeconds ({stable})")


def _schedules(spec: Json) -> Iterator[Fault]:
    if spec.get("schedules") is None:
        return
    listed = [schedule for schedule in items(spec["schedules"]) if isinstance(schedule, dict)]
    least = number(spec.get("minReplicas"))
    base = schedules.Bounds(
        schedules.DEFAULT_MIN_REPLICAS if least is None else least, number(spec.get("maxReplicas")) or 0
    )
    for found in schedules.complaints(listed, base):
        place = "" if found.place is None else f"[{found.place}]"
        field = f".{found.field}" if found.field else ""
        yield invalid(f"spec.schedules{place}{field}", found.value, found.detail)


def _strategy(spec: Json) -> Iterator[Fault]:
    strategy = spec.get("scalingStrategy")
    if strategy not in STRATEGIES:
        yield not_supported("spec.scalingStrategy", strategy, STRATEGIES)
    if strategy == "HPA" and mapping(spec, "subTargetSelector").get("roleName"):
        yield forbidden("spec.subTargetSelector.roleName", "HPA scales whole objects: use APA or KPA for a role")


def _sources(spec: Json) -> Iterator[Fault]:
    listed = items(spec.get("metricsSources"))
    if not listed:
        yield invalid("spec.metricsSources", listed, "at least one metricsSource required")
    for place, source in mappings(listed):
        yield from _source(source, f"spec.metricsSources[{place}]")


def _source(source: Json, path: str) -> Iterator[Fault]:
    kind = source.get("metricSourceType")
    if not source.get("targetMetric"):
        yield required(f"{path}.targetMetric")
    yield from _target_value(text(source.get("targetValue")), f"{path}.targetValue")
    if kind == "pod":
        yield from _needs(source, path, ("protocolType", "port", "path"), kind)
    elif kind in ("external", "domain"):
        if source.get("endpoint"):
            yield from _needs(source, path, ("protocolType", "path"), f"{kind} with an endpoint")
    elif kind == "resource":
        yield from _resource(source, path)
    elif kind != "custom":
        yield not_supported(f"{path}.metricSourceType", kind, SOURCE_TYPES)


def _target_value(value: str, path: str) -> Iterator[Fault]:
    found = parse_number(value)
    if not value:
        yield required(path)
    elif found is None:
        yield invalid(path, value, "must be a valid number")
    elif found <= 0:
        yield invalid(path, value, "must be greater than 0")


def _needs(source: Json, path: str, fields: tuple[str, ...], kind: str) -> Iterator[Fault]:
    for field in fields:
        if not source.get(field):
            yield required(f"{path}.{field}", f"required for metricSourceType={kind}")


def _resource(source: Json, path: str) -> Iterator[Fault]:
    metric = source.get("targetMetric")
    if metric and metric not in RESOURCES:
        yield not_supported(f"{path}.targetMetric", metric, RESOURCES)
    for field in ("port", "endpoint", "path", "protocolType"):
        if source.get(field):
            yield forbidden(f"{path}.{field}", "must not be set for metricSourceType=resource")
