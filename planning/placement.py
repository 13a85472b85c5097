"""Where pods of a RoleSet should go together: topology affinity and gang scheduling marks."""

from __future__ import annotations

from typing import Any, Final

from crds import labels
from planning.objects import labels_of, name_of, spec_of

Json = dict[str, Any]
PREFERRED_WEIGHT: Final = 100
# Strategy: (label key, annotation key or none).
_GANG_KEYS: Final = {
    "godelSchedulingStrategy": ("godel.bytedance.com/pod-group-name", "godel.bytedance.com/pod-group-name"),
    "coschedulingSchedulingStrategy": ("scheduling.x-k8s.io/pod-group", ""),
    "volcanoSchedulingStrategy": ("scheduling.k8s.io/group-name", "scheduling.k8s.io/group-name"),
}


def gang_marks(roleset: Json) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations that put a pod into the RoleSet's pod group."""
    strategy = spec_of(roleset).get("schedulingStrategy") or {}
    for kind, (label, annotation) in _GANG_KEYS.items():
        if strategy.get(kind) is not None:
            group = name_of(roleset)
            return {label: group}, {annotation: group} if annotation else {}
    return {}, {}


def topology_term(roleset: Json, role: str) -> Json | None:
    """The affinity term that the RoleSet's topology policy asks for, or None."""
    policy = spec_of(roleset).get("topologyPolicy") or {}
    storm = labels_of(roleset).get(labels.STORM_SERVICE_NAME)
    if not policy.get("key") or not storm:
        return None
    found = {labels.STORM_SERVICE_NAME: storm}
    match policy.get("scope"):
        case "StormService":
            pass
        case "RoleSet":
            found[labels.ROLESET_NAME] = name_of(roleset)
        case "Role":
            found[labels.ROLE_NAME] = role
        case _:
            return None
    return {"topologyKey": policy["key"], "labelSelector": {"matchLabels": found}}


def with_topology(spec: Json, roleset: Json, role: str) -> Json:
    """`spec` with the policy's term beside what the user asked for, never twice."""
    term = topology_term(roleset, role)
    if term is None:
        return spec
    affinity = dict(spec.get("affinity") or {})
    pods = dict(affinity.get("podAffinity") or {})
    required = (spec_of(roleset).get("topologyPolicy") or {}).get("mode") == "Required"
    field = f"{'required' if required else 'preferred'}DuringSchedulingIgnoredDuringExecution"
    wanted = term if required else {"weight": PREFERRED_WEIGHT, "podAffinityTerm": term}
    present = list(pods.get(field) or ())
    pods[field] = present if wanted in present else [*present, wanted]
    return {**spec, "affinity": {**affinity, "podAffinity": pods}}
