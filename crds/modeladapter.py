"""ModelAdapter: a low-rank adapter that is loaded into the pods of its base model."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from crds.fields import Int32, Int64, LabelSelector, LocalObjectReference, Schema, StandardCondition


def _is_one(value: int) -> int:
    if value != 1:
        raise ValueError("must be 1, or absent for every matching pod")
    return value


class ModelAdapterSpec(Schema):
    """`replicas` absent: every ready pod that matches; 1: one pod, chosen by the scheduler."""

    base_model: str | None = None
    pod_selector: LabelSelector
    scheduler_name: str = "default"
    artifact_url: Annotated[str, Field(alias="artifactURL")]
    credentials_secret_ref: LocalObjectReference | None = None
    replicas: Annotated[Int32 | None, AfterValidator(lambda value: value if value is None else _is_one(value)),
                        Field(json_schema_extra={"enum": [1]})] = None  # fmt: skip
    additional_config: dict[str, str] | None = None


class ModelAdapterStatus(Schema):
    observed_generation: Int64 | None = None
    phase: str | None = None
    candidates: Int32 | None = None
    ready_replicas: Int32 | None = None
    desired_replicas: Int32 | None = None
    conditions: list[StandardCondition] | None = None
    instances: list[str] | None = None


class ModelAdapter(Schema):
    spec: ModelAdapterSpec | None = None
    status: ModelAdapterStatus | None = None
