"""From what the roles' rules want to steps: drained first, patched or deleted then, restored when nothing follows.

ready ──► drained: its gate is closed, the time stands on the pod ──► idle, or `drainSeconds` later: patched or deleted
  ▲                                │ nothing wants it any more
  └────────── restored ◄───────────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from crds import labels
from planning import groups
from planning.backoff import earliest
from planning.flight import DEADLINE
from planning.limits import Allowance
from planning.managers import RoleMoves
from planning.members import Member, Moves, Role
from planning.objects import annotations_of
from planning.wire import (
    CompletePods,
    CreatePods,
    DeletePods,
    DrainPods,
    FallBack,
    NotePods,
    PatchPods,
    RestorePods,
    Step,
    WarmUpPods,
)

Json = dict[str, Any]

# A reason that passes sooner is not worth a line on the pod and in the history.
NOTE_AFTER: Final = timedelta(seconds=5)


@dataclass
class PodSteps:
    """The steps of one pass. `told` holds by role the template hash whose fallback has been said.

    `wake_at` is filled while steps are made: when the next drained pod, warm-up or in-place update is due.
    """

    roles: Sequence[Role]
    found: RoleMoves
    now: datetime
    allowance: Allowance
    told: Mapping[str, str] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    podset_uids: frozenset[str] = frozenset()
    at_once: bool = False
    wake_at: datetime | None = None

    def steps(self) -> list[Step]:
        """Creates before deletes: when creating fails nothing has been taken away for it."""
        beside, creates, changes, last = list[Step](), list[Step](), list[Step](), list[Step]()
        for role in self.roles:
            moves = self.found.moves.get(role.name, Moves())
            beside += [*self._completions(role), *self._notes(role), *self._restorations(role, moves)]
            creates += self._creations(role, moves)
            changes += [*self._fallback(role, moves), *self._changes(role, moves)]
            last += self._warm_ups(role)
        return [*beside, *creates, *sorted(changes, key=_place), *last]

    # --- what a move becomes ----------------------------------------------------------------------------------------

    def _creations(self, role: Role, moves: Moves) -> list[Step]:
        granted = self.allowance.creates(moves.creates)
        if not granted:
            return []
        slots = list(moves.slots[:granted])
        note = f"{role.ready} of {role.budget.desired} ready"
        if role.grouped:
            return [groups.create_step(role, slots, note)]
        step = CreatePods(
            role=role.name,
            template_hash=role.new_hash,
            count=0 if slots else granted,
            slots=slots,
            note=note,
            revision=role.behind.revision if role.behind is not None else "",
        )
        return [step]

    def _changes(self, role: Role, moves: Moves) -> list[Step]:
        deletes, drains = self._timed(role, moves.deletes)
        patches, more = self._timed(role, moves.patches)
        drains += more
        note = f"{role.ready} of {role.budget.desired} ready"
        found: list[Step] = []
        if granted := self.allowance.targets(drains):
            targets = [member.exact for member in granted]
            found.append(DrainPods(role=role.name, targets=targets, seconds=role.drain_seconds, note=note))
        if granted := self.allowance.targets(patches):
            targets, disruptive = [member.exact for member in granted], any(m.serving or m.ready for m in granted)
            found.append(
                PatchPods(
                    role=role.name, template_hash=role.template_hash, targets=targets, disruptive=disruptive, note=note
                )
            )
        if granted := self.allowance.targets(deletes):
            found += self.deletions(role.name, granted, _why(granted), drain_seconds=role.drain_seconds)
        return found

    def deletions(
        self, role: str, members: Sequence[Member], note: str = "", *, drain_seconds: int = 0
    ) -> list[Step]:  # fmt: skip
        """One step for the pods among them, one for the PodSets."""
        pods = [member for member in members if member.uid not in self.podset_uids]
        sets = [member for member in members if member.uid in self.podset_uids]
        found: list[Step] = [delete_step(role, pods, note, drain_seconds=drain_seconds)] if pods else []
        return [*found, *([groups.delete_step(role, sets, note)] if sets else [])]

    def _timed(self, role: Role, members: Iterable[Member]) -> tuple[list[Member], list[Member]]:
        """Those whose time has come, and those whose drain begins; the others wait for the end of theirs."""
        due, begins = list[Member](), list[Member]()
        for member in members:
            if member.drained_since is not None and not self.at_once:
                ends = member.drained_since + timedelta(seconds=role.drain_seconds)
                if ends > self.now and not member.idle:
                    self._wake(ends)
                    continue
            elif role.drain_seconds and member.serving and member.gated and not self.at_once:
                begins.append(member)
                continue
            due.append(member)
        return due, begins

    def _fallback(self, role: Role, moves: Moves) -> list[Step]:
        unfit = role.unfit
        if unfit is None or self.found.scaling or not moves or self.told.get(role.name) == role.template_hash:
            return []
        message = (
            f"role {role.name} pod {unfit.name} cannot be updated in place: {unfit.unfit}; "
            "falling back to recreating the role's outdated pods"
        )
        return [FallBack(role=role.name, template_hash=role.template_hash, message=message)]

    # --- what pods need besides -------------------------------------------------------------------------------------

    def _completions(self, role: Role) -> list[Step]:
        """Pods that run what their in-place update was for."""
        arrived = [m for m in role.active if m.updated and m.flight is not None]
        granted = self.allowance.targets(arrived)
        if not granted:
            return []
        targets = [member.exact for member in granted]
        return [CompletePods(role=role.name, template_hash=role.template_hash, targets=targets)]

    def _notes(self, role: Role) -> list[Step]:
        pending = list[tuple[Member, str]]()
        for member in role.active:
            flight = member.flight
            if flight is None or not member.flies_to(role.template_hash):
                continue
            self._wake(flight.overdue_at)
            if flight.pending and flight.pending != flight.noted:
                at = flight.since + NOTE_AFTER if flight.since is not None else self.now
                if at <= self.now:
                    pending.append((member, flight.pending))
                else:
                    self._wake(at)
        granted = self.allowance.targets(pending)
        if not granted:
            return []
        targets, reasons = [member.exact for member, _ in granted], [reason for _, reason in granted]
        return [NotePods(role=role.name, targets=targets, reasons=reasons)]

    def _restorations(self, role: Role, moves: Moves) -> list[Step]:
        """Pods with a closed gate that nothing follows for; while replicas are repaired outdated ones keep theirs."""
        chosen = {member.name for member in (*moves.deletes, *moves.patches)}
        if {f"delete-pods/{role.name}", f"patch-pods/{role.name}"} & self.held:
            return []
        left = [
            member
            for member in role.active
            if member.name not in chosen
            and member.flight is None
            and (member.updated or not self.found.scaling)
            and (member.drained_since is not None or (member.gated and not member.gate_open))
        ]
        granted = self.allowance.targets(left)
        return [RestorePods(role=role.name, targets=[member.exact for member in granted])] if granted else []

    def _warm_ups(self, role: Role) -> list[Step]:
        cold = [m for m in role.active if m.updated and m.serving and m.flight is None and not m.warmth.done]
        for member in cold:
            self._wake(member.warmth.next_at)
        due = [m for m in cold if m.warmth.next_at is None or m.warmth.next_at <= self.now]
        granted = self.allowance.targets(due)
        if not granted:
            return []
        targets = [member.target for member in granted]
        return [WarmUpPods(role=role.name, template_hash=role.template_hash, targets=targets)]

    def _wake(self, at: datetime | None) -> None:
        if at is not None and at > self.now:
            self.wake_at = earliest(self.wake_at, at)


def _place(step: Step) -> int:
    """Announcements first, then drains, patches and deletions, each of all roles side by side."""
    return ("fall-back", "drain-pods", "patch-pods", "delete-pods", "delete-podsets").index(step.type)


def _why(members: Sequence[Member]) -> str:
    if any(member.overdue and member.flight is not None for member in members):
        return f"an in-place update has not come to its end within {DEADLINE.seconds // 60} min"
    return ""


def delete_step(
    role: str, members: Sequence[Member], note: str = "", *, drain_seconds: int = 0, exact: bool = False
) -> DeletePods:
    """Delete `members`; those that serve and could not be drained get a grace that covers their requests.

    `exact`: only in the version that was seen, so that a pod which has lost its owner meanwhile stays.
    """
    undrained = [m.grace_seconds for m in members if m.serving and m.drained_since is None]
    longest = max(undrained, default=drain_seconds)
    return DeletePods(
        role=role,
        targets=[member.exact if exact else member.target for member in members],
        disruptive=any(member.ready or member.serving for member in members),
        note=note,
        grace_seconds=drain_seconds if drain_seconds > longest else 0,
    )


def fallbacks_told(roleset: Json) -> dict[str, str]:
    """By role: the template hash whose fallback to recreating pods has been said."""
    try:
        found = orjson.loads(annotations_of(roleset).get(labels.IN_PLACE_FALLBACK, "{}"))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
