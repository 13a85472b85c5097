"""The RoleSets of one StormService as its rules see them: at which revision, ready, on their way out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from crds.intorstr import Budget, IntOrStringError, resolve
from planning.objects import (
    annotations_of,
    deletion_time,
    in_order,
    is_condition_true,
    is_deleting,
    labels_of,
    name_of,
    observes_its_generation,
    spec_of,
    status_of,
    uid_of,
)
from planning.wire import Target

Json = dict[str, Any]

# A RoleSet that outlives its longest grace period by so much hangs on a dead node: its place may be filled.
TERMINATING_LIMIT: Final = timedelta(minutes=2)
DEFAULT_GRACE: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Replica:
    """One RoleSet. `settled`: ready, and every role wholly at the RoleSet's revision.

    `alike`: outdated, and yet of the same pods as the target, so that rewriting it costs no pod.
    """

    name: str
    uid: str = ""
    revision: str = ""
    ready: bool = False
    settled: bool = False
    leaving: bool = False
    alike: bool = False
    index: int | None = None
    source: Json = field(default_factory=dict, compare=False, repr=False)

    @property
    def target(self) -> Target:
        return Target(name=self.name, uid=self.uid)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All RoleSets that count, oldest first, between revision `current` and revision `update`.

    `shown_current` and `shown_updated` are the counts of the last published status. `stalled`: the update revision has
    failed, so that only repair and scaling go on.
    """

    members: Sequence[Replica]
    current: str
    update: str
    budget: Budget
    in_place: bool = False
    paused: bool = False
    stalled: bool = False
    fault: str = ""
    shown_current: int = 0
    shown_updated: int = 0

    @property
    def active(self) -> list[Replica]:
        return [member for member in self.members if not member.leaving]

    @property
    def ready(self) -> int:
        return sum(member.ready for member in self.active)

    @property
    def updated(self) -> list[Replica]:
        return [member for member in self.active if member.revision == self.update]

    @property
    def outdated(self) -> list[Replica]:
        return [member for member in self.active if member.revision != self.update]

    @property
    def is_single(self) -> bool:
        return self.current == self.update

    def deletion_order(self, members: Iterable[Replica]) -> list[Replica]:
        """Outdated before updated, not ready before ready, else as listed."""
        return sorted(members, key=lambda member: (member.revision == self.update, member.ready))

    def free_indexes(self, count: int) -> list[int]:
        """The lowest that no RoleSet has."""
        taken = {member.index for member in self.members}
        found: list[int] = []
        candidate = 0
        while len(found) < count:
            if candidate not in taken:
                found.append(candidate)
            candidate += 1
        return found


@dataclass(frozen=True, slots=True)
class FleetMoves:
    """What the rules want: RoleSets to create by revision, to delete, to rewrite to the update revision.

    `acted`: scaling did something, so the rollout waits for the next pass.
    """

    creates: Sequence[tuple[str, int]] = ()
    deletes: Sequence[Replica] = ()
    rewrites: Sequence[Replica] = ()
    acted: bool = False

    def __bool__(self) -> bool:
        return bool(self.creates or self.deletes or self.rewrites)


def desired_replicas(storm: Json) -> int:
    """Absent means 1, negative 0."""
    value = spec_of(storm).get("replicas")
    return 1 if value is None else max(0, int(value))


def is_in_place(storm: Json) -> bool:
    """`spec.mode` decides where it is set, else the strategy; an empty strategy is rolling."""
    mode = spec_of(storm).get("mode")
    if mode:
        return bool(mode == "Pooled")
    return (spec_of(storm).get("updateStrategy") or {}).get("type") == "InPlaceUpdate"


def fleet_budget(storm: Json) -> tuple[Budget, str]:
    """Surge and unavailable of the StormService, and what is wrong with them; faulty ones allow no move."""
    desired = desired_replicas(storm)
    strategy = spec_of(storm).get("updateStrategy") or {}
    try:
        surge, unavailable = resolve(strategy.get("maxSurge"), strategy.get("maxUnavailable"), desired)
    except IntOrStringError as error:
        return Budget(desired, 0, 0), f"updateStrategy: {error}"
    return Budget(desired, surge, min(unavailable, desired)), ""


def observe(
    storm: Json, rolesets: Iterable[Json], current: str, update: str, now: datetime,
    *, alike: Collection[str] = (),
) -> Fleet:  # fmt: skip
    """The fleet as of `now`; RoleSets that overstay their deletion are left out. `alike`: names of those that are."""
    budget, fault = fleet_budget(storm)
    counted = [found for found in in_order(rolesets) if not _overstays(found, now)]
    shown = status_of(storm)
    return Fleet(
        members=[replace(replica_of(found), alike=name_of(found) in alike) for found in counted],
        current=current,
        update=update,
        budget=budget,
        in_place=is_in_place(storm),
        paused=bool(spec_of(storm).get("paused")),
        fault=fault,
        shown_current=int(shown.get("currentReplicas") or 0),
        shown_updated=int(shown.get("updatedReplicas") or 0),
    )


def replica_of(roleset: Json) -> Replica:
    ready = is_condition_true(roleset, labels.READY)
    index = annotations_of(roleset).get(labels.ROLESET_INDEX, "")
    return Replica(
        name=name_of(roleset),
        uid=uid_of(roleset),
        revision=revision_of(roleset),
        ready=ready,
        settled=ready and roles_are(roleset, "updatedReadyReplicas"),
        leaving=is_deleting(roleset),
        index=int(index) if index.isdecimal() else None,
        source=roleset,
    )


def revision_of(roleset: Json) -> str:
    return labels_of(roleset).get(labels.STORM_SERVICE_REVISION, "")


def roles_are(roleset: Json, count: str) -> bool:
    """Whether `count` (`updatedReplicas`, `updatedReadyReplicas`) reaches the wanted replicas in every role.

    Roles that only spec or only status knows take no part; a status of an older generation proves nothing.
    """
    if not observes_its_generation(roleset):
        return False
    wanted = {role["name"]: max(0, int(role.get("replicas") or 0)) for role in spec_of(roleset).get("roles") or ()}
    shown = status_of(roleset).get("roles") or ()
    return all(
        wanted[role["name"]] == int(role.get(count) or 0) for role in shown if role.get("name") in wanted
    )  # fmt: skip


def leaves_by(roleset: Json) -> datetime | None:
    """When a RoleSet that is being deleted stops counting; None when it is not being deleted."""
    at = deletion_time(roleset)
    return at + _longest_grace(roleset) + TERMINATING_LIMIT if at is not None else None


def _overstays(roleset: Json, now: datetime) -> bool:
    at = leaves_by(roleset)
    return at is not None and now >= at


def _longest_grace(roleset: Json) -> timedelta:
    found = [DEFAULT_GRACE]
    for role in spec_of(roleset).get("roles") or ():
        seconds = ((role.get("template") or {}).get("spec") or {}).get("terminationGracePeriodSeconds")
        if seconds is not None:
            found.append(timedelta(seconds=int(seconds)))
    return max(found)
