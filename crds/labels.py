"""Every name that clients, manifests and other processes read: labels, annotations, finalizers, conditions, reasons.

They are AIBrix's public surface, so none may change. Names that only brixflow writes stand at the end.
"""

from __future__ import annotations

from typing import Final

# Groups and the field manager of our server-side applies.
ORCHESTRATION_GROUP: Final = "orchestration.aibrix.ai"
AUTOSCALING_GROUP: Final = "autoscaling.aibrix.ai"
MODEL_GROUP: Final = "model.aibrix.ai"
VERSION: Final = "v1alpha1"
ORCHESTRATION_API: Final = f"{ORCHESTRATION_GROUP}/{VERSION}"
CATEGORY: Final = "aibrix"
FIELD_MANAGER: Final = "brixflow"
SYSTEM_NAMESPACE: Final = "aibrix-system"

# What a model's pod says about itself (label, or annotation where the label is absent).
MODEL_NAME: Final = "model.aibrix.ai/name"
MODEL_PORT: Final = "model.aibrix.ai/port"
MODEL_METRIC_PORT: Final = "model.aibrix.ai/metric-port"
MODEL_ENGINE: Final = "model.aibrix.ai/engine"
MODEL_CONFIG: Final = "model.aibrix.ai/config"
MODEL_KV_CONNECTOR: Final = "model.aibrix.ai/kv-connector-type"
MODEL_KV_EVENTS: Final = "model.aibrix.ai/kv-events-enabled"
MODEL_LORA_ID: Final = "model.aibrix.ai/lora-id"
SIDECAR_INJECTION: Final = "model.aibrix.ai/sidecar-injection"
SIDECAR_IMAGE: Final = "model.aibrix.ai/sidecar-runtime-image"
MODEL_MIN_REPLICAS: Final = "model.aibrix.ai/min_replicas"
MODEL_SERVICE_NAME: Final = "model.aibrix.ai/service-name"
MODEL_CUSTOM_PATHS: Final = "model.aibrix.ai/model-router-custom-paths"
MODEL_BOOTSTRAP_PORT: Final = "model.aibrix.ai/sglang-bootstrap-port"
ADAPTER_ENABLED: Final = "adapter.model.aibrix.ai/enabled"
ADAPTER_NAME: Final = "adapter.model.aibrix.ai/name"
POOL_NAME: Final = "pool.aibrix.ai/name"
POOL_ENABLED: Final = "pool.aibrix.ai/enabled"
POOL_POLICY: Final = "pool.aibrix.ai/policy"
DEFAULT_MODEL_PORT: Final = 8000

# What AIBrix's console writes, and who manages an object.
CONSOLE_DEPLOYMENT_ID: Final = "console.aibrix.ai/deployment-id"
CONSOLE_DEPLOYMENT_NAME: Final = "console.aibrix.ai/deployment-name"
CONSOLE_TARGET: Final = "console.aibrix.ai/target-deployment"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY_CONSOLE: Final = "aibrix-console"

# StormService, RoleSet and their pods.
_PREFIX: Final = "stormservice.orchestration.aibrix.ai"
STORM_SERVICE_NAME: Final = "storm-service-name"
STORM_SERVICE_REVISION: Final = "storm-service-revision"
ROLESET_NAME: Final = "roleset-name"
ROLE_NAME: Final = "role-name"
ROLE_TEMPLATE_HASH: Final = "role-template-hash"
NAME: Final = "name"
PREVIOUS_OWNER: Final = "previous-owner"
REVISION: Final = f"{_PREFIX}/revision"
ROLESET_INDEX: Final = f"{_PREFIX}/roleset-index"
ROLE_REPLICA_INDEX: Final = f"{_PREFIX}/role-replica-index"
PODSET_NAME: Final = f"{_PREFIX}/podset-name"
POD_GROUP_INDEX: Final = f"{_PREFIX}/pod-group-index"
ROLE_REVISION: Final = f"{_PREFIX}/role-revision"
ROLE_REVISION_NAME: Final = f"{_PREFIX}/role-revision-name"
CONTROLLER_HASH: Final = "controller.kubernetes.io/hash"
POD_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"


def role_revision_annotation(role: str) -> str:
    """Annotation of a RoleSet: number of the revision that brought the template of `role`."""
    return f"{ROLE_REVISION}.{role}"


def role_revision_name_annotation(role: str) -> str:
    """Annotation of a RoleSet: name of the revision that brought the template of `role`."""
    return f"{ROLE_REVISION_NAME}.{role}"


# KVCache.
KVCACHE_BACKEND: Final = "kvcache.orchestration.aibrix.ai/backend"
KVCACHE_MODE: Final = "kvcache.orchestration.aibrix.ai/mode"
KVCACHE_NAME: Final = "kvcache.orchestration.aibrix.ai/name"
KVCACHE_ROLE: Final = "kvcache.orchestration.aibrix.ai/role"
KVCACHE_ETCD_INDEX: Final = "kvcache.orchestration.aibrix.ai/etcd-index"
KVCACHE_GPU_TYPE: Final = "kvcache.orchestration.aibrix.ai/node-affinity-gpu-type"
KVCACHE_GPU_KEY: Final = "kvcache.orchestration.aibrix.ai/node-affinity-key"
KVCACHE_WORKLOAD: Final = "kvcache.orchestration.aibrix.ai/pod-affinity-workload"
KVCACHE_ANTI_AFFINITY: Final = "kvcache.orchestration.aibrix.ai/pod-anti-affinity"
_HPKV: Final = "hpkv.kvcache.orchestration.aibrix.ai"
HPKV_RDMA_PORT: Final = f"{_HPKV}/rdma-port"
HPKV_ADMIN_PORT: Final = f"{_HPKV}/admin-port"
HPKV_BLOCK_SIZE_BYTES: Final = f"{_HPKV}/block-size-bytes"
HPKV_BLOCK_COUNT: Final = f"{_HPKV}/block-count"
HPKV_TOTAL_SLOTS: Final = f"{_HPKV}/total-slots"
HPKV_VIRTUAL_NODES: Final = f"{_HPKV}/virtual-node-count"
KVCACHE_PORTS: Final = {HPKV_RDMA_PORT: 18512, HPKV_ADMIN_PORT: 9100}
KVCACHE_COUNTS: Final = {
    HPKV_BLOCK_SIZE_BYTES: 4096, HPKV_BLOCK_COUNT: 1048576, HPKV_TOTAL_SLOTS: 4096, HPKV_VIRTUAL_NODES: 100,
}  # fmt: skip
"""Numbers that annotations of a KVCache set, each with its default."""
INFINISTORE_LINK_TYPE: Final = "infinistore.kvcache.orchestration.aibrix.ai/link-type"
INFINISTORE_GID_INDEX: Final = "infinistore.kvcache.orchestration.aibrix.ai/hint-gid-index"

# PodAutoscaler.
_SCALING: Final = "autoscaling.aibrix.ai"
MAX_SCALE_UP_RATE: Final = f"{_SCALING}/max-scale-up-rate"
MAX_SCALE_DOWN_RATE: Final = f"{_SCALING}/max-scale-down-rate"
SCALE_UP_TOLERANCE: Final = f"{_SCALING}/scale-up-tolerance"
SCALE_DOWN_TOLERANCE: Final = f"{_SCALING}/scale-down-tolerance"
PANIC_THRESHOLD: Final = f"{_SCALING}/panic-threshold"
SCALE_UP_COOL_DOWN: Final = f"{_SCALING}/scale-up-cooldown-window"
SCALE_DOWN_COOL_DOWN: Final = f"{_SCALING}/scale-down-cooldown-window"
SCALE_TO_ZERO: Final = f"{_SCALING}/scale-to-zero"
STORM_SERVICE_MODE: Final = f"{_SCALING}/storm-service-mode"
LEGACY_SCALING: Final = {
    f"{_SCALING}/up-fluctuation-tolerance": SCALE_UP_TOLERANCE,
    f"{_SCALING}/down-fluctuation-tolerance": SCALE_DOWN_TOLERANCE,
    f"kpa.{_SCALING}/scale-down-delay": SCALE_DOWN_COOL_DOWN,
    f"apa.{_SCALING}/window": "spec.observeWindowSeconds",
}
"""Names of older manifests, each with what says the same today."""

# RayClusterFleet.
RAYCLUSTER_FLEET_NAME: Final = "orchestration.aibrix.ai/raycluster-fleet-name"
RAY_NODE_TYPE: Final = "ray.io/node-type"
POD_TEMPLATE_HASH: Final = "pod-template-hash"
FLEET_REVISION: Final = "deployment.kubernetes.io/revision"
FLEET_REVISION_HISTORY: Final = "deployment.kubernetes.io/revision-history"
FLEET_DESIRED_REPLICAS: Final = "deployment.kubernetes.io/desired-replicas"
FLEET_MAX_REPLICAS: Final = "deployment.kubernetes.io/max-replicas"
FLEET_ROLLBACK_TO: Final = "deprecated.deployment.rollback.to"

# Conditions of a RayCluster that KubeRay writes, and reasons and Events of the two kinds above it.
RAY_PROVISIONED: Final = "RayClusterProvisioned"
RAY_HEAD_READY: Final = "HeadPodReady"
REASON_MIN_AVAILABLE: Final = "MinimumReplicasAvailable"
REASON_MIN_UNAVAILABLE: Final = "MinimumReplicasUnavailable"
REASON_REPLICA_SET_CREATED: Final = "NewReplicaSetCreated"
REASON_REPLICA_SET_FOUND: Final = "FoundNewReplicaSet"
REASON_REPLICA_SET_UPDATED: Final = "ReplicaSetUpdated"
REASON_REPLICA_SET_AVAILABLE: Final = "NewReplicaSetAvailable"
REASON_REPLICA_SET_CREATE_ERROR: Final = "ReplicaSetCreateError"
REASON_FLEET_PAUSED: Final = "DeploymentPaused"
REASON_FLEET_RESUMED: Final = "DeploymentResumed"
REASON_FAILED_CREATE: Final = "FailedCreate"
REASON_FAILED_DELETE: Final = "FailedDelete"
EVENT_SCALING_REPLICA_SET: Final = "ScalingReplicaSet"
EVENT_SELECTING_ALL: Final = "SelectingAll"
EVENT_FLEET_ROLLBACK: Final = "DeploymentRollback"
EVENT_FLEET_ROLLBACK_NOT_FOUND: Final = "DeploymentRollbackRevisionNotFound"
EVENT_FLEET_ROLLBACK_UNCHANGED: Final = "DeploymentRollbackTemplateUnchanged"

# Co-scheduling: which PodGroup a pod belongs to.
COSCHEDULING_GROUP: Final = "scheduling.x-k8s.io/pod-group"
GODEL_GROUP: Final = "godel.bytedance.com/pod-group-name"
VOLCANO_GROUP: Final = "scheduling.k8s.io/group-name"

# In-place updates of pods.
IN_PLACE_TARGET_HASH: Final = f"{_PREFIX}/in-place-update-target-hash"
IN_PLACE_STATE: Final = f"{_PREFIX}/in-place-update-state"
IN_PLACE_PENDING_REASON: Final = f"{_PREFIX}/in-place-update-pending-reason"
IN_PLACE_READY: Final = f"{_PREFIX}/in-place-update-ready"

# Environment of every engine container.
ENV_STORM_SERVICE_NAME: Final = "STORM_SERVICE_NAME"
ENV_ROLESET_NAME: Final = "ROLESET_NAME"
ENV_ROLESET_INDEX: Final = "ROLESET_INDEX"
ENV_ROLE_NAME: Final = "ROLE_NAME"
ENV_ROLE_TEMPLATE_HASH: Final = "ROLE_TEMPLATE_HASH"
ENV_ROLE_REPLICA_INDEX: Final = "ROLE_REPLICA_INDEX"
ENV_PODSET_NAME: Final = "PODSET_NAME"
ENV_POD_GROUP_INDEX: Final = "POD_GROUP_INDEX"
ENV_POD_GROUP_SIZE: Final = "POD_GROUP_SIZE"

# Finalizers.
STORM_SERVICE_FINALIZER: Final = "orchestration.aibrix.ai/stormservice-finalizer"
ROLESET_FINALIZER: Final = "orchestration.aibrix.ai/roleset-finalizer"
PODSET_FINALIZER: Final = "orchestration.aibrix.ai/podset-finalizer"
ADAPTER_FINALIZER: Final = "adapter.model.aibrix.ai/finalizer"
MODEL_CLAIM_FINALIZER: Final = "model.aibrix.ai/modelclaim-finalizer"

# Condition types and reasons of the orchestration kinds.
READY: Final = "Ready"
PROGRESSING: Final = "Progressing"
REPLICA_FAILURE: Final = "ReplicaFailure"
REASON_READY: Final = "Ready"
REASON_PROCESSING: Final = "Processing"
REASON_FAILURE: Final = "Failure"

# Condition types of the other kinds.
VALID_SPEC: Final = "ValidSpec"
SCALING_ACTIVE: Final = "ScalingActive"
ABLE_TO_SCALE: Final = "AbleToScale"
MULTI_AUTOSCALER_CONFLICT: Final = "MultiPodAutoscalerConflict"
INITIALIZED: Final = "Initialized"
SCHEDULED: Final = "Scheduled"
BOUND: Final = "Bound"
RESOURCE_CREATED: Final = "ResourceCreated"
LOADED: Final = "Loaded"
AVAILABLE: Final = "Available"

# Reasons of the other kinds.
REASON_AS_EXPECTED: Final = "AsExpected"
REASON_RECONCILING_SCALE_DIFF: Final = "ReconcilingScaleDiff"
REASON_STABLE: Final = "Stable"
REASON_INVALID_STRATEGY: Final = "InvalidScalingStrategy"
REASON_INVALID_BOUNDS: Final = "InvalidBounds"
REASON_MISSING_TARGET: Final = "MissingScaleTargetRef"
REASON_METRICS_CONFIG: Final = "MetricsConfigError"
REASON_INVALID_SPEC: Final = "InvalidSpec"
REASON_CONFIGURED: Final = "Configured"
REASON_SUCCEEDED_GET_SCALE: Final = "SucceededGetScale"
REASON_FAILED_GET_SCALE: Final = "FailedGetScale"
REASON_FAILED_UPDATE_SCALE: Final = "FailedUpdateScale"
REASON_INVALID_ENGINE_CONFIG: Final = "InvalidEngineConfig"
REASON_NO_MATCHING_PODS: Final = "NoMatchingPods"
REASON_ADAPTER_AVAILABLE: Final = "ModelAdapterAvailable"
REASON_ADAPTER_LOADING_ERROR: Final = "ModelAdapterLoadingError"
REASON_ADAPTER_PENDING: Final = "ModelAdapterPending"
REASON_SERVICE_CREATE_ERROR: Final = "ServiceCreateError"
REASON_ENDPOINT_SLICE_CREATE_ERROR: Final = "EndpointSliceCreateError"

# Event reasons.
EVENT_SERVICE_SYNCED: Final = "HeadlessServiceSynced"
EVENT_SCALING: Final = "Scaling"
EVENT_ROLLOUT: Final = "Rollout"

# Events of PodSets, of gang scheduling and of topology policies.
EVENT_RECONCILE_ERROR: Final = "ReconcileError"
EVENT_DELETING_UNHEALTHY: Final = "DeletingUnhealthyPods"
EVENT_REPLACING_UNHEALTHY: Final = "ReplacingUnhealthy"
EVENT_RECREATING_ALL: Final = "RecreatingAllPods"
EVENT_SCALING_DOWN: Final = "ScalingDown"
EVENT_POD_GROUP_SYNCED: Final = "PodGroupSynced"
EVENT_IN_PLACE_FALLBACK: Final = "InPlaceFallback"
EVENT_TOPOLOGY_PENDING: Final = "TopologyPolicyPendingPodReplacement"

# Names that only brixflow writes.
GROUP_DRAIN: Final = "brixflow.aibrix.ai/group-drain-seconds"
GROUP_WARM_UP: Final = "brixflow.aibrix.ai/group-warm-up"
GROUP_RESTARTS: Final = "brixflow.aibrix.ai/group-restarts"
POD_GROUP_SYNCED: Final = "PodGroupSynced"
TOPOLOGY_PENDING: Final = "TopologyPolicyPending"
REASON_POD_GROUP_MISSING: Final = "PodGroupKindMissing"
MODEL_ROUTE: Final = "brixflow.aibrix.ai/model-route"
EVENT_ROUTE_TAKEN: Final = "ModelRouteTaken"
TEMPLATE_DIGEST: Final = "brixflow.aibrix.ai/template-digest"
DECISION: Final = "brixflow.aibrix.ai/decision"
SERVICE_CONFLICT: Final = "ServiceConflict"
REASON_NOT_READY: Final = "NotReady"
REASON_COMPLETED: Final = "Completed"
REASON_PAUSED: Final = "Paused"
REASON_NAME_CONFLICT: Final = "NameConflict"
EVENT_ROLESETS_CREATED: Final = "RoleSetsCreated"
EVENT_ROLESETS_UPDATED: Final = "RoleSetsUpdated"
EVENT_ROLESETS_DELETED: Final = "RoleSetsDeleted"
EVENT_PODS_CREATED: Final = "PodsCreated"
EVENT_PODS_DELETED: Final = "PodsDeleted"
POD_SHAPE: Final = "brixflow.aibrix.ai/in-place-shape"
IN_PLACE_SINCE: Final = "brixflow.aibrix.ai/in-place-since"
IN_PLACE_FALLBACK: Final = "brixflow.aibrix.ai/in-place-fallback"
DRAIN_SINCE: Final = "brixflow.aibrix.ai/drain-since"
DRAINED: Final = "brixflow.aibrix.ai/drained"
WARM_UP: Final = "brixflow.aibrix.ai/warm-up"
RESTARTS_SEEN: Final = "brixflow.aibrix.ai/restarts-seen"
EVENT_IN_PLACE_STARTED: Final = "InPlaceUpdateStarted"
EVENT_IN_PLACE_COMPLETED: Final = "InPlaceUpdateCompleted"
EVENT_PODSETS_CREATED: Final = "PodSetsCreated"
EVENT_PODSETS_DELETED: Final = "PodSetsDeleted"
EVENT_PROMOTED: Final = "RevisionPromoted"
RETRY_AT: Final = "orchestration.aibrix.ai/retry-at"
REASON_DEADLINE: Final = "ProgressDeadlineExceeded"
REASON_ROLLED_BACK: Final = "RolledBack"
EVENT_ADOPTED: Final = "Adopted"
EVENT_BUDGET_SYNCED: Final = "DisruptionBudgetSynced"

# What a person asks of a rollout, and the Events that tell of it.
RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
CHANGE_CAUSE: Final = "kubernetes.io/change-cause"
EVENT_ROLLOUT_STARTED: Final = "RolloutStarted"
EVENT_ROLLOUT_COMPLETED: Final = "RolloutCompleted"
EVENT_ROLLOUT_SUPERSEDED: Final = "RolloutSuperseded"
EVENT_ROLLOUT_UNDONE: Final = "RolloutUndone"
EVENT_ROLLOUT_FAILED: Final = "RolloutFailed"
EVENT_ROLLOUT_PAUSED: Final = "RolloutPaused"
EVENT_ROLLOUT_RESUMED: Final = "RolloutResumed"
EVENT_ROLLOUT_RESTARTED: Final = "RolloutRestarted"
EVENT_BLOCKED: Final = "Blocked"
