"""PodSet: the pods of one role instance that spans several machines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crds.fields import Condition, Int32, Int64, PodTemplate, Schema
from crds.roleset import SchedulingStrategy


class PodSetSpec(Schema):
    pod_group_size: Annotated[Int32, Field(ge=2, le=100)]
    template: PodTemplate
    stateful: bool | None = None
    recovery_policy: Literal["ReplaceUnhealthy", "Recreate"] = "ReplaceUnhealthy"
    scheduling_strategy: SchedulingStrategy | None = None


class PodSetStatus(Schema):
    """`restarts` counts how often pods were replaced because they had failed."""

    observed_generation: Int64 | None = None
    ready_pods: Int32
    total_pods: Int32
    phase: str | None = None
    restarts: Int32 | None = None
    conditions: list[Condition] | None = None


class PodSet(Schema):
    spec: PodSetSpec | None = None
    status: PodSetStatus | None = None
