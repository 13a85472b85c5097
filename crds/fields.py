"""Pieces of schema that several kinds have in common.

The models judge a value as the API server does: no text is taken for a number, a null is as good as absent, a field
that nobody knows is passed over. Embedded Kubernetes types stay the mappings that they came as, with every field, and
are checked against the schema that Kubernetes publishes for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from crds.kubernetes.embed import QUANTITY_PATTERN, embedded
from crds.structural import complaints

Json = dict[str, Any]
EMBEDDED = "x-embedded-type"
"""In a model's JSON schema: the core/v1 type whose schema stands here in the definition."""


def _fits(schema: Json) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        found = list(complaints(value, schema))
        if found:
            raise ValueError("; ".join(found))
        return value

    return check


def _is_kubernetes(name: str) -> Callable[[Any], Any]:
    """The schema is read when the first value is checked, not when this module is imported."""

    def check(value: Any) -> Any:
        return _fits(embedded(name))(value)

    return check


Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1, json_schema_extra={"format": "int32"})]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1, json_schema_extra={"format": "int64"})]
DateTime = Annotated[
    str, AfterValidator(_fits({"format": "date-time"})), Field(json_schema_extra={"format": "date-time"})
]
IntOrString = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True})]
Quantity = Annotated[
    int | str,
    AfterValidator(_fits({"x-kubernetes-int-or-string": True, "pattern": QUANTITY_PATTERN})),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": QUANTITY_PATTERN}),
]

PodTemplate = Annotated[
    Json, AfterValidator(_is_kubernetes("PodTemplateSpec")), Field(json_schema_extra={EMBEDDED: "PodTemplateSpec"})
]
Service = Annotated[Json, AfterValidator(_is_kubernetes("Service")), Field(json_schema_extra={EMBEDDED: "Service"})]
ServicePort = Annotated[
    Json, AfterValidator(_is_kubernetes("ServicePort")), Field(json_schema_extra={EMBEDDED: "ServicePort"})
]
ResourceRequirements = Annotated[
    Json,
    AfterValidator(_is_kubernetes("ResourceRequirements")),
    Field(json_schema_extra={EMBEDDED: "ResourceRequirements"}),
]
EnvVar = Annotated[Json, AfterValidator(_is_kubernetes("EnvVar")), Field(json_schema_extra={EMBEDDED: "EnvVar"})]
EnvFromSource = Annotated[
    Json, AfterValidator(_is_kubernetes("EnvFromSource")), Field(json_schema_extra={EMBEDDED: "EnvFromSource"})
]
VolumeMount = Annotated[
    Json, AfterValidator(_is_kubernetes("VolumeMount")), Field(json_schema_extra={EMBEDDED: "VolumeMount"})
]
SecurityContext = Annotated[
    Json, AfterValidator(_is_kubernetes("SecurityContext")), Field(json_schema_extra={EMBEDDED: "SecurityContext"})
]
NodeSelector = Annotated[
    Json, AfterValidator(_is_kubernetes("NodeSelector")), Field(json_schema_extra={EMBEDDED: "NodeSelector"})
]
ObjectReference = Annotated[
    Json, AfterValidator(_is_kubernetes("ObjectReference")), Field(json_schema_extra={EMBEDDED: "ObjectReference"})
]
LocalObjectReference = Annotated[
    Json,
    AfterValidator(_is_kubernetes("LocalObjectReference")),
    Field(json_schema_extra={EMBEDDED: "LocalObjectReference"}),
]

ROLE_NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
REASON_PATTERN = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"


class Schema(BaseModel):
    """Base of all kinds: camelCase on the wire, unknown fields left for the API server to judge."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}


class EmbeddedMetadata(Schema):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    name: str | None = None
    namespace: str | None = None


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


class StandardCondition(Schema):
    """Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=316, pattern=LABEL_KEY_PATTERN)]
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    observed_generation: Annotated[Int64 | None, Field(ge=0)] = None
    last_transition_time: DateTime
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=REASON_PATTERN)]
    message: Annotated[str, Field(max_length=32768)]


class RoleStatus(Schema):
    name: str | None = None
    replicas: Int32
    ready_replicas: Int32 | None = None
    not_ready_replicas: Int32 | None = None
    updated_replicas: Int32 | None = None
    updated_ready_replicas: Int32 | None = None
    blocked: str | None = None
