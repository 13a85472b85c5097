"""PodSets as members of a role: one for each slot, with the rules of stateful roles.

A role that changes between single pods and groups keeps its old members for a while: they count as outdated, so they go
within the budget, as in an update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from planning import names
from planning.limits import Allowance
from planning.members import TERMINATING_LIMIT, Member, Moves, Role, Wanted, wanted_of
from planning.objects import (
    annotations_of,
    condition,
    deletion_time,
    in_order,
    is_deleting,
    labels_of,
    name_of,
    parse_time,
    spec_of,
    status_of,
    uid_of,
)
from planning.planner import Resource
from planning.render_groups import MUTABLE, mutable_fields
from planning.trouble import Trouble
from planning.wire import CreatePodSets, DeletePodSets, Step, Target, Told, UpdatePodSets

Json = dict[str, Any]
PODSET: Final = Resource(labels.ORCHESTRATION_GROUP, labels.VERSION, "podsets", "PodSet")
DEFAULT_GRACE: Final = timedelta(seconds=30)
READY_PHASE: Final = "Ready"


def by_role(podsets: Iterable[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for podset in in_order(podsets):
        found.setdefault(labels_of(podset).get(labels.ROLE_NAME, ""), []).append(podset)
    return found


def with_groups(role: Role, spec: Json, roleset: Json, podsets: Sequence[Json], now: datetime) -> Role:
    """`role`, as observed from its pods, with its PodSets: members of a grouped role, leftovers of another."""
    if not role.grouped and not podsets:
        return role
    wanted = wanted_of(spec, roleset)
    groups = [_member_of(podset, wanted, now) for podset in podsets]
    if role.grouped:
        leftovers = [_outdated(member) for member in role.members]
        return replace(role, members=[*leftovers, *groups], stateful=True)
    return replace(role, members=[*role.members, *(_outdated(member, "it is a PodSet") for member in groups)])


def _outdated(member: Member, unfit: str = "") -> Member:
    return replace(member, slot=None, updated=False, unfit=unfit)


def _member_of(podset: Json, wanted: Wanted, now: datetime) -> Member:
    asked = deletion_time(podset)
    overdue = asked is not None and now >= asked + _grace(podset) + TERMINATING_LIMIT
    serving = asked is None and status_of(podset).get("phase") == READY_PHASE
    ready_at = _ready_at(podset, wanted.min_ready) if serving else None
    return Member(
        name=name_of(podset),
        uid=uid_of(podset),
        created=podset["metadata"].get("creationTimestamp") or "",
        ready=serving and (ready_at is None or ready_at <= now),
        updated=_is_updated(podset, wanted),
        leaving=asked is not None and not overdue,
        gone=overdue,
        slot=_number(labels_of(podset).get(labels.ROLE_REPLICA_INDEX)),
        cost=_cost(annotations_of(podset).get(labels.POD_DELETION_COST)),
        serving=serving,
        ready_at=ready_at,
        restarts=int(status_of(podset).get("restarts") or 0),
        template_hash=labels_of(podset).get(labels.ROLE_TEMPLATE_HASH, ""),
        revision=labels_of(podset).get(labels.ROLE_REVISION_NAME, ""),
    )


def _ready_at(podset: Json, min_ready: timedelta) -> datetime | None:
    """When a ready group has been so for `min_ready`; None when that does not matter."""
    since = condition(podset, labels.READY).get("lastTransitionTime") if min_ready else None
    return parse_time(since) + min_ready if since else None


def leaves_by(podset: Json) -> datetime | None:
    """When a PodSet that is being deleted stops counting; None when it is not being deleted."""
    asked = deletion_time(podset)
    return asked + _grace(podset) + TERMINATING_LIMIT if asked is not None else None


def _grace(podset: Json) -> timedelta:
    template = spec_of(podset).get("template") or {}
    seconds = (template.get("spec") or {}).get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE if seconds is None else timedelta(seconds=float(seconds))


def _is_updated(podset: Json, wanted: Wanted) -> bool:
    noted = annotations_of(podset).get(labels.TEMPLATE_DIGEST)
    if noted is not None:
        return noted == wanted.digest
    return labels_of(podset).get(labels.ROLE_TEMPLATE_HASH) == wanted.template_hash


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _cost(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


# Steps.


def create_step(role: Role, slots: Sequence[int], note: str) -> CreatePodSets:
    return CreatePodSets(role=role.name, template_hash=role.template_hash, slots=list(slots), note=note)


def delete_step(role: str, members: Sequence[Member], note: str = "", tells: Sequence[Told] = ()) -> DeletePodSets:
    targets = [member.target for member in members]
    disruptive = any(member.ready for member in members)
    return DeletePodSets(role=role, targets=targets, disruptive=disruptive, note=note, tells=list(tells))


def deletion_steps(podsets: Iterable[Json], allowance: Allowance) -> list[DeletePodSets]:
    """Deletes all of them, by role."""
    staying = by_role(podset for podset in podsets if not is_deleting(podset))
    targets = {
        role: allowance.targets(Target(name=name_of(podset), uid=uid_of(podset)) for podset in found)
        for role, found in sorted(staying.items())
    }
    return [DeletePodSets(role=role, targets=list(found)) for role, found in targets.items() if found]


def update_steps(specs: Iterable[Json], podsets: Mapping[str, Sequence[Json]]) -> list[UpdatePodSets]:
    """For PodSets whose role has changed in what needs no new pods."""
    found = []
    for spec in specs:
        wanted = mutable_fields(spec)
        targets = [
            Target(name=name_of(podset), uid=uid_of(podset))
            for podset in podsets.get(spec["name"], ())
            if not is_deleting(podset) and _differs(podset, wanted)
        ]
        if targets and names.group_size(spec) > 1:
            found.append(UpdatePodSets(role=spec["name"], targets=targets))
    return found


def _differs(podset: Json, wanted: Json) -> bool:
    live = {key: value for key, value in spec_of(podset).items() if key in MUTABLE and value}
    return {"recoveryPolicy": "ReplaceUnhealthy", **live} != wanted


def fallback(role: Role, spec: Json, moves: Moves) -> list[Told]:
    """What to tell when the first group of a new revision is replaced although the role asks for updates in place."""
    strategy = (spec.get("updateStrategy") or {}).get("type")
    if not role.grouped or strategy != "InPlaceIfPossible" or role.updated or role.leaving:
        return []
    first = next((member.name for member in role.outdated if member.slot is not None), "")
    if not first or not moves:
        return []
    message = (
        f"role {role.name} PodSet {first} cannot be updated in place: a PodSet role never is; "
        f"falling back to recreate for {role.template_hash}"
    )
    return [Told(reason=labels.EVENT_IN_PLACE_FALLBACK, message=message)]


def with_tells(
    steps: Sequence[Step], roles: Sequence[Role], specs: Sequence[Json], moves: Mapping[str, Moves]
) -> list[Step]:
    """`steps`, the first of a group's role telling that it is no update in place."""
    told: list[Step] = list(steps)
    for role, spec in zip(roles, specs, strict=True):
        tells = fallback(role, spec, moves.get(role.name, Moves()))
        first = next((at for at, step in enumerate(told) if getattr(step, "role", "") == role.name), None)
        if tells and first is not None and hasattr(told[first], "tells"):
            told[first] = told[first].model_copy(update={"tells": tells})
    return told


def trouble_of(podsets: Iterable[Json]) -> Trouble | None:
    """Why one of them is not ready, as its own conditions say; the first that is stuck."""
    found = [
        Trouble(
            f"PodSet {name_of(podset)}: {condition(podset, labels.READY).get('message') or 'has no status yet'}",
            stuck=condition(podset, labels.PROGRESSING).get("reason") == "Blocked",
        )
        for podset in podsets
        if not is_deleting(podset) and status_of(podset).get("phase") != READY_PHASE
    ]
    return next((trouble for trouble in found if trouble.stuck), found[0] if found else None)
