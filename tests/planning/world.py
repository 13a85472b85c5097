"""A world for planners: objects as the API server would hold them, decisions carried out at once, no processes.

The test decides what happens between passes: deletions end, pods become ready or fail, time passes.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from activities.store import owner_key
from crds import labels
from planning import gang, names
from planning.backoff import after, step_key
from planning.budgets import render_budget
from planning.objects import format_time, is_deleting, labels_of, name_of, uid_of
from planning.planner import Plan, World
from planning.registry import PLANNERS
from planning.render import (
    owner_reference,
    render_pod,
    render_revision,
    render_roleset,
    render_service,
    roleset_at,
    roleset_update,
)
from planning.render_groups import mutable_fields, render_group_pod, render_podset
from planning.wire import Cause, Decision, Done, Failed, Memory, Ref, RolloutResult
from tests.planning.world_pods import PodActions

Json = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
OWNED = {
    "stormservice": ("roleset", "controllerrevision", "service", "poddisruptionbudget"),
    "roleset": ("pod", "podset", "poddisruptionbudget"),
    "podset": ("pod",),
}


def pod_template(image: str = "engine:v1", **env: str) -> Json:
    return {
        "metadata": {"labels": {"app": "test", "model.aibrix.ai/name": "m"}},
        "spec": {
            "containers": [{"name": "engine", "image": image, "env": [{"name": k, "value": v} for k, v in env.items()]}]
        },
    }


def role(name: str = "worker", replicas: int = 1, image: str = "engine:v1", **fields: Any) -> Json:
    strategy = {k: fields.pop(k) for k in ("type", "maxSurge", "maxUnavailable") if k in fields}
    found = {"name": name, "replicas": replicas, "template": pod_template(image), **fields}
    return found | ({"updateStrategy": {"type": "Recreate", **strategy}} if strategy else {})


def storm(
    *roles: Json, replicas: int | None = 1, name: str = "storm", update_strategy: str = "Sequential", **spec: Any
) -> Json:
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "StormService",
        "metadata": {"name": name, "namespace": "default", "uid": "storm-uid", "generation": 1, "resourceVersion": "1"},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "selector": {"matchLabels": {"app": "test"}},
            "template": {
                "metadata": {"labels": {"app": "test"}},
                "spec": {"updateStrategy": update_strategy, "roles": list(roles)},
            },
            **spec,
        },
    }


def roleset(*roles: Json, name: str = "set", update_strategy: str = "Sequential", **metadata: Any) -> Json:
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "RoleSet",
        "metadata": {
            "name": name, "namespace": "default", "uid": f"{name}-uid", "generation": 1, "resourceVersion": "1",
            "finalizers": ["orchestration.aibrix.ai/roleset-finalizer"], **metadata,
        },
        "spec": {"updateStrategy": update_strategy, "roles": list(roles)},
    }  # fmt: skip


def podset(name: str = "group", size: int = 3, policy: str = "ReplaceUnhealthy", **spec: Any) -> Json:
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "PodSet",
        "metadata": {
            "name": name, "namespace": "default", "uid": f"{name}-uid", "generation": 1, "resourceVersion": "1",
            "finalizers": ["orchestration.aibrix.ai/podset-finalizer"],
        },
        "spec": {"podGroupSize": size, "recoveryPolicy": policy, "template": pod_template(), **spec},
    }  # fmt: skip


class Cluster(PodActions):
    """All objects, keyed by (resource key, name), and the memories of their workflows."""

    def __init__(self, *roots: Json, fail: dict[str, str] | None = None) -> None:
        self.now = START
        self.objects: dict[tuple[str, str], Json] = {}
        self.memories: dict[str, Memory] = {}
        self.rollouts: list[RolloutResult] = []
        self.rollout: str | None = None
        self.decisions: list[tuple[str, Decision]] = []
        self.events: list[tuple[str, str, str]] = []
        self.fail = fail or {}
        self.cause: Cause = "quota"
        self.said: list[tuple[str, str]] = []
        self.statuses = 0
        self.closed: set[str] = set()
        self.pod_groups: tuple[str, ...] = ()
        self.told: list[str] = []
        self._count = itertools.count(1)
        for root in roots:
            self.objects[root["kind"].lower(), name_of(root)] = deepcopy(root)

    # Reading.

    def all(self, key: str) -> list[Json]:
        return [found for (kind, _), found in self.objects.items() if kind == key]

    def get(self, key: str, name: str) -> Json:
        return self.objects[key, name]

    @property
    def storm(self) -> Json:
        return self.all("stormservice")[0]

    def children(self, key: str, uid: str) -> dict[str, list[Json]]:
        return {
            child: [
                found
                for found in self.all(child)
                if any(o["uid"] == uid for o in found["metadata"].get("ownerReferences", ()))
            ]
            for child in (*OWNED[key], *(self.pod_groups if key != "stormservice" else ()))
        }

    def ownerless(self, key: str, name: str) -> dict[str, list[Json]]:
        """What the loop shows of objects without a controller: those made for, or called like, the asking object."""
        return {
            resource.key: [
                found
                for found in self.all(resource.key)
                if not found["metadata"].get("ownerReferences") and owner_key(found) == f"default/{name}"
            ]
            for resource in getattr(PLANNERS[key], "adopts", ())
        }

    def memory(self, key: str, name: str) -> Memory:
        scope = f"{key}/{name}" + (f"/{self.rollout}" if key == "stormservice" and self.rollout else "")
        return self.memories.get(scope, Memory())

    # Editing, as a user does.

    def edit(self, key: str = "stormservice", name: str = "storm") -> Json:
        found = self.objects[key, name]
        found["metadata"]["generation"] += 1
        return found["spec"]

    def delete(self, key: str, name: str, *, after: timedelta = timedelta()) -> None:
        found = self.objects.get((key, name))
        if found is None or is_deleting(found):
            return
        if key != "pod" and not found["metadata"].get("finalizers"):
            del self.objects[key, name]
            return
        found["metadata"]["deletionTimestamp"] = format_time(self.now + after)

    # What happens outside the planners.

    def finish_deletions(self) -> None:
        for (key, name), found in list(self.objects.items()):
            if is_deleting(found) and not found["metadata"].get("finalizers"):
                del self.objects[key, name]

    def make_ready(self, *names_: str) -> None:
        for pod in self.all("pod"):
            if (
                not is_deleting(pod)
                and (not names_ or name_of(pod) in names_)
                and pod.get("status", {}).get("phase") != "Failed"
            ):
                set_ready(pod, True)

    # Planning.

    def plan(self, key: str, name: str) -> Plan:
        """One pass, with the status written until only a decision is left, as the loop does."""
        found = self.objects.get((key, name))
        uid = uid_of(found) if found is not None else "gone"
        ref = Ref(kind=key, namespace="default", name=name, uid=uid)
        while True:
            world = World(ref, deepcopy(found), self.children(key, uid), self.now, self.ownerless(key, name))
            before = deepcopy(world)
            scope = self.rollout if key == "stormservice" else None
            plan = PLANNERS[key].plan(world, self.memory(key, name), scope)
            assert world == before, "a planner changed what it was shown"
            if found is None or plan.status is None or plan.status == found.get("status"):
                return plan
            found["status"] = deepcopy(plan.status)
            self.statuses += 1
            self.events += plan.events
            if plan.decision is not None:
                return plan

    def step(self, key: str, name: str) -> Decision | None:
        """One pass, its decision carried out."""
        decision = self.plan(key, name).decision
        if decision is None:
            return None
        self.decisions.append((key, decision))
        scope = f"{key}/{name}" + (f"/{self.rollout}" if key == "stormservice" and self.rollout else "")
        memory = self.memory(key, name)
        outcomes = []
        for step in decision.steps:
            outcome = self._carry_out(key, name, step, memory)
            outcomes.append(outcome)
            if isinstance(outcome, Failed):
                break
        if scope not in self.closed:
            self.memories[scope] = after(memory, decision, outcomes, self.now)
        self.closed.discard(scope)
        return decision

    def run(self, limit: int = 200) -> int:
        """Steps of all objects until none changes anything; deletions end at once, pods stay as they are."""
        for turn in range(limit):
            before = self.statuses
            acted = [self.step(key, name) for key, name in list(self.objects) if key in OWNED]
            self.finish_deletions()
            if not any(acted) and self.statuses == before:
                return turn
        raise AssertionError(f"no end after {limit} turns: {self.decisions[-1]}")

    def settle(self, limit: int = 100) -> None:
        """Everything that is created becomes ready, until nothing is left to do."""
        for _ in range(limit):
            before = len(self.decisions)
            self.run()
            self.make_ready()
            self.run()
            if len(self.decisions) == before:
                return
        raise AssertionError(f"does not settle: {self.decisions[-1]}")

    def _carry_out(self, key: str, name: str, step: Any, memory: Memory) -> Done | Failed:
        if message := self.fail.get(step_key(step)):
            return Failed(step=step_key(step), cause=self.cause, message=message)
        found = self.objects.get((key, name))
        handler = getattr(self, "_" + step.type.replace("-", "_"))
        handler(found, step, memory)
        self.told += [told.reason for told in getattr(step, "tells", ())]
        return Done(step=step_key(step))

    def _add(self, key: str, body: Json) -> None:
        assert (key, name_of(body)) not in self.objects, f"{key} {name_of(body)} exists"
        number = next(self._count)
        metadata = {"uid": f"uid-{number}", "generation": 1, "resourceVersion": str(number)}
        body["metadata"] |= metadata | {"creationTimestamp": format_time(self.now)}
        self.now += timedelta(seconds=1)
        self.objects[key, name_of(body)] = body

    def _suffix(self, parent: Json, memory: Memory) -> str:
        return names.suffix(uid_of(parent), "run", memory.number, next(self._count))

    def _add_finalizer(self, found: Json, step: Any, memory: Memory) -> None:
        found["metadata"].setdefault("finalizers", []).append(step.finalizer)

    def _release_finalizer(self, found: Json, step: Any, memory: Memory) -> None:
        found["metadata"]["finalizers"].remove(step.finalizer)

    def _create_revision(self, found: Json, step: Any, memory: Memory) -> None:
        self._add("controllerrevision", render_revision(found, step))

    def _renumber_revision(self, found: Json, step: Any, memory: Memory) -> None:
        self.get("controllerrevision", step.target.name)["revision"] = step.revision

    def _delete_revisions(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            del self.objects["controllerrevision", target.name]

    def _apply_service(self, found: Json, step: Any, memory: Memory) -> None:
        self.objects.pop(("service", step.name), None)
        self._add("service", render_service(found))

    def _apply_budget(self, found: Json, step: Any, memory: Memory) -> None:
        self.objects.pop(("poddisruptionbudget", step.name), None)
        self._add("poddisruptionbudget", render_budget(found, found["apiVersion"], found["kind"], step))

    def _delete_budgets(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            del self.objects["poddisruptionbudget", target.name]

    def _adopt(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            live = self.get(step.kind, target.name)
            assert live["metadata"]["resourceVersion"] == target.resource_version != ""
            live["metadata"]["ownerReferences"] = [owner_reference(found, found["apiVersion"], found["kind"])]

    def _create_rolesets(self, found: Json, step: Any, memory: Memory) -> None:
        for index in step.indexes:
            name = names.roleset_name(name_of(found), self._suffix(found, memory))
            self._add("roleset", render_roleset(found, self.get("controllerrevision", step.revision), index, name))

    def _update_rolesets(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            live = self.get("roleset", target.name)
            patch = roleset_update(found, self.get("controllerrevision", step.revision), live)
            before = deepcopy(live["spec"])
            merge(
                live, {"metadata": {k: patch["metadata"][k] for k in ("labels", "annotations")}, "spec": patch["spec"]}
            )
            live["metadata"]["generation"] += live["spec"] != before

    def _delete_rolesets(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            self.delete("roleset", target.name)

    def _create_pods(self, found: Json, step: Any, memory: Memory) -> None:
        if step.revision:
            found = roleset_at(found, self.get("controllerrevision", step.revision), step.role)
        made = [
            (names.stateful_pod_name(name_of(found), step.role, step.template_hash, slot), slot) for slot in step.slots
        ]
        made += [
            (names.stateless_pod_name(name_of(found), step.role, self._suffix(found, memory)), None)
            for _ in range(step.count)
        ]
        for name, slot in made:
            pod = render_pod(found, step.role, name=name, slot=slot)
            assert pod["metadata"]["labels"][labels.ROLE_TEMPLATE_HASH] == step.template_hash
            self._add("pod", pod)
            self._gate(pod, True)

    def _delete_pods(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            self.delete("pod", target.name, after=timedelta(seconds=max(30, step.grace_seconds)))

    def _create_podsets(self, found: Json, step: Any, memory: Memory) -> None:
        for slot in step.slots:
            self._add("podset", render_podset(found, step.role, slot))

    def _update_podsets(self, found: Json, step: Any, memory: Memory) -> None:
        roles = {role["name"]: role for role in found["spec"]["roles"]}
        for target in step.targets:
            live = self.get("podset", target.name)["spec"]
            live.pop("schedulingStrategy", None)
            live |= deepcopy(mutable_fields(roles[step.role]))

    def _delete_podsets(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            self.delete("podset", target.name)

    def _create_group_pods(self, found: Json, step: Any, memory: Memory) -> None:
        for index in step.indexes:
            self._add("pod", render_group_pod(found, index, step.restarts))

    def _delete_group_pods(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            self.delete("pod", target.name, after=timedelta(seconds=30))

    def _apply_pod_group(self, found: Json, step: Any, memory: Memory) -> None:
        scheduler = gang.scheduler_named(step.scheduler)
        assert scheduler is not None
        body = gang.render_pod_group(found, scheduler)
        live = self.objects.get((scheduler.resource.key, name_of(body)))
        if live is None:
            self._add(scheduler.resource.key, body)
        else:
            live["spec"] |= body["spec"]
            live["metadata"] |= body["metadata"]

    def _delete_pod_groups(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            del self.objects[f"podgroup.{step.scheduler}", target.name]

    def _start_rollout(self, found: Json, step: Any, memory: Memory) -> None:
        self.rollout = step.revision

    def _close_rollout(self, found: Json, step: Any, memory: Memory) -> None:
        assert self.rollout is not None
        self.closed.add(f"stormservice/{name_of(found)}/{self.rollout}")
        self.memories.pop(f"stormservice/{name_of(found)}/{self.rollout}", None)
        self.rollouts.append(RolloutResult(result=step.result, revision=self.rollout, message=step.message))
        self.rollout = None

    def _close_object(self, found: Json, step: Any, memory: Memory) -> None:
        raise AssertionError("objects of this world close when they are gone")


def merge(live: Json, patch: Json) -> None:
    """RFC 7396."""
    for key, value in patch.items():
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            merge(live[key], value)
        else:
            live[key] = deepcopy(value)


def set_ready(found: Json, ready: bool) -> None:
    status = found.setdefault("status", {})
    status["phase"] = "Running"
    status["conditions"] = [{"type": "Ready", "status": "True" if ready else "False"}]


def role_of(pod: Json) -> str:
    return labels_of(pod)["role-name"]
