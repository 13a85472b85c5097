"""What a fleet makes: replica sets named after their template, and RayClusters that copy it.

Two templates are the same when they differ only in labels that the fleet itself writes and in what the API server would
have said for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from crds import labels
from crds.kubernetes.defaults import without_defaults
from planning import names
from planning.objects import annotations_of, name_of, spec_of
from planning.planner import Resource
from planning.render import owner_reference
from planning.wire import CreateRayReplicaSet

Json = dict[str, Any]
RAY_CLUSTER: Final = Resource("ray.io", "v1", "rayclusters", "RayCluster", optional=True)
RAY_REPLICA_SET: Final = Resource(
    labels.ORCHESTRATION_GROUP, labels.VERSION, "rayclusterreplicasets", "RayClusterReplicaSet", optional=True
)
RAY_FLEET: Final = Resource(
    labels.ORCHESTRATION_GROUP, labels.VERSION, "rayclusterfleets", "RayClusterFleet", optional=True
)
WRITTEN_LABELS: Final = (labels.POD_TEMPLATE_HASH, labels.RAYCLUSTER_FLEET_NAME)
NOT_COPIED: Final = (
    labels.FLEET_REVISION, labels.FLEET_REVISION_HISTORY, labels.FLEET_DESIRED_REPLICAS, labels.FLEET_MAX_REPLICAS,
    labels.FLEET_ROLLBACK_TO, "kubectl.kubernetes.io/last-applied-configuration", labels.DECISION,
)  # fmt: skip


def template_digest(template: Json) -> str:
    """Identity of a fleet's template; equal digests mean the same clusters."""
    return names.digest(_bare(template))


def _bare(template: Json) -> Json:
    spec = dict(template.get("spec") or {})
    for group in _groups(spec):
        group["template"] = without_defaults(stripped(group.get("template") or {}))
    return stripped({**template, "spec": spec})


def _groups(spec: Json) -> Iterator[Json]:
    """Copies of the head's and the workers' groups, put into `spec`."""
    if "headGroupSpec" in spec:
        spec["headGroupSpec"] = dict(spec["headGroupSpec"])
        yield spec["headGroupSpec"]
    if spec.get("workerGroupSpecs"):
        spec["workerGroupSpecs"] = [dict(group) for group in spec["workerGroupSpecs"]]
        yield from spec["workerGroupSpecs"]


def stripped(template: Json) -> Json:
    """Without the labels that a fleet writes."""
    metadata = dict(template.get("metadata") or {})
    kept = {key: value for key, value in (metadata.get("labels") or {}).items() if key not in WRITTEN_LABELS}
    metadata = {key: value for key, value in {**metadata, "labels": kept}.items() if value}
    rest = {key: value for key, value in template.items() if key != "metadata"}
    return {**rest, **({"metadata": metadata} if metadata else {})}


def restored_template(replica_set: Json) -> Json:
    """The template that a fleet had when it made this replica set."""
    template = spec_of(replica_set).get("template") or {}
    spec = dict(template.get("spec") or {})
    for group in _groups(spec):
        group["template"] = stripped(group.get("template") or {})
    return stripped({**template, "spec": spec})


def copied_annotations(fleet: Json) -> dict[str, str]:
    return {key: value for key, value in annotations_of(fleet).items() if key not in NOT_COPIED}


def render_replica_set(fleet: Json, step: CreateRayReplicaSet) -> Json:
    """The RayClusterReplicaSet of `step`, owned by `fleet`."""
    own, spec = {labels.POD_TEMPLATE_HASH: step.hash}, spec_of(fleet)
    template = spec.get("template") or {}
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **own}
    selector = spec.get("selector") or {}
    return {
        "apiVersion": RAY_REPLICA_SET.api_version,
        "kind": RAY_REPLICA_SET.kind,
        "metadata": {
            "name": step.name,
            "namespace": fleet["metadata"]["namespace"],
            "labels": metadata["labels"],
            "annotations": copied_annotations(fleet) | size_notes(step.desired, step.most, str(step.revision)),
            "ownerReferences": [owner_reference(fleet, labels.ORCHESTRATION_API, RAY_FLEET.kind)],
        },
        "spec": {
            "replicas": step.replicas,
            "minReadySeconds": int(spec.get("minReadySeconds") or 0),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), **own}},
            "template": {"metadata": metadata, "spec": _named_pods(template.get("spec") or {}, name_of(fleet))},
        },
    }


def size_notes(desired: int, most: int, revision: str = "", history: str = "") -> dict[str, str]:
    """Annotations of a replica set; an empty revision or history is not written."""
    found = {
        labels.FLEET_DESIRED_REPLICAS: str(desired), labels.FLEET_MAX_REPLICAS: str(most),
        labels.FLEET_REVISION: revision, labels.FLEET_REVISION_HISTORY: history,
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}


def _named_pods(spec: Json, fleet: str) -> Json:
    """The cluster's spec with the fleet's name on the pods of head and workers."""
    made = dict(spec)
    for group in _groups(made):
        template = dict(group.get("template") or {})
        metadata = dict(template.get("metadata") or {})
        metadata["labels"] = {**(metadata.get("labels") or {}), labels.RAYCLUSTER_FLEET_NAME: fleet}
        group["template"] = {**template, "metadata": metadata}
    return made


def render_ray_cluster(replica_set: Json, name: str) -> Json:
    """One RayCluster of a replica set's template."""
    template = spec_of(replica_set).get("template") or {}
    marks = template.get("metadata") or {}
    kept = {key: dict(marks[key]) for key in ("labels", "annotations") if marks.get(key)}
    metadata = {
        "name": name,
        "namespace": replica_set["metadata"]["namespace"],
        **kept,
        "ownerReferences": [owner_reference(replica_set, labels.ORCHESTRATION_API, RAY_REPLICA_SET.kind)],
    }
    return {
        "apiVersion": RAY_CLUSTER.api_version, "kind": RAY_CLUSTER.kind, "metadata": metadata,
        "spec": template.get("spec") or {},
    }  # fmt: skip


def ray_cluster_name(replica_set: str, end: str) -> str:
    return names.shorten(f"{replica_set}-", keep_prefix=True, generate=True) + end
