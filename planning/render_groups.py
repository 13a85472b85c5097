"""PodSets of a RoleSet, and the pods of a PodSet, as they are sent to the API server."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import orjson

from crds import labels
from planning import names, topology
from planning.gang import gang_marks
from planning.objects import annotations_of, labels_of, name_of, spec_of
from planning.render import (
    ROLE_VARIABLES,
    inject,
    owner_reference,
    role_environment,
    role_named,
    role_revision_labels,
)

Json = dict[str, Any]
GROUP_VARIABLES: Final = (labels.ENV_PODSET_NAME, labels.ENV_POD_GROUP_INDEX, labels.ENV_POD_GROUP_SIZE)
# What says something about the PodSet object itself and nothing about its pods.
_NOT_INHERITED: Final = frozenset(
    {labels.DECISION, labels.GROUP_DRAIN, labels.GROUP_WARM_UP, "kubectl.kubernetes.io/last-applied-configuration"}
)
# Fields of a PodSet's spec that follow its role without new pods.
MUTABLE: Final = ("recoveryPolicy", "schedulingStrategy")


def render_podset(roleset: Json, role_name: str, slot: int) -> Json:
    """The PodSet of one slot of a role, its finalizer already set. Raises RenderError for an unknown role."""
    role = role_named(roleset, role_name)
    template_hash = topology.role_hash(roleset, role)
    gang_labels, gang_annotations = gang_marks(roleset)
    metadata: Json = {
        "name": names.podset_name(name_of(roleset), role_name, template_hash, slot),
        "namespace": roleset["metadata"]["namespace"],
        "labels": {
            labels.ROLESET_NAME: name_of(roleset),
            labels.ROLE_NAME: role_name,
            labels.ROLE_TEMPLATE_HASH: template_hash,
            labels.STORM_SERVICE_NAME: labels_of(roleset).get(labels.STORM_SERVICE_NAME, ""),
            labels.ROLE_REPLICA_INDEX: str(slot),
        } | role_revision_labels(roleset, role_name) | gang_labels,
        "annotations": {
            labels.ROLESET_INDEX: annotations_of(roleset).get(labels.ROLESET_INDEX, ""),
            labels.ROLE_REPLICA_INDEX: str(slot),
            labels.TEMPLATE_DIGEST: names.role_digest(role),
        } | _asked_of_pods(role) | gang_annotations,
        "finalizers": [labels.PODSET_FINALIZER],
        "ownerReferences": [owner_reference(roleset, labels.ORCHESTRATION_API, "RoleSet")],
    }  # fmt: skip
    spec = {
        "podGroupSize": names.group_size(role),
        "stateful": bool(role.get("stateful")),
        "template": _template(roleset, role, slot),
        **mutable_fields(role),
    }
    return {"apiVersion": labels.ORCHESTRATION_API, "kind": "PodSet", "metadata": metadata, "spec": spec}


def _asked_of_pods(role: Json) -> dict[str, str]:
    """What the PodSet has to know of its role besides the template: it sees its own pods alone."""
    seconds, warm_up = int(role.get("drainSeconds") or 0), role.get("warmUp")
    found = {labels.GROUP_DRAIN: str(seconds)} if seconds else {}
    asked = (
        {labels.GROUP_WARM_UP: orjson.dumps(warm_up, option=orjson.OPT_SORT_KEYS).decode()}
        if warm_up is not None
        else {}
    )
    return found | asked


def mutable_fields(role: Json) -> Json:
    """What of a role goes into its PodSets without new pods."""
    policy = "Recreate" if role.get("recoveryPolicy") in ("Group", "Service") else "ReplaceUnhealthy"
    strategy = role.get("schedulingStrategy")
    return {"recoveryPolicy": policy, **({"schedulingStrategy": deepcopy(strategy)} if strategy else {})}


def _template(roleset: Json, role: Json, slot: int) -> Json:
    template: Json = deepcopy(role.get("template") or {})
    spec = template.get("spec") or {}
    inject(spec.get("containers"), role_environment(roleset, role, slot), ROLE_VARIABLES)
    return {**template, "spec": topology.with_topology(spec, roleset, role["name"])}


def render_group_pod(podset: Json, index: int, restarts: int = 0) -> Json:
    """The pod of one index; what its template says wins over what it would inherit from the PodSet."""
    template: Json = deepcopy(spec_of(podset).get("template") or {})
    carried = template.get("metadata") or {}
    gang_labels, gang_annotations = gang_marks(podset)
    name = names.group_pod_name(name_of(podset), index)
    place = {labels.PODSET_NAME: name_of(podset), labels.POD_GROUP_INDEX: str(index)}
    noted = {labels.GROUP_RESTARTS: str(restarts)} if restarts else {}
    metadata: Json = {
        "name": name,
        "namespace": podset["metadata"]["namespace"],
        "labels": _inherited(labels_of(podset)) | (carried.get("labels") or {}) | place | gang_labels,
        "annotations": _inherited(annotations_of(podset))
        | (carried.get("annotations") or {})
        | gang_annotations
        | noted,
        "ownerReferences": [owner_reference(podset, labels.ORCHESTRATION_API, "PodSet")],
    }
    if carried.get("finalizers"):
        metadata["finalizers"] = carried["finalizers"]
    spec = _pod_spec(template.get("spec") or {}, podset, name, index)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _inherited(noted: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in noted.items() if key not in _NOT_INHERITED}


def _pod_spec(spec: Json, podset: Json, name: str, index: int) -> Json:
    spec["hostname"] = name
    if storm := labels_of(podset).get(labels.STORM_SERVICE_NAME):
        spec["subdomain"] = storm
    values = (name_of(podset), str(index), str(spec_of(podset)["podGroupSize"]))
    injected = [{"name": key, "value": value} for key, value in zip(GROUP_VARIABLES, values, strict=True)]
    for containers in (spec.get("initContainers"), spec.get("containers")):
        inject(containers, injected, GROUP_VARIABLES)
    return spec
