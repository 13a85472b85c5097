"""StormService: a model served by several RoleSets, and how they are replaced."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crds.fields import (
    Condition,
    DateTime,
    EmbeddedMetadata,
    Int32,
    Int64,
    IntOrString,
    LabelSelector,
    RoleStatus,
    Schema,
)
from crds.roleset import DisruptionTolerance, RoleSetSpec


class RoleSetTemplate(Schema):
    metadata: EmbeddedMetadata | None = None
    spec: RoleSetSpec | None = None


class UpdateStrategy(Schema):
    type: Literal["RollingUpdate", "InPlaceUpdate"] = "RollingUpdate"
    max_unavailable: IntOrString | None = None
    max_surge: IntOrString | None = None


class StormServiceSpec(Schema):
    replicas: Annotated[Int32, Field(ge=0)] = 1
    selector: LabelSelector
    stateful: bool = False
    template: RoleSetTemplate
    mode: Literal["Pooled", "Replica"] | None = None
    update_strategy: UpdateStrategy | None = None
    revision_history_limit: Int32 | None = None
    paused: bool = False
    disruption_tolerance: DisruptionTolerance | None = None
    progress_deadline_seconds: Annotated[Int32 | None, Field(ge=1)] = None
    automatic_rollback: bool = False


class StormServiceStatus(Schema):
    """Counts are RoleSets. `completedRevision` is the last revision whose rollout ended.

    `failedRevision` made no progress within the deadline, whose clock is `progressedAt`; `retriedAt` is the value of
    the annotation `orchestration.aibrix.ai/retry-at` that was taken notice of last.
    """

    observed_generation: Int64 | None = None
    replicas: Int32 | None = None
    ready_replicas: Int32 | None = None
    not_ready_replicas: Int32 | None = None
    current_replicas: Int32 | None = None
    updated_replicas: Int32 | None = None
    updated_ready_replicas: Int32 | None = None
    current_revision: str | None = None
    update_revision: str | None = None
    completed_revision: str | None = None
    failed_revision: str | None = None
    progressed_at: DateTime | None = None
    retried_at: str | None = None
    collision_count: Int32 | None = None
    scaling_target_selector: str | None = None
    conditions: list[Condition] | None = None
    role_statuses: list[RoleStatus] | None = None


class StormService(Schema):
    spec: StormServiceSpec | None = None
    status: StormServiceStatus | None = None
