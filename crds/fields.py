"""Pieces of schema that several kinds have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Int32 = Annotated[int, Field(json_schema_extra={"format": "int32"})]
Int64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]
DateTime = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
IntOrString = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True})]
# A part of Kubernetes' own API that is handed on as it came: newer fields of a pod must not be lost.
Opaque = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
ROLE_NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)


class Schema(BaseModel):
    """Base of all kinds: camelCase on the wire, unknown fields left for the API server to judge."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)


class EmbeddedMetadata(Schema):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    name: str | None = None
    namespace: str | None = None


class PodSpec(Schema):
    """Only what must be there; everything else passes through untouched."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})

    containers: list[Opaque]


class PodTemplate(Schema):
    metadata: EmbeddedMetadata | None = None
    spec: PodSpec | None = None


class LabelRequirement(Schema):
    key: str
    operator: str
    values: list[str] | None = None


class LabelSelector(Schema):
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: dict[str, str] | None = None
    match_expressions: list[LabelRequirement] | None = None


class Condition(Schema):
    """The orchestration kinds' own condition; `reason` is free text."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_transition_time: DateTime | None = None
    last_update_time: DateTime | None = None
    last_update_micro_time: DateTime | None = None


class RoleStatus(Schema):
    name: str | None = None
    replicas: Int32
    ready_replicas: Int32 | None = None
    not_ready_replicas: Int32 | None = None
    updated_replicas: Int32 | None = None
    updated_ready_replicas: Int32 | None = None
