"""Topology policy: which pods of a RoleSet should stand close together, and what to say when running ones do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from crds import labels
from planning import names
from planning.conditions import Condition
from planning.objects import is_deleting, labels_of, name_of, spec_of, status_of, uid_of
from planning.view import counted

if TYPE_CHECKING:  # members are rendered with the help of this module
    from planning.members import Role

Json = dict[str, Any]
PREFERRED_WEIGHT: Final = 100


def topology_term(roleset: Json, role: str) -> Json | None:
    """The affinity term that the RoleSet's topology policy asks for, or None."""
    policy = policy_of(roleset)
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


def policy_of(roleset: Json) -> Json:
    return spec_of(roleset).get("topologyPolicy") or {}


def _wanted(roleset: Json, role: str) -> tuple[str, Json] | None:
    """The list of pod affinity terms that should have an entry, and the entry."""
    term = topology_term(roleset, role)
    if term is None:
        return None
    if policy_of(roleset).get("mode") == "Required":
        return "requiredDuringSchedulingIgnoredDuringExecution", term
    weighted = {"weight": PREFERRED_WEIGHT, "podAffinityTerm": term}
    return "preferredDuringSchedulingIgnoredDuringExecution", weighted


def with_topology(spec: Json, roleset: Json, role: str) -> Json:
    """`spec` with the policy's term beside what the user asked for, never twice."""
    wanted = _wanted(roleset, role)
    if wanted is None or _has_term(spec, wanted):
        return spec
    field, entry = wanted
    affinity = dict(spec.get("affinity") or {})
    pods = dict(affinity.get("podAffinity") or {})
    pods[field] = [*(pods.get(field) or ()), entry]
    return {**spec, "affinity": {**affinity, "podAffinity": pods}}


def _has_term(spec: Json, wanted: tuple[str, Json]) -> bool:
    field, entry = wanted
    pods = (spec.get("affinity") or {}).get("podAffinity") or {}
    return entry in (pods.get(field) or ())


def follows_policy(pod_spec: Json, roleset: Json, role: str) -> bool:
    """The pod has the term that the policy of this moment asks for; true without a policy."""
    wanted = _wanted(roleset, role)
    return wanted is None or _has_term(pod_spec, wanted)


def role_hash(roleset: Json, role: Json) -> str:
    """Value of the label `role-template-hash`: with `rollOnChange` the policy's term is part of it.

    Names follow from it, so a pod with another term never needs the name of the one that it replaces.
    """
    wanted = _wanted(roleset, role["name"])
    if wanted is None or not policy_of(roleset).get("rollOnChange"):
        return names.role_hash(role)
    return names.short_hash(names.digest([names.role_digest(role), wanted]))


def with_policy(role: Role, roleset: Json, spec: Json, objects: Iterable[Json]) -> Role:
    """The role with members outdated that do not follow a policy with `rollOnChange`."""
    if not policy_of(roleset).get("rollOnChange") or topology_term(roleset, role.name) is None:
        return role
    follow = {uid_of(found) for found in objects if follows_policy(_pod_spec(found), roleset, role.name)}
    members = [replace(member, updated=member.updated and member.uid in follow) for member in role.members]
    return replace(role, members=members, template_hash=role_hash(roleset, spec))


def _pod_spec(found: Json) -> Json:
    """Of a pod, or of the pods of a PodSet."""
    spec = spec_of(found)
    return (spec["template"].get("spec") or {}) if "template" in spec else spec


@dataclass(frozen=True, slots=True)
class Pending:
    """How many running pods and PodSet templates lack the term."""

    pods: int = 0
    templates: int = 0

    @property
    def sentence(self) -> str:
        parts = [
            counted(self.pods, "active Pod") if self.pods else "",
            counted(self.templates, "PodSet template") if self.templates else "",
        ]
        return " and ".join(part for part in parts if part)


def pending(roleset: Json, pods: Mapping[str, Sequence[Json]], podsets: Mapping[str, Sequence[Json]]) -> Pending:
    """`pods` and `podsets` by role name; pods of a PodSet lack the term when its template does."""
    direct = sum(
        not follows_policy(spec_of(pod), roleset, role)
        for role, found in pods.items()
        for pod in found
        if not is_deleting(pod) and status_of(pod).get("phase") not in ("Succeeded", "Failed")
    )
    lacking = [
        podset
        for role, found in podsets.items()
        for podset in found
        if not is_deleting(podset) and not follows_policy(_pod_spec(podset), roleset, role)
    ]
    grouped = sum(int(status_of(podset).get("totalPods") or 0) for podset in lacking)
    return Pending(direct + grouped, len(lacking))


def pending_condition(roleset: Json, found: Pending) -> Condition | None:
    """Says that running members stand where an older policy put them; None when none does."""
    if not found.sentence:
        return None
    return Condition(labels.TOPOLOGY_PENDING, "True", labels.EVENT_TOPOLOGY_PENDING, _about(roleset) + found.sentence)


def pending_event(
    roleset: Json, before: Iterable[Json], condition: Condition | None
) -> list[tuple[str, str, str]]:  # fmt: skip
    """One Warning a change of the policy: none while the condition speaks of this policy already."""
    if condition is None:
        return []
    said = next((known.get("message", "") for known in before if known.get("type") == condition.type), "")
    if said.startswith(_about(roleset)):
        return []
    return [("Warning", labels.EVENT_TOPOLOGY_PENDING, condition.message)]


def _about(roleset: Json) -> str:
    policy = policy_of(roleset)
    asked = f"{policy.get('mode') or 'Preferred'} {policy.get('scope')} by {policy.get('key')}"
    what = "are being replaced" if policy.get("rollOnChange") else "keep their place until they are replaced"
    return f"without the term of the topology policy ({asked}), members {what}: "
