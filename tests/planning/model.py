"""A model cluster for planners: it knows Kubernetes and the wire's steps, and nothing of how planners decide.

Objects, budgets, availability and equality of templates are worked out here anew, from the documents: a mistake that
planner and cluster shared would find itself. Only `plan(world, memory, rollout)` is called; steps are carried out one
after another, and before each the rule that it must keep is checked:

| rule | where it does not hold, and why |
|---|---|
| creating takes no total above N + surge | - |
| deleting takes no available member below N - unavailable | the member's role or object is gone from the spec; a slot from N on |
| nothing available and up to date goes while no more than N of them are there | as above |
| a paused StormService of the right size is left as it is | replicas of roles follow their live number |
"""  # noqa: E501 - a table row is one line

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from crds import labels
from planning.planner import World
from planning.registry import PLANNERS
from planning.wire import Decision, Memory, Ref

Json = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACE = "default"
GRACE = timedelta(seconds=30)
STORM = "stormservice"


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Room:
    """N, surge and unavailable of a role or a StormService, whole numbers only; both 0 mean one unavailable."""

    wanted: int
    surge: int
    unavailable: int

    @classmethod
    def of(cls, spec: Json, wanted: int) -> Room:
        strategy = spec.get("updateStrategy") or {}
        surge, unavailable = int(strategy.get("maxSurge") or 0), int(strategy.get("maxUnavailable") or 0)
        if not surge and not unavailable:
            unavailable = 1
        return cls(wanted, surge if wanted else 0, min(unavailable, wanted))

    @property
    def floor(self) -> int:
        return self.wanted - self.unavailable

    @property
    def most(self) -> int:
        return self.wanted + self.surge


class Broken(AssertionError):
    """A step broke a rule of the table above."""


@dataclass
class ModelCluster:
    """All objects by (kind, name), with what only the model knows of each: a pod's template in `templates`."""

    now: datetime = START
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    templates: dict[str, Json] = field(default_factory=dict)
    memories: dict[tuple[str, str, str | None], Memory] = field(default_factory=dict)
    rollout: str | None = None
    log: list[str] = field(default_factory=list)
    made: int = 0

    # --- objects ----------------------------------------------------------------------------------------------------

    def add(self, key: str, name: str, owner: Json | None = None, /, **parts: Any) -> Json:
        if (key, name) in self.objects:
            raise Broken(f"{key} {name} is created twice")
        self.made += 1
        metadata: Json = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{self.made}",
            "generation": 1,
            "resourceVersion": str(self.made),
            "creationTimestamp": stamp(self.now),
            **parts.pop("metadata", {}),
        }
        if owner is not None:
            reference = {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
            metadata["ownerReferences"] = [{**reference, "controller": True}]
        found = {"metadata": metadata, **parts}
        self.objects[key, name] = found
        return found

    def every(self, kind: str, owner: Json | None = None) -> list[Json]:
        uid = owner["metadata"]["uid"] if owner is not None else None
        return [
            found
            for (key, _), found in sorted(self.objects.items())
            if key == kind
            and (uid is None or any(o["uid"] == uid for o in found["metadata"].get("ownerReferences", ())))
        ]

    @property
    def storm(self) -> Json:
        return self.objects[STORM, "s"]

    def touch(self, found: Json) -> None:
        self.made += 1
        found["metadata"]["resourceVersion"] = str(self.made)

    def remove(self, kind: str, name: str, after: timedelta = timedelta()) -> None:
        found = self.objects.get((kind, name))
        if found is not None and not is_leaving(found):
            found["metadata"]["deletionTimestamp"] = stamp(self.now + after)
            self.touch(found)

    def finish(self, name: str) -> None:
        """The kubelet is done with a pod that leaves."""
        found = self.objects.get(("pod", name))
        if found is not None and is_leaving(found):
            del self.objects["pod", name]

    def collect(self) -> None:
        """The API server forgets what is deleted and held by no finalizer."""
        for (kind, name), found in list(self.objects.items()):
            if kind != "pod" and is_leaving(found) and not found["metadata"].get("finalizers"):
                del self.objects[kind, name]

    # --- what is true, whatever a status says -----------------------------------------------------------------------

    def is_available(self, pod: Json, role: Json) -> bool:
        """Ready for the role's minReadySeconds, and neither leaving nor ended."""
        status = pod.get("status") or {}
        if is_leaving(pod) or status.get("phase") in ("Failed", "Succeeded"):
            return False
        ready = [
            each for each in status.get("conditions") or () if each["type"] == "Ready" and each["status"] == "True"
        ]
        lasts = timedelta(seconds=int(role.get("minReadySeconds") or 0))
        return bool(ready) and datetime.fromisoformat(ready[0]["lastTransitionTime"]) + lasts <= self.now

    def pods_of(self, roleset: Json, role: str) -> list[Json]:
        return [pod for pod in self.every("pod", roleset) if pod["metadata"]["labels"][labels.ROLE_NAME] == role]

    def is_current(self, pod: Json, role: Json) -> bool:
        return self.templates[pod["metadata"]["uid"]] == role["template"]

    def serving(self, role: Json, pods: Iterable[Json]) -> int:
        """Available pods; of a stateful role the slots below N that have one."""
        found = [pod for pod in pods if self.is_available(pod, role)]
        if role.get("stateful"):
            return len({slot for pod in found if (slot := slot_of(pod)) is not None and slot < replicas_of(role)})
        return len(found)

    def is_roleset_available(self, roleset: Json) -> bool:
        roles = roleset["spec"]["roles"]
        full = all(self.serving(role, self.pods_of(roleset, role["name"])) >= replicas_of(role) for role in roles)
        return full and not is_leaving(roleset)

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
        decision = self.look(kind, name)
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
        """One pass of every workflow: RoleSets first, so that the StormService sees true statuses."""
        acted = [self.act("roleset", found["metadata"]["name"], at_most=at_most) for found in self.every("roleset")]
        for found in self.every("roleset"):
            self.look("roleset", found["metadata"]["name"])
        return any([*acted, self.act(STORM, "s", at_most=at_most)])

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
        rolled = [found for found in hit if revision_of(found) != step.revision]
        if rolled:
            check(not owner["spec"].get("paused"), "a paused StormService rewrites RoleSets")
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

    # --- steps on a RoleSet -----------------------------------------------------------------------------------------

    def _create_pods(self, owner: Json, step: Any) -> None:
        role = role_of(owner, step.role)
        room = Room.of(role, replicas_of(role))
        held = [pod for pod in self.pods_of(owner, step.role) if not self._is_lost(pod)]
        total = len(held) + (len(step.slots) or step.count)
        check(total <= room.most, f"{total} pods of {step.role}, at most {room.most} may be")
        check(not is_leaving(owner), "a RoleSet that leaves creates pods")
        for slot in step.slots:
            self._pod(owner, role, step, f"{owner['metadata']['name']}-{step.role}-{step.template_hash}-{slot}", slot)
        for _ in range(step.count):
            self._pod(owner, role, step, f"{owner['metadata']['name']}-{step.role}-{self.made}", None)

    def _is_lost(self, pod: Json) -> bool:
        """Ended, or overdue on a node that nobody hears of: the place may be filled."""
        ended = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
        until = pod["metadata"].get("deletionTimestamp")
        return ended or (until is not None and datetime.fromisoformat(until) + timedelta(minutes=2) <= self.now)

    def _pod(self, owner: Json, role: Json, step: Any, name: str, slot: int | None) -> None:
        marks = {
            labels.ROLE_NAME: role["name"],
            labels.ROLESET_NAME: owner["metadata"]["name"],
            labels.ROLE_TEMPLATE_HASH: step.template_hash,
        }
        index = {labels.ROLE_REPLICA_INDEX: str(slot)} if slot is not None else {}
        made = self.add(
            "pod",
            name,
            owner,
            kind="Pod",
            metadata={"labels": marks | index, "annotations": dict(index)},
            spec=deepcopy(role["template"].get("spec") or {}),
            status={"phase": "Pending"},
        )
        self.templates[made["metadata"]["uid"]] = deepcopy(role["template"])

    def _delete_pods(self, owner: Json, step: Any) -> None:
        hit = [found for target in step.targets if (found := self.objects.get(("pod", target.name))) is not None]
        role = next((each for each in owner["spec"]["roles"] if each["name"] == step.role), None)
        if role is not None and not is_leaving(owner):
            self._spares(owner, role, hit)
        for pod in hit:
            self.remove("pod", pod["metadata"]["name"], after=GRACE)

    def _spares(self, owner: Json, role: Json, hit: Sequence[Json]) -> None:
        room, pods = Room.of(role, replicas_of(role)), self.pods_of(owner, role["name"])
        names = {pod["metadata"]["name"] for pod in hit}
        kept = [pod for pod in pods if pod["metadata"]["name"] not in names]
        before, after = self.serving(role, pods), self.serving(role, kept)
        check(after >= min(before, room.floor), f"{role['name']}: {before} to {after} available, floor {room.floor}")
        updated = [self.serving(role, [pod for pod in group if self.is_current(pod, role)]) for group in (pods, kept)]
        check(updated[1] >= min(updated[0], room.wanted), f"{role['name']}: an untouched pod goes, {updated}")

    def _keeps_floor(
        self, alive: Sequence[Json], hit: Sequence[Json], floor: int, available: Callable[[Json], bool], what: str
    ) -> None:
        names = {found["metadata"]["name"] for found in hit}
        before = sum(map(available, alive))
        after = sum(available(found) for found in alive if found["metadata"]["name"] not in names)
        check(after >= min(before, floor), f"{what}: {before} to {after} available, the floor is {floor}")


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)


def is_leaving(found: Json) -> bool:
    return "deletionTimestamp" in found["metadata"]


def replicas_of(spec: Json) -> int:
    value = spec.get("replicas")
    return 1 if value is None else int(value)


def revision_of(roleset: Json) -> str:
    return str(roleset["metadata"]["labels"].get(labels.STORM_SERVICE_REVISION, ""))


def role_of(roleset: Json, name: str) -> Json:
    return next(role for role in roleset["spec"]["roles"] if role["name"] == name)


def slot_of(pod: Json) -> int | None:
    text = pod["metadata"]["annotations"].get(labels.ROLE_REPLICA_INDEX)
    return int(text) if text is not None else None


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if not key.startswith("last")}
    return [without_times(each) for each in value] if isinstance(value, list) else value
