"""The status of a RoleSet: counts by role, conditions, and which pod keeps it from being ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from crds import labels
from planning import groups
from planning.backoff import failures_of
from planning.conditions import Condition, merged
from planning.members import Member, Role
from planning.objects import generation_of, is_condition_true, is_deleting, status_of
from planning.trouble import Trouble, first_of, worst_of
from planning.wire import Memory

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reasons:
    """Reasons of the RoleSet's conditions."""

    ready: str
    not_ready: str
    failure: str


REASONS: Final = Reasons("RoleSetReady", "RoleSetNotReady", "ReconcileError")
# What AIBrix writes; for clients that compare reasons.
LEGACY_REASONS: Final = Reasons("roleset is ready", "roleset is not ready", "reconcile roleset error")
REASON_BLOCKED: Final = "Blocked"
_OWNED: Final = (
    labels.READY, labels.PROGRESSING, labels.REPLICA_FAILURE, labels.POD_GROUP_SYNCED, labels.TOPOLOGY_PENDING,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Health:
    """What the status says. `short` names roles with too few ready pods; `trouble` the pod that keeps them, `troubles`
    that of each role."""

    short: Sequence[Role]
    trouble: Trouble | None
    failures: Sequence[str]
    troubles: Mapping[str, Trouble] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return not self.short

    @property
    def blocked(self) -> str:
        """A sentence when something has to be done before the roles can become ready or up to date."""
        if self.failures:
            return self.failures[0]
        return self.trouble.sentence if self.trouble is not None and self.trouble.stuck else ""


def health_of(
    roleset: Json, roles: Sequence[Role], pods: Mapping[str, Sequence[Json]], memory: Memory,
    podsets: Mapping[str, Sequence[Json]] | None = None,
) -> Health:  # fmt: skip
    """`pods` and `podsets` by role name."""
    short = [role for role in roles if role.ready < role.budget.desired]
    judged = {role.name: _worst_of(role, pods.get(role.name, ())) for role in roles}
    troubles = {name: found for name, found in judged.items() if found is not None}
    worst = next((found for found in troubles.values() if found.stuck), next(iter(troubles.values()), None))
    faults = [role.fault for role in roles if role.fault]
    failed = [f"{failure.step}: {failure.message}" for failure in failures_of(memory, generation_of(roleset))]
    if worst is None or not worst.stuck:
        worst = groups.trouble_of(podset for found in (podsets or {}).values() for podset in found) or worst
    return Health(short, worst, [*faults, *failed], troubles)


def _is_waited_for(pod: Json) -> bool:
    ended = status_of(pod).get("phase") in ("Succeeded", "Failed")
    return not (ended or is_deleting(pod) or is_condition_true(pod, labels.READY))


def _worst_of(role: Role, pods: Iterable[Json]) -> Trouble | None:
    """What keeps the role's pods from counting: their containers first."""
    return first_of(worst_of(filter(_is_waited_for, pods)), *(_trouble_of(role, member) for member in role.active))


def _trouble_of(role: Role, member: Member) -> Trouble | None:
    """What keeps a pod from counting although its containers run."""
    if member.updated and member.warmth.message:
        tries = member.warmth.tries
        text = f"pod {member.name}: warm-up failed ({tries} tries): {member.warmth.message}"
        return Trouble(text, stuck=True)
    if member.flies_to(role.template_hash) and member.flight is not None and member.serving:
        return Trouble(f"pod {member.name}: in-place update: {member.flight.pending}", stuck=False)
    return None


def status(
    roleset: Json, roles: Sequence[Role], health: Health, reasons: Reasons, now: datetime,
    more: Sequence[Condition] = (),
) -> Json:  # fmt: skip
    """The whole status to publish; `more`: conditions of gang scheduling and topology."""
    before = status_of(roleset).get("conditions") or ()
    return {
        "observedGeneration": generation_of(roleset),
        "roles": [role_status(role) | _blocked(role, health) for role in roles],
        "conditions": merged(before, [*_conditions(roles, health, reasons), *more], _OWNED, now),
    }


def role_status(role: Role) -> Json:
    active, ready = len(role.members if role.grouped else role.active), role.ready
    return {
        "name": role.name,
        "replicas": active,
        "readyReplicas": ready,
        "notReadyReplicas": active - ready,
        "updatedReplicas": role.updated,
        "updatedReadyReplicas": role.updated_ready,
    }


def _blocked(role: Role, health: Health) -> Json:
    """Why the role's pods cannot become ready; only what waiting does not mend."""
    found = health.troubles.get(role.name)
    return {"blocked": found.sentence} if found is not None and found.stuck else {}


def is_updated(roles: Sequence[Role]) -> bool:
    return all(not role.outdated and role.updated_ready == role.budget.desired for role in roles)


def _conditions(roles: Sequence[Role], health: Health, reasons: Reasons) -> list[Condition]:
    found = [_ready(health, reasons), _progressing(roles, health)]
    if health.failures:
        found.append(Condition(labels.REPLICA_FAILURE, "True", reasons.failure, "; ".join(health.failures)))
    return found


def _ready(health: Health, reasons: Reasons) -> Condition:
    if health.is_ready:
        return Condition(labels.READY, "True", reasons.ready)
    short = ", ".join(f"{role.name} ({role.ready} of {role.budget.desired} ready)" for role in health.short)
    why = f"; {health.trouble.sentence}" if health.trouble is not None else ""
    return Condition(labels.READY, "False", reasons.not_ready, f"{short}{why}")


def _progressing(roles: Sequence[Role], health: Health) -> Condition:
    if health.blocked:
        return Condition(labels.PROGRESSING, "False", REASON_BLOCKED, health.blocked)
    if health.is_ready and is_updated(roles):
        return Condition(labels.PROGRESSING, "False", labels.REASON_COMPLETED)
    return Condition(labels.PROGRESSING, "True", labels.REASON_PROCESSING)
