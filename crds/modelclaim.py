"""ModelClaim: a whole model that is brought up on a warm pod when it is needed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crds.fields import Int32, Int64, LabelSelector, Schema, StandardCondition


class EngineConfig(Schema):
    """Command-line flags of the engine; a flag without value has the empty string."""

    args: dict[str, str] | None = None


class ModelClaimSpec(Schema):
    model_name: str | None = None
    pod_selector: LabelSelector
    artifact_url: Annotated[str, Field(alias="artifactURL")]
    engine: Literal["vllm", "sglang"] = "vllm"
    replicas: Annotated[Int32, Field(ge=1, le=1)] = 1
    engine_config: EngineConfig | None = None


class ModelClaimInstance(Schema):
    pod: str
    port: Int32 | None = None
    phase: str | None = None


class ModelClaimStatus(Schema):
    observed_generation: Int64 | None = None
    phase: str | None = None
    candidates: Int32 | None = None
    ready_replicas: Int32 | None = None
    desired_replicas: Int32 | None = None
    instances: list[ModelClaimInstance] | None = None
    conditions: list[StandardCondition] | None = None


class ModelClaim(Schema):
    spec: ModelClaimSpec | None = None
    status: ModelClaimStatus | None = None
