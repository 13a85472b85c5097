"""RoleSet: the roles of one serving group and how their pods are updated."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from crds.fields import (
    LABEL_KEY_PATTERN,
    ROLE_NAME_PATTERN,
    Condition,
    Int32,
    Int64,
    IntOrString,
    NodeSelector,
    PodTemplate,
    Quantity,
    RoleStatus,
    Schema,
)


class DisruptionTolerance(Schema):
    max_unavailable: IntOrString | None = None


class CoschedulingStrategy(Schema):
    min_member: Annotated[Int32 | None, Field(ge=1)] = None
    min_resources: dict[str, Quantity] | None = None
    schedule_timeout_seconds: Int32 | None = None


class VolcanoStrategy(Schema):
    min_member: Int32 | None = None
    min_task_member: dict[str, Int32] | None = None
    queue: str | None = None
    priority_class_name: str | None = None
    min_resources: dict[str, Quantity] | None = None


class PodGroupTerm(Schema):
    topology_key: str


class PodGroupSortRule(Schema):
    resource: str
    order: str
    dimension: str | None = None


class PodGroupAffinity(Schema):
    required: list[PodGroupTerm] | None = None
    preferred: list[PodGroupTerm] | None = None
    sort_rules: list[PodGroupSortRule] | None = None
    node_selector: NodeSelector | None = None


class PodGroupAntiAffinity(Schema):
    required: list[PodGroupTerm] | None = None
    preferred: list[PodGroupTerm] | None = None


class GodelAffinity(Schema):
    pod_group_affinity: PodGroupAffinity | None = None
    pod_group_anti_affinity: PodGroupAntiAffinity | None = None


class GodelStrategy(Schema):
    min_member: Int32 | None = None
    priority_class_name: str | None = None
    schedule_timeout_seconds: Int32 | None = None
    application: str | None = None
    affinity: GodelAffinity | None = None


class SchedulingStrategy(Schema):
    """At most one of the three gang schedulers."""

    model_config = ConfigDict(json_schema_extra={"maxProperties": 1})

    godel_scheduling_strategy: GodelStrategy | None = None
    coscheduling_scheduling_strategy: CoschedulingStrategy | None = None
    volcano_scheduling_strategy: VolcanoStrategy | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) > 1:
            raise ValueError(f"at most one gang scheduler, not {', '.join(sorted(self.model_fields_set))}")
        return self


class TopologyPolicy(Schema):
    """`rollOnChange`: pods without the term that the policy asks for count as outdated."""

    scope: Literal["StormService", "RoleSet", "Role"]
    mode: Literal["Preferred", "Required"] = "Preferred"
    key: Annotated[str, Field(min_length=1, max_length=317, pattern=LABEL_KEY_PATTERN)]
    roll_on_change: bool | None = None


class RoleUpdateStrategy(Schema):
    type: Literal["Recreate", "InPlaceIfPossible"] = "Recreate"
    max_unavailable: IntOrString | None = None
    max_surge: IntOrString | None = None


class WarmUp(Schema):
    """The request that an updated pod has to answer before it counts as updated and ready."""

    path: str = "/v1/completions"
    model: str | None = None
    prompt: str = "Hello"
    max_tokens: Annotated[Int32, Field(ge=1)] = 1
    port: Annotated[Int32, Field(ge=1, le=65535)] = 8000
    timeout_seconds: Annotated[Int32, Field(ge=1)] = 60


class RoleSpec(Schema):
    name: Annotated[str, Field(max_length=63, pattern=ROLE_NAME_PATTERN)]
    replicas: Int32 = 1
    upgrade_order: Annotated[Int32 | None, Field(ge=1)] = None
    pod_group_size: Annotated[Int32, Field(ge=1, le=100)] = 1
    update_strategy: RoleUpdateStrategy | None = None
    stateful: bool = False
    template: PodTemplate | None = None
    disruption_tolerance: DisruptionTolerance | None = None
    scheduling_strategy: SchedulingStrategy | None = None
    min_ready_seconds: Annotated[Int32 | None, Field(ge=0)] = None
    drain_seconds: Annotated[Int32 | None, Field(ge=0)] = None
    warm_up: WarmUp | None = None
    recovery_policy: Literal["Pod", "Group", "Service"] | None = None


def _names_differ(roles: list[RoleSpec] | None) -> list[RoleSpec] | None:
    names = [role.name for role in roles or ()]
    if len(set(names)) < len(names):
        raise ValueError("two roles have the same name")
    return roles


class RoleSetSpec(Schema):
    roles: Annotated[
        list[RoleSpec] | None,
        AfterValidator(_names_differ),
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = None
    update_strategy: Literal["Parallel", "Sequential", "Interleave"] = "Sequential"
    scheduling_strategy: SchedulingStrategy | None = None
    topology_policy: TopologyPolicy | None = None


class RoleSetStatus(Schema):
    observed_generation: Int64 | None = None
    roles: list[RoleStatus] | None = None
    conditions: list[Condition] | None = None


class RoleSet(Schema):
    spec: RoleSetSpec | None = None
    status: RoleSetStatus | None = None
