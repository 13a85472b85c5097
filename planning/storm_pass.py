"""One look at a living StormService: what it needs, in which order, and what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from crds import labels
from planning import fleet as fleets
from planning import storm_status
from planning.backoff import earliest, failures_of, held_back, waiting
from planning.fleet import Fleet, FleetMoves, Replica
from planning.limits import Allowance
from planning.objects import generation_of, has_finalizer, in_order, is_condition_true, name_of, spec_of, status_of
from planning.planner import Plan, Resource, World
from planning.render import live_replicas, service_spec, template_fault
from planning.revisions import number_of, superfluous, sync
from planning.roleset import ROLESET, conclude
from planning.rolling import roll
from planning.scaling import scale
from planning.storm_status import Findings
from planning.view import RoleRow, blocked_roles, counted, model_of, page
from planning.wire import (
    AddFinalizer,
    ApplyService,
    CreateRevision,
    CreateRoleSets,
    DeleteRevisions,
    DeleteRoleSets,
    Memory,
    Step,
    UpdateRoleSets,
    View,
)

Json = dict[str, Any]
CONTROLLER_REVISION: Final = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
SERVICE: Final = Resource("", "v1", "services", "Service")


class StormPass:
    """All that one pass computes, each part once and only when asked for."""

    def __init__(self, world: World, storm: Json, memory: Memory, rollout: str | None) -> None:
        self.world, self.storm, self.memory, self.rollout = world, storm, memory, rollout
        self.now: datetime = world.now
        self.generation = generation_of(storm)
        self.rolesets = in_order(world.children.get(ROLESET.key, ()))
        self.stored = list(world.children.get(CONTROLLER_REVISION.key, ()))
        self.template: Json = spec_of(storm).get("template") or {}
        self.invalid = template_fault(storm, self.template)
        self.revisions = sync(storm, self.stored, memory)
        self.fleet: Fleet = fleets.observe(
            storm, self.rolesets, self.revisions.current, self.revisions.update, self.now
        )
        self.counts = storm_status.count(storm, self.rolesets, self.revisions)
        self.waiting = waiting(memory, self.generation, self.now)

    # What the rollout is about.

    @cached_property
    def wants_rollout(self) -> bool:
        """The target has not been completed, or RoleSets of another revision are about; and nobody pauses it."""
        completed = status_of(self.storm).get("completedRevision")
        return not self.fleet.paused and (completed != self.revisions.update or bool(self.fleet.outdated))

    @cached_property
    def is_rollback(self) -> bool:
        """The target was stored before the revision that this rollout carries."""
        numbers = {name_of(found): number_of(found) for found in self.stored}
        mine, target = numbers.get(self.rollout or ""), numbers.get(self.revisions.update)
        return mine is not None and target is not None and target < mine

    @cached_property
    def is_complete(self) -> bool:
        """As many RoleSets as desired, all at the target, ready and wholly updated, none on its way out."""
        members = self.fleet.members
        settled = all(m.settled and not m.leaving and m.revision == self.revisions.update for m in members)
        return settled and len(members) == self.fleet.budget.desired and self.revisions.step is None

    # What to do.

    def plan(self) -> Plan:
        steps = [] if self.invalid else held_back(self._steps(), self.memory, self.generation, self.now)
        return self.conclude(steps, self._reason(steps))

    def conclude(self, steps: Sequence[Step], reason: str) -> Plan:
        news = storm_status.news(status_of(self.storm), self.status, rolling=self.rollout is not None)
        return conclude(
            self.world, self.storm, self.memory, steps, reason, self.view,
            status=self.status, wake_at=self._wake_at, events=news,
        )  # fmt: skip

    def _steps(self) -> list[Step]:
        """Foundations first; RoleSets wait until the revision they are made of can be stored."""
        steps: list[Step] = []
        if not has_finalizer(self.storm, labels.STORM_SERVICE_FINALIZER):
            steps.append(AddFinalizer(finalizer=labels.STORM_SERVICE_FINALIZER))
        if self.revisions.step is not None:
            steps.append(self.revisions.step)
        if not self._has_service:
            steps.append(ApplyService(name=name_of(self.storm)))
        allowance = Allowance()
        if not self._waits_for_revision:
            steps += self._roleset_steps(self.moves, allowance)
        if self.rollout is None and not self.wants_rollout:
            steps += self._trimming(allowance)
        return steps

    @cached_property
    def _waits_for_revision(self) -> bool:
        step = self.revisions.step
        return isinstance(step, CreateRevision) and f"{step.type}/{step.name}" in self.waiting

    @cached_property
    def _has_service(self) -> bool:
        wanted = service_spec(self.storm)
        for service in self.world.children.get(SERVICE.key, ()):
            if name_of(service) == name_of(self.storm):
                return all(spec_of(service).get(key) == value for key, value in wanted.items())
        return False

    @cached_property
    def moves(self) -> FleetMoves:
        """Scaling, and the rollout where it is this workflow's task and scaling had nothing to do."""
        scaled = self._without_held(scale(self.fleet))
        may_roll = self.rollout is not None and not self.fleet.paused and not self.fleet.fault
        if scaled.acted or not may_roll:
            return scaled
        return self._without_held(roll(self.fleet))

    def _without_held(self, moves: FleetMoves) -> FleetMoves:
        """Moves that wait after a failure do not keep the others waiting."""
        if "create-rolesets" in self.waiting:
            moves = replace(moves, creates=())
        if "delete-rolesets" in self.waiting:
            moves = replace(moves, deletes=())
        if "update-rolesets" in self.waiting:
            moves = replace(moves, rewrites=())
        return moves or FleetMoves()

    def _roleset_steps(self, moves: FleetMoves, allowance: Allowance) -> list[Step]:
        """Creates before deletes: when creating fails nothing has been taken away for it."""
        deletes = allowance.targets(moves.deletes)
        rewrites = allowance.targets(moves.rewrites)
        steps = self._creates(moves, allowance)
        if rewrites:
            targets = [member.target for member in rewrites]
            steps.append(UpdateRoleSets(revision=self.revisions.update, targets=targets, note=self._note))
        steps += self._scaled_roles({m.name for m in (*moves.deletes, *moves.rewrites)}, allowance)
        if deletes:
            disruptive = any(member.ready for member in deletes)
            targets = [member.target for member in deletes]
            steps.append(DeleteRoleSets(targets=targets, disruptive=disruptive, note=self._note))
        return steps

    @property
    def _note(self) -> str:
        """What the budget was spent on, for the step's readable line."""
        budget = self.fleet.budget
        ready = f"{self.fleet.ready} of {budget.desired} ready"
        return f"{ready}, surge {budget.surge}, unavailable {budget.unavailable}"

    def _creates(self, moves: FleetMoves, allowance: Allowance) -> list[Step]:
        free = self.fleet.free_indexes(sum(count for _, count in moves.creates))
        steps: list[Step] = []
        for revision, count in moves.creates:
            indexes, free = free[: allowance.creates(count)], free[count:]
            steps.append(CreateRoleSets(revision=revision, indexes=indexes, note=self._note))
        return steps

    def _scaled_roles(self, others: set[str], allowance: Allowance) -> list[Step]:
        """RoleSets whose roles have other replicas than the StormService asks for; their revision stays."""
        wanted = live_replicas(self.storm)
        stored = {name_of(found) for found in self.stored}
        groups: dict[tuple[str, tuple[tuple[str, int], ...]], list[Replica]] = {}
        for member in self.fleet.active:
            changed = tuple(sorted(_changed_roles(member.source, wanted).items()))
            if changed and member.name not in others and member.revision in stored:
                groups.setdefault((member.revision, changed), []).append(member)
        return [
            UpdateRoleSets(
                revision=revision,
                targets=[member.target for member in allowance.targets(members)],
                role_replicas=dict(changed),
                note=", ".join(f"{role} to {count}" for role, count in changed),
            )
            for (revision, changed), members in sorted(groups.items())
        ]

    def _trimming(self, allowance: Allowance) -> list[Step]:
        live = {self.revisions.current, self.revisions.update, *(fleets.revision_of(found) for found in self.rolesets)}
        targets = superfluous(self.storm, self.stored, live)
        return [DeleteRevisions(targets=list(allowance.targets(targets)))] if targets else []

    @cached_property
    def _wake_at(self) -> datetime | None:
        """When the next leaving RoleSet stops counting."""
        limits = (fleets.leaves_by(found) for found in self.rolesets)
        return earliest(*(at for at in limits if at is not None and at > self.now))

    # What to show.

    @cached_property
    def findings(self) -> Findings:
        failures = failures_of(self.memory, self.generation)
        conflicts = [f.message for f in failures if f.step == ApplyService.model_fields["type"].default]
        others = [f"{f.step}: {f.message}" for f in failures if f.step != ApplyService.model_fields["type"].default]
        faults = [fault for fault in (self.invalid, self.fleet.fault) if fault]
        failure = "; ".join([*faults, *others])
        return Findings(
            failure=failure,
            service_conflict=conflicts[0] if conflicts else "",
            blocked=failure or storm_status.blocked_by(self.rolesets) or (conflicts[0] if conflicts else ""),
            completed_revision=self.revisions.update if self.rollout is not None and self.is_complete else "",
        )

    @cached_property
    def status(self) -> Json:
        return storm_status.status(
            self.storm, self.rolesets, self.fleet, self.revisions, self.findings, self.now
        )  # fmt: skip

    @cached_property
    def phase(self) -> str:
        if self.invalid:
            return "Invalid"
        if self.fleet.outdated:
            return "Paused" if self.fleet.paused else "RollingOut"
        if is_condition_true({"status": self.status}, labels.READY):
            return "Ready"
        completed = status_of(self.storm).get("completedRevision")
        if not completed:
            return "Creating"
        return "Scaling" if completed == self.revisions.update else "RollingOut"

    @cached_property
    def view(self) -> View:
        revision, blocked = self.revisions.update, self.findings.blocked
        roles: Sequence[Json] = (self.template.get("spec") or {}).get("roles") or ()
        budget, ready = self.fleet.budget, self.counts.ready
        facts = [
            f"RoleSets: {budget.desired} desired, {self.counts.replicas} exist, {ready} ready, "
            f"{len(self.fleet.updated)} at the target (surge {budget.surge}, unavailable {budget.unavailable})"
        ]
        details = page(
            phase=self.phase, revision=revision, rows=self._rows(), wake_at=self._wake_at, now=self.now, facts=facts
        )
        return View(phase=self.phase, revision=revision, blocked=blocked, model=model_of(roles), details=details)

    def _rows(self) -> list[RoleRow]:
        desired = {role: count * self.fleet.budget.desired for role, count in live_replicas(self.storm).items()}
        shown = {role["name"]: role for role in self.status["roleStatuses"]}
        blocked = blocked_roles(self.rolesets)
        return [
            RoleRow(
                name,
                desired.get(name, 0),
                shown.get(name, {}).get("readyReplicas", 0),
                shown.get(name, {}).get("updatedReplicas", 0),
                blocked.get(name, ""),
            )
            for name in [*desired, *(other for other in shown if other not in desired)]
        ]

    def _reason(self, steps: Iterable[Step]) -> str:
        said = ", ".join(text for step in steps if (text := describe(step)))
        counts = self.counts
        budget = self.fleet.budget
        room = f"surge {budget.surge}, unavailable {budget.unavailable}"
        shown = f"{counts.ready} of {counted(counts.desired, 'RoleSet')} ready, {counts.updated_ready} updated"
        return f"{said}; {shown} ({room})"[:500]


def _changed_roles(roleset: Json, wanted: dict[str, int]) -> dict[str, int]:
    found = {}
    for role in spec_of(roleset).get("roles") or ():
        name = role["name"]
        if name in wanted and role.get("replicas") != wanted[name]:
            found[name] = wanted[name]
    return found


def describe(step: Step) -> str:
    """A few words for a step of a StormService."""
    match step:
        case CreateRoleSets(revision=revision, indexes=indexes):
            return f"create {counted(len(indexes), 'RoleSet')} at {revision}"
        case UpdateRoleSets(role_replicas=replicas, targets=targets) if replicas:
            scaled = ", ".join(f"{role} to {count}" for role, count in sorted(replicas.items()))
            return f"scale {scaled} in {counted(len(targets), 'RoleSet')}"
        case UpdateRoleSets(revision=revision, targets=targets):
            return f"rewrite {counted(len(targets), 'RoleSet')} to {revision}"
        case DeleteRoleSets(targets=targets):
            return f"delete {counted(len(targets), 'RoleSet')}"
        case CreateRevision(name=name, revision=number):
            return f"store revision {number} as {name}"
        case ApplyService():
            return "apply the headless Service"
        case DeleteRevisions(targets=targets):
            return f"forget {counted(len(targets), 'old revision')}"
        case AddFinalizer():
            return "add the finalizer"
    return step.type.replace("-", " ")
