"""The pods of one role as the role's rules see them: active or not, ready, up to date, in which slot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from crds.intorstr import Budget, IntOrStringError, resolve
from planning import names, topology
from planning.budgets import min_available
from planning.eligibility import NO_BUDGET, Eligibility
from planning.flight import Flight, flight_of, has_gate, restarts_of, time_in
from planning.objects import (
    annotations_of,
    condition,
    deletion_time,
    is_condition_true,
    is_deleting,
    labels_of,
    name_of,
    spec_of,
    status_of,
    uid_of,
)
from planning.render import desired_replicas
from planning.warm_up import Warmth, warmth_of
from planning.wire import Target

Json = dict[str, Any]

# A pod that is still there so long after its grace period sits on a dead node: its place may be filled.
TERMINATING_LIMIT: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Member:
    """One pod. `leaving`: it is being deleted and still counts; `ended`: it will never run again, `gone`: overdue.

    `ready` is what budgets count: Ready for long enough, warmed up where the role asks for it, neither drained nor in
    the midst of an in-place update. `serving` is Ready as Kubernetes has it: requests may be running. `ready_at`: when
    it will count. `idle`: drained, and its engine says that nothing runs any more. `unfit` says why an outdated pod
    cannot be updated in place.
    """

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
    version: str = ""
    serving: bool = False
    ready_at: datetime | None = None
    flight: Flight | None = None
    overdue: bool = False
    unfit: str = ""
    gated: bool = False
    gate_open: bool = False
    drained_since: datetime | None = None
    idle: bool = False
    warmth: Warmth = field(default_factory=Warmth)
    grace_seconds: int = 30
    restarts: int = 0
    template_hash: str = ""
    revision: str = ""

    @property
    def active(self) -> bool:
        return not (self.leaving or self.ended or self.gone)

    @property
    def target(self) -> Target:
        return Target(name=self.name, uid=self.uid)

    @property
    def exact(self) -> Target:
        """A target that a write in between makes stale."""
        return Target(name=self.name, uid=self.uid, resource_version=self.version)

    def flies_to(self, template_hash: str) -> bool:
        """Whether an in-place update to that template is under way."""
        return not self.updated and self.flight is not None and self.flight.target == template_hash


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a role's pods should be, as far as one pod is judged by it."""

    digest: str = ""
    template_hash: str = ""
    min_ready: timedelta = timedelta()
    warm_up: Json | None = None
    eligibility: Eligibility | None = None


@dataclass(frozen=True, slots=True)
class Moves:
    """What a role's rules want: pods to create (a number, or slots), to delete, and to patch in place."""

    count: int = 0
    slots: tuple[int, ...] = ()
    deletes: tuple[Member, ...] = ()
    patches: tuple[Member, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.count or self.slots or self.deletes or self.patches)

    @property
    def creates(self) -> int:
        return self.count or len(self.slots)


@dataclass(frozen=True)
class Role:
    """One role with its budget and pods, oldest first.

    `fault` says what is wrong with its spec; members of `grouped` roles are PodSets, each in its slot. `behind` is a
    pod of the template that missing pods get while it is not the role's turn to be updated. `prefers_in_place`: its
    strategy asks for in-place updates; whether they are possible is `in_place`.
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
    prefers_in_place: bool = False
    drain_seconds: int = 0
    recovers_service: bool = False
    warm_up: Json | None = None
    behind: Member | None = None
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
    def unfit(self) -> Member | None:
        """An outdated pod that an in-place update cannot take to the template: then all of them are replaced."""
        if not self.prefers_in_place:
            return None
        open_ones = [member for member in self.outdated if not member.flies_to(self.template_hash)]
        if found := next((member for member in open_ones if member.unfit), None):
            return found
        return replace(open_ones[0], unfit=NO_BUDGET) if open_ones and not self.budget.unavailable else None

    @property
    def in_place(self) -> bool:
        return self.prefers_in_place and self.unfit is None

    @property
    def new_hash(self) -> str:
        """The template hash of pods that are created at this moment."""
        return self.behind.template_hash if self.behind is not None else self.template_hash

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
    """Outdated first, then not ready (those already drained before others), lower deletion cost, newest."""
    newest_first = sorted(members, key=lambda member: (member.created, member.name), reverse=True)
    return sorted(newest_first, key=lambda each: (each.updated, each.ready, each.drained_since is None, each.cost))


def role_budget(role: Json) -> tuple[Budget, str]:
    """The role's budget, and what is wrong with it; a faulty one allows no move at all."""
    desired = desired_replicas(role)
    if desired == 0:
        return Budget(0, 0, 0), ""
    strategy = role.get("updateStrategy") or {}
    _, fault = min_available(role.get("disruptionTolerance"), desired)
    try:
        surge, unavailable = resolve(strategy.get("maxSurge"), strategy.get("maxUnavailable"), desired)
    except IntOrStringError as error:
        return Budget(desired, 0, 0), f"role {role['name']}: {error}"
    return Budget(desired, surge, min(unavailable, desired)), f"role {role['name']}: {fault}" if fault else ""


def observe(role: Json, pods: Iterable[Json], roleset: Json, now: datetime) -> Role:
    """The role with its pods as of `now`."""
    budget, fault = role_budget(role)
    grouped = names.group_size(role) > 1
    wanted = wanted_of(role, roleset)
    return Role(
        name=role["name"],
        budget=budget,
        members=[member_of(pod, wanted, now) for pod in pods],
        stateful=bool(role.get("stateful")),
        upgrade_order=role.get("upgradeOrder"),
        template_hash=wanted.template_hash,
        fault=fault,
        roleset=name_of(roleset),
        grouped=grouped,
        prefers_in_place=wanted.eligibility is not None and not grouped,
        drain_seconds=int(role.get("drainSeconds") or 0),
        recovers_service=role.get("recoveryPolicy") == "Service",
        warm_up=role.get("warmUp"),
    )


def wanted_of(role: Json, roleset: Json) -> Wanted:
    in_place = (role.get("updateStrategy") or {}).get("type") == "InPlaceIfPossible"
    return Wanted(
        digest=names.role_digest(role),
        template_hash=topology.role_hash(roleset, role),
        min_ready=timedelta(seconds=int(role.get("minReadySeconds") or 0)),
        warm_up=role.get("warmUp"),
        eligibility=Eligibility(roleset, role) if in_place else None,
    )


def member_of(pod: Json, wanted: Wanted, now: datetime) -> Member:
    ended = status_of(pod).get("phase") in ("Succeeded", "Failed")
    leaves_at = leaves_by(pod)
    gone = leaves_at is not None and (ended or now >= leaves_at)
    flight, noted = flight_of(pod), annotations_of(pod)
    updated = _is_updated(pod, flight, wanted)
    drained_since = time_in(noted.get(labels.DRAIN_SINCE))
    warmth = warmth_of(pod, wanted.template_hash, wanted.warm_up)
    serving = not ended and not is_deleting(pod) and is_condition_true(pod, labels.READY)
    ready_at = _ready_at(pod, wanted.min_ready) if serving else None
    flying = flight is not None and not updated and (flight.target == wanted.template_hash or bool(flight.pending))
    held_back = drained_since is not None or flying or (updated and not warmth.done)
    overdue_at = flight.overdue_at if flight is not None and not updated else None
    return Member(
        name=name_of(pod),
        uid=uid_of(pod),
        created=pod["metadata"].get("creationTimestamp") or "",
        ready=serving and not held_back and (ready_at is None or ready_at <= now),
        updated=updated,
        leaving=is_deleting(pod) and not gone,
        ended=ended and not is_deleting(pod),
        gone=gone,
        slot=_slot(noted.get(labels.ROLE_REPLICA_INDEX)),
        cost=_number(noted.get(labels.POD_DELETION_COST)) or 0,
        version=str(pod["metadata"].get("resourceVersion") or ""),
        serving=serving,
        ready_at=ready_at,
        flight=flight,
        overdue=overdue_at is not None and overdue_at <= now,
        unfit="" if updated or wanted.eligibility is None else wanted.eligibility.fault_of(pod),
        gated=has_gate(pod),
        gate_open=is_condition_true(pod, labels.IN_PLACE_READY),
        drained_since=drained_since,
        idle=noted.get(labels.DRAINED, "") == noted.get(labels.DRAIN_SINCE),
        warmth=warmth,
        grace_seconds=int(spec_of(pod).get("terminationGracePeriodSeconds", 30)),
        restarts=restarts_of(pod) - (_number(noted.get(labels.RESTARTS_SEEN)) or 0),
        template_hash=labels_of(pod).get(labels.ROLE_TEMPLATE_HASH, ""),
        revision=labels_of(pod).get(labels.ROLE_REVISION_NAME, ""),
    )


def _ready_at(pod: Json, min_ready: timedelta) -> datetime | None:
    """When a Ready pod has been so for `min_ready`; None when that does not matter."""
    since = time_in(condition(pod, labels.READY).get("lastTransitionTime")) if min_ready else None
    return since + min_ready if since is not None else None


def leaves_by(pod: Json) -> datetime | None:
    """When a pod that is being deleted stops counting; None when it is not being deleted."""
    at = deletion_time(pod)
    return at + TERMINATING_LIMIT if at is not None else None


def _is_updated(pod: Json, flight: Flight | None, wanted: Wanted) -> bool:
    """By the full digest where the pod carries one, else by the label's hash.

    A pod in the midst of an in-place update is where that goes, once it has got there: what it is labelled as has gone.
    """
    if flight is not None:
        return flight.target == wanted.template_hash and not flight.pending
    noted = annotations_of(pod).get(labels.TEMPLATE_DIGEST)
    if noted is not None:
        return noted == wanted.digest
    return labels_of(pod).get(labels.ROLE_TEMPLATE_HASH) == wanted.template_hash


def _slot(text: str | None) -> int | None:
    number = _number(text)
    return number if number is not None and number >= 0 else None


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
