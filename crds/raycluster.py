"""RayClusterFleet and RayClusterReplicaSet, and the RayCluster that both make copies of (ray.io/v1, KubeRay 1.2.1)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from crds.fields import (
    DateTime,
    EmbeddedMetadata,
    EnvFromSource,
    EnvVar,
    Int32,
    Int64,
    IntOrString,
    LabelSelector,
    PodTemplate,
    ResourceRequirements,
    Schema,
    SecurityContext,
    Service,
    StandardCondition,
    VolumeMount,
)

BY_TYPE: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


class AutoscalerOptions(Schema):
    image: str | None = None
    image_pull_policy: str | None = None
    idle_timeout_seconds: Int32 | None = None
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"] | None = None
    resources: ResourceRequirements | None = None
    env: list[EnvVar] | None = None
    env_from: list[EnvFromSource] | None = None
    volume_mounts: list[VolumeMount] | None = None
    security_context: SecurityContext | None = None


class HeadGroupSpec(Schema):
    ray_start_params: dict[str, str]
    template: PodTemplate
    service_type: str | None = None
    enable_ingress: bool | None = None
    head_service: Service | None = None


class ScaleStrategy(Schema):
    workers_to_delete: list[str] | None = None


class WorkerGroupSpec(Schema):
    group_name: str
    replicas: Int32 = 0
    min_replicas: Int32 = 0
    max_replicas: Int32 = 2147483647
    num_of_hosts: Int32 = 1
    ray_start_params: dict[str, str]
    scale_strategy: ScaleStrategy | None = None
    template: PodTemplate


class RayClusterSpec(Schema):
    ray_version: str | None = None
    suspend: bool | None = None
    enable_in_tree_autoscaling: bool | None = None
    head_service_annotations: dict[str, str] | None = None
    autoscaler_options: AutoscalerOptions | None = None
    head_group_spec: HeadGroupSpec
    worker_group_specs: list[WorkerGroupSpec] | None = None


class RayClusterTemplate(Schema):
    metadata: EmbeddedMetadata | None = None
    spec: RayClusterSpec | None = None


class RollingUpdate(Schema):
    max_surge: IntOrString | None = None
    max_unavailable: IntOrString | None = None


class FleetStrategy(Schema):
    type: str | None = None
    rolling_update: RollingUpdate | None = None


class RayClusterFleetSpec(Schema):
    replicas: Annotated[Int32, Field(ge=0)] = 1
    selector: LabelSelector
    template: RayClusterTemplate
    strategy: FleetStrategy | None = None
    min_ready_seconds: Int32 = 0
    revision_history_limit: Int32 = 10
    paused: bool = False
    progress_deadline_seconds: Int32 = 600


class FleetCondition(Schema):
    type: str
    status: str
    last_update_time: DateTime | None = None
    last_transition_time: DateTime | None = None
    reason: str | None = None
    message: str | None = None


class RayClusterFleetStatus(Schema):
    observed_generation: Int64 | None = None
    replicas: Int32 | None = None
    updated_replicas: Int32 | None = None
    ready_replicas: Int32 | None = None
    available_replicas: Int32 | None = None
    unavailable_replicas: Int32 | None = None
    collision_count: Int32 | None = None
    scaling_target_selector: str | None = None
    conditions: Annotated[list[FleetCondition] | None, Field(json_schema_extra=BY_TYPE)] = None


class RayClusterFleet(Schema):
    spec: RayClusterFleetSpec | None = None
    status: RayClusterFleetStatus | None = None


class RayClusterReplicaSetSpec(Schema):
    replicas: Int32 = 1
    min_ready_seconds: Int32 | None = None
    selector: LabelSelector | None = None
    template: RayClusterTemplate | None = None


class RayClusterReplicaSetStatus(Schema):
    replicas: Int32
    fully_labeled_replicas: Int32 | None = None
    terminating_replicas: Int32 | None = None
    ready_replicas: Int32 | None = None
    available_replicas: Int32 | None = None
    observed_generation: Int64 | None = None
    conditions: Annotated[list[StandardCondition] | None, Field(json_schema_extra=BY_TYPE)] = None


class RayClusterReplicaSet(Schema):
    spec: RayClusterReplicaSetSpec | None = None
    status: RayClusterReplicaSetStatus | None = None
