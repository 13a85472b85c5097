"""The pods of one role as the role's rules see them: active or not, ready, up to date, in which slot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from crds.intorstr import Budget, IntOrStringError, resolve
from planning import names
from planning.objects import (
    annotations_of,
    deletion_time,
    is_condition_true,
    is_deleting,
    labels_of,
    name_of,
    status_of,
    uid_of,
)
from planning.render import desired_replicas
from planning.wire import Target

Json = dict[str, Any]

# A pod that is still there so long after its grace period sits on a dead node: its place may be filled.
TERMINATING_LIMIT: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Member:
    """One pod. `leaving`: it is being deleted and still counts; `ended`: it will never run again, `gone`: overdue."""

    name: str
    uid: str = ""
    created: str = ""
    ready: bool = False
    updated: bool = False
    leaving: bool = False
    ended: bool = False
    gone: bool = False
    slot: int | None = None
    cost: int = 0

    @property
    def active(self) -> bool:
        return not (self.leaving or self.ended or self.gone)

    @property
    def target(self) -> Target:
        return Target(name=self.name, uid=self.uid)


@dataclass(frozen=True, slots=True)
class Moves:
    """What a role's rules want: pods to create (a number, or slots) and pods to delete."""

    count: int = 0
    slots: tuple[int, ...] = ()
    deletes: tuple[Member, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.count or self.slots or self.deletes)

    @property
    def creates(self) -> int:
        return self.count or len(self.slots)


@dataclass(frozen=True)
class Role:
    """One role with its budget and pods, oldest first.

    `fault` says what is wrong with its spec; members of `grouped` roles are PodSets, each in its slot.
    """

    name: str
    budget: Budget
    members: Sequence[Member] = ()
    stateful: bool = False
    upgrade_order: int | None = None
    template_hash: str = ""
    fault: str = ""
    roleset: str = ""
    grouped: bool = False
    active: Sequence[Member] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "active", [member for member in self.members if member.active])

    @property
    def leaving(self) -> int:
        return sum(member.leaving for member in self.members)

    @property
    def ended(self) -> list[Member]:
        return [member for member in self.members if member.ended and not member.leaving and not member.gone]

    @property
    def ready(self) -> int:
        return sum(member.ready for member in self.active)

    @property
    def updated(self) -> int:
        return sum(member.updated for member in self.active)

    @property
    def updated_ready(self) -> int:
        return sum(member.updated and member.ready for member in self.active)

    @property
    def outdated(self) -> list[Member]:
        return [member for member in self.active if not member.updated]

    @property
    def is_calm(self) -> bool:
        """Nothing leaves, nothing has ended, everything is ready."""
        return all(member.gone or (member.active and member.ready) for member in self.members)

    @property
    def is_update_calm(self) -> bool:
        """As `is_calm`, but for outdated pods that are not ready: the update takes them away, so it waits for none."""
        return all(member.gone or (member.active and (member.ready or not member.updated)) for member in self.members)

    @property
    def free_places(self) -> int:
        """How many pods may be created now: up to the surge, with those that still leave counted."""
        return max(0, self.budget.most - len(self.active) - self.leaving)


def deletion_order(members: Iterable[Member]) -> list[Member]:
    """Outdated first, then not ready, lower deletion cost, newest."""
    newest_first = sorted(members, key=lambda member: (member.created, member.name), reverse=True)
    return sorted(newest_first, key=lambda member: (member.updated, member.ready, member.cost))


def role_budget(role: Json) -> tuple[Budget, str]:
    """The role's budget, and what is wrong with it; a faulty one allows no move at all."""
    desired = desired_replicas(role)
    if desired == 0:
        return Budget(0, 0, 0), ""
    strategy = role.get("updateStrategy") or {}
    try:
        surge, unavailable = resolve(strategy.get("maxSurge"), strategy.get("maxUnavailable"), desired)
    except IntOrStringError as error:
        return Budget(desired, 0, 0), f"role {role['name']}: {error}"
    return Budget(desired, surge, min(unavailable, desired)), ""


def observe(role: Json, pods: Iterable[Json], roleset: str, now: datetime) -> Role:
    """The role with its pods as of `now`."""
    wanted, wanted_hash = names.role_digest(role), names.role_hash(role)
    budget, fault = role_budget(role)
    return Role(
        name=role["name"],
        budget=budget,
        members=[member_of(pod, wanted, wanted_hash, now) for pod in pods],
        stateful=bool(role.get("stateful")),
        upgrade_order=role.get("upgradeOrder"),
        template_hash=wanted_hash,
        fault=fault,
        roleset=roleset,
        grouped=names.group_size(role) > 1,
    )


def member_of(pod: Json, wanted_digest: str, wanted_hash: str, now: datetime) -> Member:
    ended = status_of(pod).get("phase") in ("Succeeded", "Failed")
    leaves_at = leaves_by(pod)
    overdue = leaves_at is not None and (ended or now >= leaves_at)
    leaving = is_deleting(pod) and not overdue
    return Member(
        name=name_of(pod),
        uid=uid_of(pod),
        created=pod["metadata"].get("creationTimestamp") or "",
        ready=not ended and not is_deleting(pod) and is_condition_true(pod, labels.READY),
        updated=_is_updated(pod, wanted_digest, wanted_hash),
        leaving=leaving,
        ended=ended and not is_deleting(pod),
        gone=overdue,
        slot=_slot(annotations_of(pod).get(labels.ROLE_REPLICA_INDEX)),
        cost=_number(annotations_of(pod).get(labels.POD_DELETION_COST)) or 0,
    )


def leaves_by(pod: Json) -> datetime | None:
    """When a pod that is being deleted stops counting; None when it is not being deleted."""
    at = deletion_time(pod)
    return at + TERMINATING_LIMIT if at is not None else None


def _is_updated(pod: Json, wanted_digest: str, wanted_hash: str) -> bool:
    """By the full digest where the pod carries one, else by the label's hash."""
    noted = annotations_of(pod).get(labels.TEMPLATE_DIGEST)
    if noted is not None:
        return noted == wanted_digest
    return labels_of(pod).get(labels.ROLE_TEMPLATE_HASH) == wanted_hash


def _slot(text: str | None) -> int | None:
    number = _number(text)
    return number if number is not None and number >= 0 else None


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
