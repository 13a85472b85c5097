"""A model cluster for planners: it knows Kubernetes and the wire's steps, and nothing of how planners decide.

Objects, budgets, availability and equality of templates are worked out here anew, from the documents: a mistake that
planner and cluster shared would find itself. Only `plan(world, memory, rollout)` is called; steps are carried out one
after another, and before each the rule that it must keep is checked:

| rule | where it does not hold, and why |
|---|---|
| creating takes no total above N + surge | - |
| rewriting RoleSets to other pods takes no available one below N - max(1, unavailable) | - |
| deleting takes no available member (a pod, or a group that is whole) below N - unavailable | the member's role or object is gone from the spec; a slot from N on |
| nothing available and up to date goes while no more than N of them are there | as above |
| a pod of a group goes only with its group, for what has ended, or where the group lives and dies as one | - |
| a paused StormService of the right size is left as it is | replicas of roles follow their live number |
| no RoleSet is created at a revision that the status calls failed, or rewritten to it | scaling of roles; no other was ever there |
| a revision fails only after the deadline without one more RoleSet or member that is updated, or updated and ready | - |
"""  # noqa: E501 - a table row is one line

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from crds import labels
from planning.planner import World
from planning.registry import PLANNERS
from planning.wire import Decision, Memory, Ref
from tests.planning.model_members import Members
from tests.planning.model_rules import (
    NAMESPACE,
    START,
    STORM,
    Broken,
    Json,
    Room,
    check,
    is_leaving,
    replicas_of,
    revision_of,
    shapes_of,
    without_replicas,
    without_times,
)


@dataclass
class ModelCluster(Members):
    """The cluster with its workflows: RoleSets, groups and pods are in `Members`.

    `asked` is the template and what the object is annotated with, `asked_at` when either last changed.
    """

    asked: Any = None
    asked_at: datetime = START
    moved_at: dict[str, datetime] = field(default_factory=dict)
    counted: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    # --- planning ---------------------------------------------------------------------------------------------------

    def look(self, kind: str, name: str) -> Decision | None:
        """Plan with the status written until nothing but a decision is left."""
        found = self.objects[kind, name]
        planner = PLANNERS[kind]
        scope = self.rollout if kind == STORM else None
        ref = Ref(kind=kind, namespace=NAMESPACE, name=name, uid=found["metadata"]["uid"])
        memory = self.memories.get((kind, name, scope), Memory())
        for _ in range(10):
            children = {owned.key: self.every(owned.key, found) for owned in planner.owns}
            plan = planner.plan(World(ref, found, children, self.now), memory, scope)
            if plan.status is None or without_times(plan.status) == without_times(found.get("status") or {}):
                return plan.decision
            found["status"] = dict(plan.status)
            self.touch(found)
            if plan.decision is not None:
                return plan.decision
        raise Broken(f"the status of {kind} {name} never settles")

    def act(self, kind: str, name: str, *, at_most: int = 1000) -> bool:
        """Carry out one decision, of its steps `at_most`: what comes later is lost with the process."""
        decision = self.look(kind, name) if kind != STORM else self._look_at_the_clock()
        if decision is None:
            return False
        scope = self.rollout if kind == STORM else None
        found = self.objects[kind, name]
        for step in decision.steps[:at_most]:
            self.log.append(f"{kind} {name}: {step.type} {step.model_dump(exclude={'type', 'digest', 'hash', 'note'})}")
            self._carry_out(found, step)
        memory = self.memories.get((kind, name, scope), Memory())
        self.memories[kind, name, scope] = memory.model_copy(update={"number": memory.number + 1})
        self.collect()
        return bool(decision.steps)

    def act_all(self, *, at_most: int = 1000) -> bool:
        """One pass of every workflow: the inner ones first, so that the outer ones see true statuses."""
        acted = []
        for kind in ("podset", "roleset"):
            acted += [self.act(kind, found["metadata"]["name"], at_most=at_most) for found in self.every(kind)]
            for found in self.every(kind):
                self.look(kind, found["metadata"]["name"])
        return any([*acted, self.act(STORM, "s", at_most=at_most)])

    def _look_at_the_clock(self) -> Decision | None:
        """Plan the StormService; a revision that fails by this has made no progress for its deadline."""
        asked = (without_replicas(self.storm["spec"]["template"]), self.storm["metadata"].get("annotations"))
        if asked != self.asked:
            self.asked, self.asked_at = deepcopy(asked), self.now
        for found in self.every("roleset"):
            self._note_progress(revision_of(found))
        before = self.failed
        decision = self.look(STORM, "s")
        if self.failed and self.failed != before:
            patience = timedelta(seconds=self.storm["spec"]["progressDeadlineSeconds"])
            still = self.now - self.moved_at.get(self.failed, self.asked_at)
            check(still >= patience, f"{self.failed} has failed after {still} without progress")
            check(self.now - self.asked_at >= patience, f"{self.failed} had no time since it was asked for")
        return decision

    @property
    def failed(self) -> str:
        return str((self.storm.get("status") or {}).get("failedRevision") or "")

    @property
    def newest_revision(self) -> str:
        return str(max(self.every("controllerrevision"), key=lambda each: each["revision"])["metadata"]["name"])

    def _note_progress(self, revision: str) -> None:
        """What the clock of a revision goes by: RoleSets at it, and members of its shape, there or available."""
        at_it = [found for found in self.every("roleset") if revision_of(found) == revision]
        pairs = [(role, self.members_of(found, role["name"])) for found in at_it for role in found["spec"]["roles"]]
        current = [(role, member) for role, members in pairs for member in members if self.is_current(member, role)]
        available = sum(self.is_available(member, role) for role, member in current)
        counts = (len(at_it), sum(not is_leaving(member) for _, member in current), available)
        before = self.counted.get(revision)
        if before is None or any(now > then for now, then in zip(counts, before, strict=True)):
            self.moved_at[revision] = self.now
        self.counted[revision] = counts

    def _carry_out(self, owner: Json, step: Any) -> None:
        handler: Callable[[Json, Any], None] | None = getattr(self, "_" + step.type.replace("-", "_"), None)
        if handler is not None:
            handler(owner, step)

    # --- steps on a StormService ------------------------------------------------------------------------------------

    def _add_finalizer(self, owner: Json, step: Any) -> None:
        owner["metadata"].setdefault("finalizers", []).append(step.finalizer)

    def _release_finalizer(self, owner: Json, step: Any) -> None:
        owner["metadata"]["finalizers"].remove(step.finalizer)

    def _apply_service(self, owner: Json, step: Any) -> None:
        if ("service", step.name) not in self.objects:
            selector = {labels.STORM_SERVICE_NAME: owner["metadata"]["name"]}
            spec = {"type": "ClusterIP", "clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
            self.add("service", step.name, owner, spec=spec)

    def _create_revision(self, owner: Json, step: Any) -> None:
        notes = {labels.TEMPLATE_DIGEST: step.digest}
        template = deepcopy(owner["spec"]["template"]) | {"$patch": "replace"}
        metadata = {"labels": {labels.CONTROLLER_HASH: step.hash}, "annotations": notes}
        data = {"spec": {"template": template}}
        self.add("controllerrevision", step.name, owner, metadata=metadata, data=data, revision=step.revision)

    def _renumber_revision(self, owner: Json, step: Any) -> None:
        found = self.objects["controllerrevision", step.target.name]
        found["revision"] = step.revision
        self.touch(found)

    def _delete_revisions(self, owner: Json, step: Any) -> None:
        in_use = {revision_of(found) for found in self.every("roleset", owner)}
        for target in step.targets:
            check(target.name not in in_use, f"revision {target.name} is in use and deleted")
            del self.objects["controllerrevision", target.name]

    def _template(self, owner: Json, revision: str) -> Json:
        """The revision's template with the live replicas of each role."""
        stored = self.objects["controllerrevision", revision]["data"]["spec"]["template"]
        live = {role["name"]: role.get("replicas") for role in owner["spec"]["template"]["spec"]["roles"]}
        spec = deepcopy(stored["spec"])
        for role in spec["roles"]:
            role["replicas"] = live.get(role["name"], role.get("replicas"))
        return spec

    def _create_rolesets(self, owner: Json, step: Any) -> None:
        room = Room.of(owner["spec"], replicas_of(owner["spec"]))
        total = len(self.every("roleset", owner)) + len(step.indexes)
        check(total <= room.most, f"{total} RoleSets, at most {room.most} may be")
        only = self.storm["status"]["currentRevision"] == self.failed
        check(step.revision != self.failed or only, f"{step.revision} has failed and gets a RoleSet")
        self._unpaused(owner, lambda alive: alive + len(step.indexes) <= room.wanted)
        taken = {found["metadata"]["annotations"][labels.ROLESET_INDEX] for found in self.every("roleset", owner)}
        for index in step.indexes:
            check(str(index) not in taken, f"roleset-index {index} is given twice")
            taken.add(str(index))
            metadata = {
                "labels": {labels.STORM_SERVICE_NAME: "s", labels.STORM_SERVICE_REVISION: step.revision},
                "annotations": {labels.ROLESET_INDEX: str(index), labels.REVISION: step.revision},
                "finalizers": [labels.ROLESET_FINALIZER],
            }
            spec = self._template(owner, step.revision)
            parts = {"apiVersion": labels.ORCHESTRATION_API, "kind": "RoleSet", "metadata": metadata, "spec": spec}
            self.add("roleset", f"r{self.made}", owner, **parts)

    def _update_rolesets(self, owner: Json, step: Any) -> None:
        room = Room.of(owner["spec"], replicas_of(owner["spec"]))
        alive = [found for found in self.every("roleset", owner) if not is_leaving(found)]
        hit = [self.objects["roleset", target.name] for target in step.targets]
        template = self._template(owner, step.revision)
        rolled = [found for found in hit if shapes_of(found["spec"]) != shapes_of(template)]
        if rolled:
            check(not owner["spec"].get("paused"), "a paused StormService rewrites RoleSets")
            check(step.revision != self.failed, f"{step.revision} has failed and RoleSets are rewritten to it")
            floor = room.wanted - max(1, room.unavailable)
            self._keeps_floor(alive, rolled, floor, self.is_roleset_available, "RoleSets")
        for found in hit:
            spec = self._template(owner, step.revision)
            if spec != found["spec"]:
                found["spec"] = spec
                found["metadata"]["generation"] += 1
            found["metadata"]["labels"][labels.STORM_SERVICE_REVISION] = step.revision
            found["metadata"]["annotations"][labels.REVISION] = step.revision
            self.touch(found)

    def _delete_rolesets(self, owner: Json, step: Any) -> None:
        alive = [found for found in self.every("roleset", owner) if not is_leaving(found)]
        hit = [found for target in step.targets if (found := self.objects.get(("roleset", target.name))) is not None]
        if not is_leaving(owner):
            room = Room.of(owner["spec"], replicas_of(owner["spec"]))
            self._unpaused(owner, lambda count: count - len(hit) >= room.wanted)
            self._keeps_floor(alive, hit, room.floor, self.is_roleset_available, "RoleSets")
        for found in hit:
            self.remove("roleset", found["metadata"]["name"])

    def _unpaused(self, owner: Json, still_right: Callable[[int], bool]) -> None:
        alive = [found for found in self.every("roleset", owner) if not is_leaving(found)]
        check(not owner["spec"].get("paused") or still_right(len(alive)), "a paused StormService goes on rolling")

    def _start_rollout(self, owner: Json, step: Any) -> None:
        check(self.rollout is None, "two rollouts at once")
        self.rollout = step.revision

    def _close_rollout(self, owner: Json, step: Any) -> None:
        self.memories.pop((STORM, "s", self.rollout), None)
        self.rollout = None

    def _keeps_floor(
        self, alive: Sequence[Json], hit: Sequence[Json], floor: int, available: Callable[[Json], bool], what: str
    ) -> None:
        names = {found["metadata"]["name"] for found in hit}
        before = sum(map(available, alive))
        after = sum(available(found) for found in alive if found["metadata"]["name"] not in names)
        check(after >= min(before, floor), f"{what}: {before} to {after} available, the floor is {floor}")
