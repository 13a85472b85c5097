"""KVCache: a distributed cache of attention keys and values beside the engines."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from crds.fields import (
    EnvVar,
    Int32,
    Int64,
    PodTemplate,
    ResourceRequirements,
    Schema,
    ServicePort,
    StandardCondition,
)

DEFAULT_CACHE = {"image": "aibrix/kvcache:20241120", "imagePullPolicy": "IfNotPresent"}


class RuntimeSpec(Schema):
    replicas: Int32 = 1
    image: str | None = None
    image_pull_policy: str = "IfNotPresent"
    env: list[EnvVar] = Field(default=[])
    resources: ResourceRequirements | None = None
    template: PodTemplate | None = None


class ExternalConnection(Schema):
    """`passwordSecretRef` is `secret` or `secret/key`."""

    address: str | None = None
    password_secret_ref: str | None = None


class MetadataStore(Schema):
    external_connection: ExternalConnection | None = None
    runtime: RuntimeSpec | None = None


class Metadata(Schema):
    redis: MetadataStore | None = None
    etcd: MetadataStore | None = None


class CacheService(Schema):
    type: str = "ClusterIP"
    ports: Annotated[list[ServicePort], Field(min_length=1)]


class KVCacheSpec(Schema):
    mode: str = "distributed"
    metadata: Metadata | None = None
    cache: Annotated[RuntimeSpec | None, Field(json_schema_extra={"default": DEFAULT_CACHE})] = None
    watcher: RuntimeSpec | None = None
    service: CacheService | None = None


class KVCacheStatus(Schema):
    observed_generation: Int64 | None = None
    current: Int32 | None = None
    conditions: list[StandardCondition] | None = None


class KVCache(Schema):
    spec: KVCacheSpec | None = None
    status: KVCacheStatus | None = None
