"""One look at a living StormService: what it needs, in which order, and what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

from crds import labels
from planning import fleet as fleets
from planning import progress, sameness, storm_status, storm_view
from planning.adoption import adoptions
from planning.backoff import earliest, failures_of, held_back, waiting
from planning.budgets import budget_steps, min_available
from planning.fleet import Fleet, FleetMoves, Replica
from planning.limits import Allowance
from planning.objects import generation_of, has_finalizer, in_order, name_of, spec_of, status_of
from planning.planner import Plan, World
from planning.progress import Counted, Verdict
from planning.render import desired_replicas, live_replicas, revision_template, service_spec, template_fault
from planning.resources import BUDGET, CONTROLLER_REVISION, SERVICE
from planning.revisions import number_of, superfluous, sync
from planning.roleset import ROLESET, conclude
from planning.rolling import roll
from planning.scaling import scale
from planning.storm_status import Findings
from planning.storm_words import describe
from planning.view import counted
from planning.wire import (
    AddFinalizer,
    ApplyBudget,
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
        found = sync(storm, self.stored, memory)
        self.asked = found.update
        self.given_up = progress.stands_failed(storm, found.update)
        self.back_to = progress.fallback(storm, found.update, self.stored) if self.given_up else ""
        self.revisions = found.aimed_at(self.back_to, self.stored) if self.back_to else found
        self.counts = storm_status.count(storm, self.rolesets, self.revisions)
        self.role_statuses = storm_status.role_statuses(self.rolesets, self.revisions.update)
        self.moved = storm_status.moved(self.counts, self.role_statuses)
        self.fleet: Fleet = self._fleet()
        if self.given_up and not self.back_to:
            self.given_up = not self.is_complete and not self.moved.is_readier_than(Counted.of(status_of(storm)))
            self.fleet = replace(self.fleet, stalled=self.given_up)
        self.waiting = waiting(memory, self.generation, self.now)

    def _fleet(self) -> Fleet:
        revisions = self.revisions
        outdated = [
            (revision, found) for found in self.rolesets if (revision := fleets.revision_of(found)) != revisions.update
        ]
        return fleets.observe(
            self.storm, self.rolesets, revisions.current, revisions.update, self.now,
            alike=sameness.alike(outdated, self.stored, self.target_template) if outdated else (),
        )  # fmt: skip

    @property
    def target_template(self) -> Json:
        """The template to be at: the object's own, or the one that a failed rollout goes back to."""
        if not self.back_to:
            return self.template
        return next(revision_template(found) for found in self.stored if name_of(found) == self.back_to)

    # What the rollout is about.

    @cached_property
    def wants_rollout(self) -> bool:
        """The target is not completed, or RoleSets of another revision are about; and nobody paused or gave it up."""
        if self.fleet.paused or self.fleet.stalled:
            return False
        return status_of(self.storm).get("completedRevision") != self.revisions.update or bool(self.fleet.outdated)

    @cached_property
    def clock(self) -> datetime | None:
        """Since when nothing has moved; it stands still while nothing is rolled out. None without a deadline."""
        if not self.wants_rollout:
            return progress.shown_clock(self.storm)
        return progress.clock(self.storm, self.revisions.update, self.moved, self.now)

    @cached_property
    def times_out_at(self) -> datetime | None:
        """When this rollout is given up, should nothing move until then."""
        deadline = progress.deadline_of(self.storm)
        running = self.rollout == self.asked and self.wants_rollout and not self.given_up and not self.is_complete
        return self.clock + deadline if running and self.clock is not None and deadline is not None else None

    @cached_property
    def verdict(self) -> Verdict:
        """Given up before, or in this pass: the deadline is over, and there is nothing that we could do about it."""
        can_act = bool(self.moves) and not self._waits_for_revision
        late = self.times_out_at is not None and self.now >= self.times_out_at and not can_act
        if not self.given_up and not late:
            return Verdict(progressed_at=self.clock)
        why = progress.why_failed(self.storm, storm_status.culprit(self.rolesets, self.asked))
        return Verdict(failed=self.asked, why=why, back_to=self.back_to, progressed_at=self.clock)

    @cached_property
    def is_rollback(self) -> bool:
        """The target was stored before the revision that this rollout carries."""
        numbers = {name_of(found): number_of(found) for found in self.stored}
        mine, target = numbers.get(self.rollout or ""), numbers.get(self.revisions.update)
        return mine is not None and target is not None and target < mine

    @property
    def is_complete(self) -> bool:
        """As many RoleSets as desired, all at the target, ready and wholly updated, none on its way out."""
        members = self.fleet.members
        settled = all(m.settled and not m.leaving and m.revision == self.revisions.update for m in members)
        return settled and len(members) == self.fleet.budget.desired and self.revisions.step is None

    # What to do.

    def plan(self) -> Plan:
        if self.adoptions:
            return self.conclude(self.adoptions, self._reason(self.adoptions))
        steps = [] if self.invalid else held_back(self._steps(), self.memory, self.generation, self.now)
        return self.conclude(steps, self._reason(steps))

    def conclude(self, steps: Sequence[Step], reason: str) -> Plan:
        news = storm_status.news(status_of(self.storm), self.status, rolling=self.rollout is not None)
        return conclude(
            self.world, self.storm, self.memory, steps, reason, self.view,
            status=self.status, wake_at=self.wake_at, events=news,
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
        steps += budget_steps(self._budgets, self.world.children.get(BUDGET.key, ()))
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
    def _tolerance(self) -> tuple[int | None, str]:
        """How many pods evictions have to leave, and what is wrong with what was asked for."""
        roles: Sequence[Json] = (self.template.get("spec") or {}).get("roles") or ()
        pods = sum(desired_replicas(role) * max(1, int(role.get("podGroupSize") or 1)) for role in roles)
        return min_available(spec_of(self.storm).get("disruptionTolerance"), self.fleet.budget.desired * pods)

    @property
    def _budgets(self) -> list[ApplyBudget]:
        kept, name = self._tolerance[0], name_of(self.storm)
        if kept is None:
            return []
        return [ApplyBudget(name=name, min_available=kept, selector={labels.STORM_SERVICE_NAME: name})]

    @cached_property
    def adoptions(self) -> list[Step]:
        """Children that an object of this name left behind; they come before anything else."""
        found = adoptions(self.storm, self.world.ownerless, self.stored) if self.world.ownerless else []
        return held_back(found, self.memory, self.generation, self.now)

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
        """Creates before deletes: when creating fails nothing has been taken away for it.

        RoleSets whose roles are scaled may be unready for a while: ready ones are not deleted in the same decision.
        """
        deletes = allowance.targets(moves.deletes)
        rewrites = allowance.targets(moves.rewrites)
        steps = self._creates(moves, allowance)
        if rewrites:
            targets = [member.target for member in rewrites]
            steps.append(UpdateRoleSets(revision=self.revisions.update, targets=targets, note=self._note))
        if scaled := self._scaled_roles({m.name for m in (*moves.deletes, *moves.rewrites)}, allowance):
            steps += scaled
            deletes = [member for member in deletes if not member.ready]
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
        live |= {self.asked, str(status_of(self.storm).get("completedRevision") or "")}
        targets = superfluous(self.storm, self.stored, live)
        return [DeleteRevisions(targets=list(allowance.targets(targets)))] if targets else []

    @cached_property
    def wake_at(self) -> datetime | None:
        """When the next leaving RoleSet stops counting, or the rollout is given up."""
        limits = (*(fleets.leaves_by(found) for found in self.rolesets), self.times_out_at)
        return earliest(*(at for at in limits if at is not None and at > self.now))

    @property
    def timer(self) -> str:
        gives_up = self.wake_at is not None and self.wake_at == self.times_out_at
        return "given up then without progress" if gives_up else "a leaving RoleSet stops counting"

    # What to show.

    @cached_property
    def findings(self) -> Findings:
        failures = failures_of(self.memory, self.generation)
        conflicts = [f.message for f in failures if f.step == ApplyService.model_fields["type"].default]
        others = [f"{f.step}: {f.message}" for f in failures if f.step != ApplyService.model_fields["type"].default]
        faults = [fault for fault in (self.invalid, self.fleet.fault, self._tolerance[1]) if fault]
        failure = "; ".join([*faults, *others])
        verdict = self.verdict
        said = (failure, verdict.why, storm_status.blocked_by(self.rolesets), *conflicts[:1])
        return Findings(
            failure=failure,
            service_conflict=conflicts[0] if conflicts else "",
            blocked=next((sentence for sentence in said if sentence), ""),
            completed_revision=self.revisions.update if self.rollout is not None and self.is_complete else "",
            verdict=verdict,
        )

    @cached_property
    def status(self) -> Json:
        return storm_status.status(
            self.storm, self.counts, self.role_statuses, self.fleet, self.revisions, self.findings, self.now
        )  # fmt: skip

    @cached_property
    def view(self) -> View:
        return storm_view.view(self)

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
