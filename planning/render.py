"""Objects as they are sent to the API server: RoleSets, pods, the headless Service, revisions.

Rendering is pure and complete: an activity needs nothing but the live owner, a ControllerRevision and a name.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from copy import deepcopy
from typing import Any, Final

from crds import labels
from planning import names, topology
from planning.gang import gang_marks
from planning.objects import annotations_of, labels_of, name_of, spec_of, uid_of
from planning.shape import shape_of
from planning.wire import CreateRevision

Json = dict[str, Any]
ROLE_VARIABLES: Final = (
    labels.ENV_STORM_SERVICE_NAME, labels.ENV_ROLESET_NAME, labels.ENV_ROLESET_INDEX, labels.ENV_ROLE_NAME,
    labels.ENV_ROLE_TEMPLATE_HASH, labels.ENV_ROLE_REPLICA_INDEX,
)  # fmt: skip


class RenderError(ValueError):
    """The template cannot become an object; only an edit of it helps."""


def owner_reference(owner: Json, api_version: str, kind: str) -> Json:
    return {
        "apiVersion": api_version, "kind": kind, "name": name_of(owner), "uid": uid_of(owner),
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def storm_owner(storm: Json) -> Json:
    return owner_reference(storm, labels.ORCHESTRATION_API, "StormService")


def template_fault(storm: Json, template: Json) -> str:
    """Why no RoleSet can be made of `template`; empty when it can."""
    if not template.get("spec"):
        return "bad stormService template: nil"
    wanted = selector_labels(storm)
    if not wanted and not (spec_of(storm).get("selector") or {}).get("matchExpressions"):
        return "stormService selector is empty"
    carried = (template.get("metadata") or {}).get("labels") or {}
    if any(carried.get(key) != value for key, value in wanted.items()):
        return f"roleSet labels {carried} does not match stormService selector {wanted}"
    return ""


def selector_labels(storm: Json) -> dict[str, str]:
    return (spec_of(storm).get("selector") or {}).get("matchLabels") or {}


def revision_template(revision: Json) -> Json:
    """The StormService template that a ControllerRevision keeps."""
    template: Json = dict(((revision.get("data") or {}).get("spec") or {}).get("template") or {})
    template.pop("$patch", None)
    return template


def live_replicas(storm: Json) -> dict[str, int]:
    """Replicas of each role as the StormService asks for them."""
    roles = ((spec_of(storm).get("template") or {}).get("spec") or {}).get("roles") or ()
    return {role["name"]: desired_replicas(role) for role in roles}


def desired_replicas(role: Json) -> int:
    """Absent means 1, negative 0."""
    value = role.get("replicas")
    return 1 if value is None else max(0, int(value))


def render_roleset(
    storm: Json, revision: Json, index: int, name: str, storm_live_replicas: bool = True
) -> Json:  # fmt: skip
    """A new RoleSet of `revision` with that roleset-index, its finalizer already set.

    Roles have the StormService's replicas of the moment unless `storm_live_replicas` is false. Raises RenderError.
    """
    template = revision_template(revision)
    if fault := template_fault(storm, template):
        raise RenderError(fault)
    metadata = {
        "name": name,
        "namespace": storm["metadata"]["namespace"],
        "labels": _roleset_labels(storm, revision, template),
        "annotations": _roleset_annotations(revision, template) | {labels.ROLESET_INDEX: str(index)},
        "finalizers": [labels.ROLESET_FINALIZER],
        "ownerReferences": [storm_owner(storm)],
    }
    spec = _roleset_spec(template, live_replicas(storm) if storm_live_replicas else {})
    return {"apiVersion": labels.ORCHESTRATION_API, "kind": "RoleSet", "metadata": metadata, "spec": spec}


def roleset_update(storm: Json, revision: Json, live: Json) -> Json:
    """JSON merge patch that takes `live` to `revision` and to the StormService's replicas.

    The whole spec is ours, so what the revision does not have is removed; labels and annotations of others and the
    roleset-index stay. Carries resourceVersion: a write in between answers 409. Raises RenderError.
    """
    template = revision_template(revision)
    if fault := template_fault(storm, template):
        raise RenderError(fault)
    metadata = {
        "resourceVersion": live["metadata"].get("resourceVersion"),
        "labels": _roleset_labels(storm, revision, template),
        "annotations": _roleset_annotations(revision, template),
    }
    return {"metadata": metadata, "spec": merge_patch(spec_of(live), _roleset_spec(template, live_replicas(storm)))}


def merge_patch(live: Json, wanted: Json) -> Json:
    """RFC 7396 patch that turns `live` into `wanted`."""
    patch: Json = {key: None for key in live if key not in wanted}
    for key, value in wanted.items():
        before = live.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif before != value:
            patch[key] = value
    return patch


def _roleset_labels(storm: Json, revision: Json, template: Json) -> dict[str, str]:
    carried = (template.get("metadata") or {}).get("labels") or {}
    return carried | {
        labels.STORM_SERVICE_NAME: name_of(storm),
        labels.STORM_SERVICE_REVISION: name_of(revision),
    }


def _roleset_annotations(revision: Json, template: Json) -> dict[str, str]:
    carried = (template.get("metadata") or {}).get("annotations") or {}
    found = carried | {labels.REVISION: name_of(revision)}
    for role in (template.get("spec") or {}).get("roles") or ():
        number, name = role_revision(revision, role["name"])
        found[labels.role_revision_annotation(role["name"])] = str(number)
        found[labels.role_revision_name_annotation(role["name"])] = name
    return found


def role_revision(revision: Json, role: str) -> tuple[int, str]:
    """Number and name of the revision that brought the role's template, as `revision` has noted it."""
    noted = annotations_of(revision)
    number = noted.get(labels.role_revision_annotation(role))
    name = noted.get(labels.role_revision_name_annotation(role))
    if number is None or name is None:
        return int(revision.get("revision") or 0), name_of(revision)
    return int(number), name


def _roleset_spec(template: Json, replicas: dict[str, int]) -> Json:
    spec: Json = deepcopy(template["spec"])
    for role in spec.get("roles") or ():
        role["replicas"] = replicas.get(role["name"], desired_replicas(role))
    return spec


def roleset_at(roleset: Json, revision: Json, role_name: str) -> Json:
    """The RoleSet with that role's pod template as `revision` has it. Raises RenderError when it has no such role."""
    roles = (revision_template(revision).get("spec") or {}).get("roles") or ()
    old = next((role for role in roles if role["name"] == role_name), None)
    if old is None:
        raise RenderError(f"revision {name_of(revision)} has no role {role_name}")
    number, name = role_revision(revision, role_name)
    notes = {labels.role_revision_annotation(role_name): str(number)}
    notes[labels.role_revision_name_annotation(role_name)] = name
    live = spec_of(roleset).get("roles") or ()
    kept = [{**role, "template": old.get("template") or {}} if role["name"] == role_name else role for role in live]
    metadata = {**roleset["metadata"], "annotations": annotations_of(roleset) | notes}
    return {**roleset, "metadata": metadata, "spec": {**spec_of(roleset), "roles": kept}}


def render_pod(roleset: Json, role_name: str, *, name: str, slot: int | None) -> Json:
    """A pod of the role; `slot` is its place in a stateful role. Raises RenderError for an unknown role."""
    role = role_named(roleset, role_name)
    template: Json = deepcopy(role.get("template") or {})
    carried = template.get("metadata") or {}
    gang_labels, gang_annotations = gang_marks(roleset)
    metadata: Json = {
        "name": name,
        "namespace": roleset["metadata"]["namespace"],
        "labels": (carried.get("labels") or {}) | _pod_labels(roleset, role, slot) | gang_labels,
        "annotations": (carried.get("annotations") or {}) | _pod_annotations(roleset, role, slot) | gang_annotations,
        "ownerReferences": [owner_reference(roleset, labels.ORCHESTRATION_API, "RoleSet")],
    }
    if carried.get("finalizers"):
        metadata["finalizers"] = carried["finalizers"]
    spec = _pod_spec(template.get("spec") or {}, roleset, role, name, slot)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def role_named(roleset: Json, name: str) -> Json:
    """The role's spec. Raises RenderError for an unknown one."""
    role: Json | None = next((role for role in spec_of(roleset).get("roles") or () if role["name"] == name), None)
    if role is None:
        raise RenderError(f"RoleSet {name_of(roleset)} has no role {name}")
    return role


def _pod_labels(roleset: Json, role: Json, slot: int | None) -> dict[str, str]:
    owner = labels_of(roleset)
    found = {
        labels.ROLESET_NAME: name_of(roleset),
        labels.ROLE_NAME: role["name"],
        labels.ROLE_TEMPLATE_HASH: topology.role_hash(roleset, role),
        labels.STORM_SERVICE_NAME: owner.get(labels.STORM_SERVICE_NAME, ""),
    }
    found |= {key: owner[key] for key in (labels.NAME, labels.PREVIOUS_OWNER) if key in owner}
    if slot is not None:
        found[labels.ROLE_REPLICA_INDEX] = str(slot)
    return found | role_revision_labels(roleset, role["name"])


def role_revision_labels(roleset: Json, role: str) -> dict[str, str]:
    """Which revision brought the role's template, where the RoleSet says so."""
    noted = annotations_of(roleset)
    wanted = {
        labels.ROLE_REVISION: labels.role_revision_annotation(role),
        labels.ROLE_REVISION_NAME: labels.role_revision_name_annotation(role),
    }
    return {label: noted[annotation] for label, annotation in wanted.items() if annotation in noted}


def _pod_annotations(roleset: Json, role: Json, slot: int | None) -> dict[str, str]:
    found = {
        labels.ROLESET_INDEX: annotations_of(roleset).get(labels.ROLESET_INDEX, ""),
        labels.TEMPLATE_DIGEST: names.role_digest(role),
        labels.POD_SHAPE: shape_of(roleset, role),
    }
    if slot is not None:
        found[labels.ROLE_REPLICA_INDEX] = str(slot)
    return found


def _pod_spec(spec: Json, roleset: Json, role: Json, name: str, slot: int | None) -> Json:
    storm = labels_of(roleset).get(labels.STORM_SERVICE_NAME, "")
    spec.pop("hostname", None)
    spec["subdomain"] = storm
    if slot is not None:
        spec["hostname"] = name
    inject(spec.get("containers"), role_environment(roleset, role, slot), ROLE_VARIABLES)
    if role.get("drainSeconds"):
        spec["readinessGates"] = _with_gate(spec.get("readinessGates") or [])
    return topology.with_topology(spec, roleset, role["name"])


def _with_gate(gates: list[Json]) -> list[Json]:
    """Pods that are to be drained need a gate: nothing else takes a running pod out of the choice."""
    gate = {"conditionType": labels.IN_PLACE_READY}
    return gates if gate in gates else [*gates, gate]


def inject(containers: Iterable[Json] | None, injected: Sequence[Json], reserved: Container[str]) -> None:
    """Put `injected` before each container's own variables; those with a reserved name are dropped."""
    for container in containers or ():
        own = [entry for entry in container.get("env") or () if entry.get("name") not in reserved]
        container["env"] = [*injected, *own]


def role_environment(roleset: Json, role: Json, slot: int | None) -> list[Json]:
    values = {
        labels.ENV_STORM_SERVICE_NAME: labels_of(roleset).get(labels.STORM_SERVICE_NAME, ""),
        labels.ENV_ROLESET_NAME: name_of(roleset),
        labels.ENV_ROLESET_INDEX: annotations_of(roleset).get(labels.ROLESET_INDEX, ""),
        labels.ENV_ROLE_NAME: role["name"],
        labels.ENV_ROLE_TEMPLATE_HASH: topology.role_hash(roleset, role),
    }
    if slot is not None:
        values[labels.ENV_ROLE_REPLICA_INDEX] = str(slot)
    return [{"name": key, "value": value} for key, value in values.items()]


def render_service(storm: Json) -> Json:
    """The headless Service through which members find each other, before they are ready too."""
    metadata: Json = {
        "name": name_of(storm),
        "namespace": storm["metadata"]["namespace"],
        "ownerReferences": [storm_owner(storm)],
    }
    if labels_of(storm):
        metadata["labels"] = dict(labels_of(storm))
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service_spec(storm)}


def service_spec(storm: Json) -> Json:
    return {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {labels.STORM_SERVICE_NAME: name_of(storm)},
    }


def render_revision(storm: Json, step: CreateRevision) -> Json:
    """The ControllerRevision that keeps the StormService's template, replicas included."""
    template = spec_of(storm).get("template") or {}
    notes = {labels.TEMPLATE_DIGEST: step.digest}
    if cause := annotations_of(storm).get(labels.CHANGE_CAUSE):
        notes[labels.CHANGE_CAUSE] = cause
    for role, noted in step.role_revisions.items():
        notes[labels.role_revision_annotation(role)] = str(noted.number)
        notes[labels.role_revision_name_annotation(role)] = noted.name
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": step.name,
            "namespace": storm["metadata"]["namespace"],
            "labels": {labels.NAME: name_of(storm), labels.CONTROLLER_HASH: step.hash},
            "annotations": notes,
            "ownerReferences": [storm_owner(storm)],
        },
        "data": {"spec": {"template": {**deepcopy(template), "$patch": "replace"}}},
        "revision": step.revision,
    }
