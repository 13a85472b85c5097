"""The rules of a RayClusterFleet: a Deployment whose pods are RayClusters.

    fleet ──► <fleet>-<hash> (replica set of one template) ──► RayClusters

A pass makes one move: a roll-back, a new replica set, or sizes. What is missed is seen by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from crds import labels
from crds.intorstr import IntOrStringError
from planning import names, ray_fleet_moves, ray_fleet_status
from planning.backoff import failures_of
from planning.objects import annotations_of, condition, generation_of, is_deleting, spec_of, status_of, uid_of
from planning.planner import Plan, Resource, World
from planning.ray_fleet_view import (
    RECREATE,
    ROLLING_UPDATE,
    Fleet,
    ReplicaSet,
    collisions,
    lacks_annotations,
    observe,
    replica_set_name,
)
from planning.render_ray import RAY_FLEET, RAY_REPLICA_SET
from planning.roleset import conclude, gone
from planning.view import RoleRow, model_of, page
from planning.wire import (
    CreateRayReplicaSet,
    DeleteRayReplicaSets,
    Memory,
    NoteFleet,
    RaySize,
    RollBackFleet,
    Step,
    Told,
    UpdateRayReplicaSets,
    View,
)

Json = dict[str, Any]
Event = tuple[str, str, str]
DEFAULT_HISTORY: Final = 10
LONGEST_HISTORY: Final = 2000
SELECTS_ALL: Final = "This fleet is selecting all clusters. A non-empty selector is required."


@dataclass(frozen=True, slots=True)
class RayFleetPlanner:
    """Plans one RayClusterFleet."""

    @property
    def resource(self) -> Resource:
        return RAY_FLEET

    @property
    def owns(self) -> Sequence[Resource]:
        return (RAY_REPLICA_SET,)

    def plan(self, world: World, memory: Memory, rollout: str | None) -> Plan:  # noqa: ARG002 (it has none)
        found = world.object
        if found is None or uid_of(found) != world.ref.uid:
            return gone(world)
        if spec_of(found).get("selector") == {}:
            return _selecting_all(found)
        try:
            fleet = observe(found, world.children.get(RAY_REPLICA_SET.key, ()))
        except IntOrStringError as error:
            said = f"spec.strategy.rollingUpdate: {error}"
            return Plan(None, View(phase="Blocked", blocked=said), ray_fleet_status.unreadable(found, said, world.now))
        if is_deleting(found):
            return Plan(None, View(phase="Deleting"), ray_fleet_status.status(fleet, memory, world.now))
        return _Pass(world, fleet, memory).plan()


def _selecting_all(found: Json) -> Plan:
    status = {**status_of(found), "observedGeneration": generation_of(found)}
    event = ("Warning", labels.EVENT_SELECTING_ALL, SELECTS_ALL)
    return Plan(None, View(phase="Blocked", blocked=SELECTS_ALL), status, None, [event])


class _Pass:
    """One look at a living fleet."""

    def __init__(self, world: World, fleet: Fleet, memory: Memory) -> None:
        self.world, self.fleet, self.memory = world, fleet, memory
        self.complete = ray_fleet_status.is_complete(fleet)

    def plan(self) -> Plan:
        fleet, now = self.fleet, self.world.now
        status = ray_fleet_status.status(fleet, self.memory, now)
        steps = self._steps()
        wake_at = ray_fleet_status.out_of_time_at(fleet)
        return conclude(
            self.world, fleet.live, self.memory, steps, self._reason(), self._view(),
            status=status, wake_at=wake_at if wake_at is not None and wake_at > now else None,
            events=self._events(status),
        )  # fmt: skip

    # --- steps ------------------------------------------------------------------------------------------------------

    def _steps(self) -> list[Step]:
        if not self.fleet.paused and (back := self._roll_back()) is not None:
            return [back]
        moves = self._moves()
        if not moves and (self.complete or self.fleet.paused):
            moves = self._clean_up()
        return [*self._note(), *moves]

    def _moves(self) -> list[Step]:
        fleet, new = self.fleet, self.fleet.new
        if fleet.paused or ray_fleet_moves.is_scaled(fleet):
            return self._resize(ray_fleet_moves.scaling(fleet, new), refresh=not fleet.paused)
        if fleet.strategy == ROLLING_UPDATE:
            if new is None:
                return [self._create()]
            return self._resize(ray_fleet_moves.rolling(fleet, new))
        if fleet.strategy == RECREATE:
            sizes = ray_fleet_moves.recreating(fleet, new)
            if new is None and not sizes and not ray_fleet_moves.still_there(fleet):
                return [self._create()]
            return self._resize(sizes)
        return []

    def _create(self) -> CreateRayReplicaSet:
        fleet, budget = self.fleet, self.fleet.budget
        count, size = collisions(fleet, self.memory), ray_fleet_moves.first_size(fleet)
        name = replica_set_name(fleet, count)
        tells = [_scaled(name, size)] if size else []
        return CreateRayReplicaSet(
            name=name, digest=fleet.digest, hash=names.short_hash(fleet.digest, count), replicas=size,
            revision=fleet.next_revision, desired=budget.desired, most=budget.most, tells=tells,
        )  # fmt: skip

    def _resize(self, sizes: ray_fleet_moves.Sizes, *, refresh: bool = True) -> list[Step]:
        """Each size with the fleet's numbers; the new replica set also with its revision and annotations."""
        fleet, new, steps = self.fleet, self.fleet.new, []
        if new is not None and refresh and (new.name in sizes or self._is_stale(new)):
            size = sizes.get(new.name, new.size)
            steps.append(self._update([(new, size)], copies=True))
        others = [(each, sizes[each.name]) for each in fleet.sets if each.name in sizes]
        others = [pair for pair in others if not steps or new is None or pair[0].name != new.name]
        return [*steps, *([self._update(others)] if others else [])]

    def _update(self, sized: Sequence[tuple[ReplicaSet, int]], *, copies: bool = False) -> UpdateRayReplicaSets:
        budget = self.fleet.budget
        sizes = [
            RaySize(
                target=each.target, replicas=size, desired=budget.desired, most=budget.most,
                **(self._revision(each) if copies else {}),
            )
            for each, size in sized
        ]  # fmt: skip
        tells = [_scaled(each.name, size, each.size) for each, size in sized if size != each.size]
        return UpdateRayReplicaSets(
            sizes=sizes, disruptive=any(size < each.size for each, size in sized), copies=copies, tells=tells,
            note="; ".join(f"{each.name} {each.size} to {size}" for each, size in sized)[:300],
        )  # fmt: skip

    def _is_stale(self, new: ReplicaSet) -> bool:
        fleet, budget = self.fleet, self.fleet.budget
        noted = (new.desired, new.most) == (str(budget.desired), str(budget.most))
        patience = int(spec_of(fleet.live).get("minReadySeconds") or 0)
        same = int(spec_of(new.live).get("minReadySeconds") or 0) == patience
        return not noted or not same or new.revision < fleet.next_revision or lacks_annotations(fleet, new)

    def _revision(self, new: ReplicaSet) -> dict[str, str]:
        """A replica set that serves again is the newest; the numbers it had before are kept."""
        if new.revision >= self.fleet.next_revision:
            return {"revision": str(new.revision)}
        kept = annotations_of(new.live).get(labels.FLEET_REVISION_HISTORY, "")
        history = [part for part in (*kept.split(","), str(new.revision or "")) if part]
        while len(",".join(history)) > LONGEST_HISTORY:
            history.pop(0)
        return {"revision": str(self.fleet.next_revision), "history": ",".join(history)}

    def _clean_up(self) -> list[Step]:
        """Old replica sets beyond the history that is kept, lowest revision first."""
        limit = int(spec_of(self.fleet.live).get("revisionHistoryLimit", DEFAULT_HISTORY))
        ordered = sorted(self.fleet.old, key=lambda each: each.revision)
        surplus = ordered[: max(0, len(ordered) - limit)]
        targets = [each.target for each in surplus if each.size == 0 and each.total == 0 and each.observed]
        return [DeleteRayReplicaSets(targets=targets, note=f"{limit} are kept")] if targets else []

    def _note(self) -> list[Step]:
        new = self.fleet.new
        if new is None or not new.revision or new.revision < self.fleet.next_revision:
            return []
        shown = annotations_of(self.fleet.live).get(labels.FLEET_REVISION)
        return [NoteFleet(revision=str(new.revision))] if shown != str(new.revision) else []

    def _roll_back(self) -> RollBackFleet | None:
        asked = annotations_of(self.fleet.live).get(labels.FLEET_ROLLBACK_TO)
        if asked is None or not asked.strip().isdigit():
            return None
        revision = int(asked)
        if revision == 0:
            known = sorted({each.revision for each in self.fleet.sets})
            revision = known[-2] if len(known) > 1 else 0
        found = next((each for each in self.fleet.sets if each.revision == revision), None) if revision else None
        if found is None:
            return _refused(labels.EVENT_FLEET_ROLLBACK_NOT_FOUND, f"Unable to find revision {asked}.")
        if found.digest == self.fleet.digest:
            message = f"The rollback revision contains the same template as current fleet {self.fleet.name}"
            return _refused(labels.EVENT_FLEET_ROLLBACK_UNCHANGED, message)
        told = Told(
            reason=labels.EVENT_FLEET_ROLLBACK, message=f"Rolled back fleet {self.fleet.name} to revision {revision}"
        )
        return RollBackFleet(source=found.target, tells=[told], note=f"revision {revision}")

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _reason(self) -> str:
        sizes = ", ".join(f"{each.name} {each.available}/{each.size}" for each in self.fleet.sets)
        return f"{self.fleet.budget.desired} wanted: {sizes or 'no replica set'}"

    def _blocked(self) -> str:
        if not ray_fleet_status.is_known_strategy(self.fleet):
            return ray_fleet_status.unknown_strategy(self.fleet)
        failures = failures_of(self.memory, generation_of(self.fleet.live))
        if failures:
            return failures[-1].message
        return next(
            (
                str(found.get("message", "")) for each in self.fleet.sets
                if (found := condition(each.live, labels.REPLICA_FAILURE)).get("status") == "True"
            ),
            "",
        )  # fmt: skip

    def _view(self) -> View:
        fleet, blocked = self.fleet, self._blocked()
        phase = "Paused" if fleet.paused else "Ready" if self.complete else "Progressing"
        revision = fleet.new.name if fleet.new is not None else ""
        rows = [
            RoleRow(each.name, each.size, each.ready, each.total if each.digest == fleet.digest else 0)
            for each in fleet.sets
            if each.size or each.total
        ]
        wake_at: datetime | None = ray_fleet_status.out_of_time_at(fleet)
        details = page(
            phase=phase, revision=revision, rows=rows, wake_at=wake_at, now=self.world.now, timer="progress deadline"
        )
        model = annotations_of(fleet.live).get(labels.MODEL_NAME, "")
        named = (fleet.live["metadata"].get("labels") or {}).get(labels.MODEL_NAME) or model
        model = named or model_of([{"template": spec_of(fleet.live).get("template") or {}}])
        return View(phase=phase, revision=revision, blocked=blocked, model=model, details=details)

    def _events(self, status: Json) -> list[Event]:
        found = condition({"status": status}, labels.PROGRESSING)
        if found.get("reason") != labels.REASON_REPLICA_SET_CREATE_ERROR:
            return []
        return [("Warning", labels.REASON_REPLICA_SET_CREATE_ERROR, str(found.get("message", "")))]


def _scaled(name: str, to: int, before: int | None = None) -> Told:
    direction = "down" if before is not None and to < before else "up"
    since = f" from {before}" if before is not None else ""
    return Told(
        reason=labels.EVENT_SCALING_REPLICA_SET, message=f"Scaled {direction} replica set {name} to {to}{since}"
    )


def _refused(reason: str, message: str) -> RollBackFleet:
    return RollBackFleet(tells=[Told(type="Warning", reason=reason, message=message)], note=message)
