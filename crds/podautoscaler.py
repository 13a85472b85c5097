"""PodAutoscaler: how many replicas a target has, and which measurements decide it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crds.fields import DateTime, Int32, Int64, ObjectReference, Schema, StandardCondition

TIME_OF_DAY_PATTERN = "^([01][0-9]|2[0-3]):[0-5][0-9]$"
SCHEDULE_NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LONGEST_WINDOW_SECONDS = 3600
DEFAULT_OBSERVE_WINDOW_SECONDS = 180
DEFAULT_PANIC_WINDOW_SECONDS = 60
SCALING_HISTORY_ENTRIES = 5


class SubTargetSelector(Schema):
    role_name: str | None = None


class ScalingSchedule(Schema):
    """A window of the day with bounds of its own; the end is exclusive."""

    name: Annotated[str, Field(min_length=1, pattern=SCHEDULE_NAME_PATTERN)]
    timezone: str | None = None
    days_of_week: Annotated[list[str] | None, Field(min_length=1)] = None
    start_time: Annotated[str, Field(pattern=TIME_OF_DAY_PATTERN)]
    end_time: Annotated[str, Field(pattern=TIME_OF_DAY_PATTERN)]
    min_replicas: Int32 | None = None
    max_replicas: Int32 | None = None


class MetricSource(Schema):
    metric_source_type: Literal["pod", "resource", "custom", "external", "domain"]
    protocol_type: Literal["http", "https"] | None = None
    endpoint: str | None = None
    path: str | None = None
    port: str | None = None
    target_metric: str
    target_value: str


class PodAutoscalerSpec(Schema):
    scale_target_ref: ObjectReference
    sub_target_selector: SubTargetSelector | None = None
    min_replicas: Int32 | None = None
    max_replicas: Int32
    schedules: Annotated[list[ScalingSchedule] | None, Field(min_length=1)] = None
    metrics_sources: Annotated[list[MetricSource] | None, Field(min_length=1)] = None
    observe_window_seconds: Annotated[Int64 | None, Field(ge=1, le=LONGEST_WINDOW_SECONDS)] = None
    panic_window_seconds: Annotated[Int64 | None, Field(ge=1, le=LONGEST_WINDOW_SECONDS)] = None
    scaling_strategy: Literal["HPA", "KPA", "APA"]


class ScalingDecision(Schema):
    timestamp: DateTime
    previous_scale: Int32
    new_scale: Int32
    reason: str
    success: bool
    error: str | None = None


class ScheduledBounds(Schema):
    active_schedule: str | None = None
    effective_min_replicas: Int32
    effective_max_replicas: Int32


class PodAutoscalerStatus(Schema):
    observed_generation: Int64 | None = None
    last_scale_time: DateTime | None = None
    desired_scale: Int32 | None = None
    actual_scale: Int32 | None = None
    conditions: list[StandardCondition] | None = None
    scaling_history: Annotated[list[ScalingDecision] | None, Field(max_length=SCALING_HISTORY_ENTRIES)] = None
    scheduled_bounds: ScheduledBounds | None = None


class PodAutoscaler(Schema):
    spec: PodAutoscalerSpec | None = None
    status: PodAutoscalerStatus | None = None
