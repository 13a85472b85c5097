"""What a PodAutoscaler says about its own spec: the condition ValidSpec, for objects that no webhook has judged.

Only the condition: what scales reads it and leaves an object alone whose spec is not valid. The first fault wins, in
AIBrix's order and words, which people's alerts match.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crds import labels, schedules
from crds.podautoscaler import (
    DEFAULT_OBSERVE_WINDOW_SECONDS,
    DEFAULT_PANIC_WINDOW_SECONDS,
    LONGEST_WINDOW_SECONDS,
)
from planning.conditions import Condition, merged, standard
from planning.objects import generation_of, is_deleting, spec_of, status_of, uid_of
from planning.planner import Plan, Resource, World
from planning.roleset import gone
from planning.view import page
from planning.wire import Memory, View

Json = dict[str, Any]
POD_AUTOSCALER: Final = Resource(
    labels.AUTOSCALING_GROUP, labels.VERSION, "podautoscalers", "PodAutoscaler", optional=True
)
STRATEGIES: Final = ("HPA", "KPA", "APA")
RESOURCE_METRICS: Final = ("cpu", "memory")
CONNECTION: Final = ("port", "endpoint", "path", "protocolType")


@dataclass(frozen=True, slots=True)
class Invalid:
    """The first thing that is wrong with a spec."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PodAutoscalerPlanner:
    """Judges one PodAutoscaler; it takes no steps."""

    @property
    def resource(self) -> Resource:
        return POD_AUTOSCALER

    @property
    def owns(self) -> Sequence[Resource]:
        return ()

    def plan(self, world: World, memory: Memory, rollout: str | None) -> Plan:  # noqa: ARG002 (it takes no steps)
        found = world.object
        if found is None or uid_of(found) != world.ref.uid:
            return gone(world)
        if is_deleting(found):
            return Plan(None, View(phase="Deleting"))
        fault = first_fault(spec_of(found))
        phase = "Valid" if fault is None else "Invalid"
        said = fault.message if fault is not None else ""
        details = page(phase=phase, revision="", rows=(), wake_at=None, now=world.now)
        return Plan(None, View(phase=phase, blocked=said, details=details), _status(world, found, fault))


def _status(world: World, found: Json, fault: Invalid | None) -> Json:
    if fault is None:
        said = Condition(labels.VALID_SPEC, "True", labels.REASON_AS_EXPECTED)
    else:
        said = Condition(labels.VALID_SPEC, "False", fault.reason, fault.message)
    before = status_of(found)
    conditions = merged(before.get("conditions") or (), [said], (labels.VALID_SPEC,), world.now)
    return {**before, "observedGeneration": generation_of(found), "conditions": standard(conditions)}


def first_fault(spec: Json) -> Invalid | None:
    """What is wrong with the spec of a PodAutoscaler; None when it can be carried out."""
    return next(_faults(spec), None)


def _faults(spec: Json) -> Iterator[Invalid]:
    target = spec.get("scaleTargetRef") or {}
    if not target.get("name") or not target.get("kind"):
        message = "scaleTargetRef.kind and scaleTargetRef.name must be set."
        yield Invalid(labels.REASON_MISSING_TARGET, message)
    yield from (Invalid(labels.REASON_INVALID_BOUNDS, message) for message in _bounds(spec))
    yield from (Invalid(labels.REASON_INVALID_STRATEGY, message) for message in _strategy(spec))
    yield from (Invalid(labels.REASON_INVALID_SPEC, message) for message in (*_windows(spec), *_schedules(spec)))
    yield from (Invalid(labels.REASON_METRICS_CONFIG, message) for message in _sources(spec))


def _bounds(spec: Json) -> Iterator[str]:
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < 0:
        yield "minReplicas must not be negative."
    if most <= 0:
        yield "maxReplicas must be positive."
    if least is not None and most < least:
        yield "minReplicas cannot be greater than maxReplicas."


def _strategy(spec: Json) -> Iterator[str]:
    strategy = spec.get("scalingStrategy")
    if strategy not in STRATEGIES:
        yield "Unsupported scalingStrategy; must be one of HPA/KPA/APA."
    if strategy == "HPA" and (spec.get("subTargetSelector") or {}).get("roleName"):
        yield (
            "subTargetSelector.roleName is not supported with scalingStrategy=HPA; "
            "use APA or KPA for StormService role-level autoscaling."
        )


def _windows(spec: Json) -> Iterator[str]:
    for field in ("observeWindowSeconds", "panicWindowSeconds"):
        seconds = spec.get(field)
        if seconds is not None and seconds <= 0:
            yield f"{field} must be greater than 0."
        if seconds is not None and seconds > LONGEST_WINDOW_SECONDS:
            yield f"{field} must be less than or equal to {LONGEST_WINDOW_SECONDS}."
    stable = spec.get("observeWindowSeconds", DEFAULT_OBSERVE_WINDOW_SECONDS)
    if spec.get("panicWindowSeconds", DEFAULT_PANIC_WINDOW_SECONDS) > stable:
        yield "panicWindowSeconds must be less than or equal to observeWindowSeconds."


def _schedules(spec: Json) -> Iterator[str]:
    listed = spec.get("schedules")
    if listed is None:
        return
    base = schedules.Bounds(
        spec.get("minReplicas", schedules.DEFAULT_MIN_REPLICAS), spec.get("maxReplicas") or 0
    )  # fmt: skip
    for found in schedules.complaints(listed, base):
        place = "" if found.place is None else f"[{found.place}]"
        yield f"schedules{place}{f'.{found.field}' if found.field else ''}: {found.detail}"


def _sources(spec: Json) -> Iterator[str]:
    listed = spec.get("metricsSources") or ()
    if not listed:
        yield "at least one metricsSource is required."
    for place, source in enumerate(listed):
        for field in ("targetMetric", "targetValue"):
            if not source.get(field):
                yield f"metricsSource[{place}]: {field} must be specified"
        yield from _source(place, source)


def _source(place: int, source: Json) -> Iterator[str]:
    kind = source.get("metricSourceType")
    if kind == "pod":
        yield from _missing(source, ("protocolType", "port", "path"), "pod")
    elif kind in ("external", "domain"):
        if source.get("endpoint"):
            yield from _missing(source, ("protocolType", "path"), "external")
    elif kind == "resource":
        if source.get("targetMetric") not in RESOURCE_METRICS:
            yield "for metricSourceType=resource, targetMetric must be 'cpu' or 'memory'."
        if any(source.get(field) for field in CONNECTION):
            yield "port, endpoint, path, and protocolType are not allowed for metricSourceType=resource."
    elif kind != "custom":
        yield f"metricsSource[{place}]: unsupported metricSourceType: {kind or ''}"


def _missing(source: Json, fields: Sequence[str], kind: str) -> Iterator[str]:
    for field in fields:
        if not source.get(field):
            yield f"{field} is required for metricSourceType={kind}."
