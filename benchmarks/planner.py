"""How long one plan takes: a RoleSet of 2,000 pods, and a StormService of 200 RoleSets in mid-rollout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from benchmarks.figure import Figure
from crds import labels
from planning import names
from planning.planner import World
from planning.registry import PLANNERS
from planning.render import render_pod, render_revision, render_roleset
from planning.wire import CreateRevision, Memory, Ref

Json = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PODS = 2000
ROLESETS = 200
REPEATS = 7
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


def figures() -> Iterator[Figure]:
    """The fastest of a few runs, in milliseconds."""
    for stateful in (False, True):
        world = roleset_world(stateful=stateful)
        kind = "stateful" if stateful else "stateless"
        yield Figure(f"plan of {PODS:,} {kind} pods", milliseconds("roleset", world), "ms", "below 100")
    world, rollout = storm_world()
    yield Figure(f"plan of {ROLESETS} RoleSets in mid-rollout", milliseconds("stormservice", world, rollout), "ms")


def milliseconds(kind: str, world: World, rollout: str | None = None) -> float:
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        PLANNERS[kind].plan(world, Memory(), rollout)
        taken.append(time.perf_counter() - start)
    return min(taken) * 1000


def metadata(name: str) -> Json:
    found = {"name": name, "namespace": "default", "uid": f"{name}-uid", "generation": 1, "resourceVersion": "1"}
    return found | {"creationTimestamp": "2026-01-01T00:00:00Z"}


def role(image: str, *, replicas: int, stateful: bool = False) -> Json:
    containers = [{"name": "engine", "image": image, "args": ["--flag"] * 40}]
    template = {"metadata": {"labels": {"app": "b"}}, "spec": {"containers": containers}}
    return {"name": "worker", "replicas": replicas, "stateful": stateful, "template": template}


def roleset_world(*, stateful: bool) -> World:
    """Half of the pods are outdated."""
    roleset = {"metadata": metadata("set"), "spec": {"roles": [role("v1", replicas=PODS, stateful=stateful)]}}
    updated = deepcopy(roleset)
    updated["spec"]["roles"] = [role("v2", replicas=PODS, stateful=stateful)]
    pods = []
    for place in range(PODS):
        slot = place if stateful else None
        pod = render_pod(updated if place % 2 else roleset, "worker", name=f"set-worker-{place}", slot=slot)
        pod["metadata"] |= metadata(pod["metadata"]["name"])
        pods.append(pod | {"status": READY})
    ref = Ref(kind="roleset", namespace="default", name="set", uid="set-uid")
    return World(ref, updated, {"pod": pods}, NOW)


def storm_world() -> tuple[World, str]:
    """A StormService half way to its second revision, and that revision's name."""
    storms = [_storm(image) for image in ("v1", "v2")]
    revisions = [_revision(storm, number) for number, storm in enumerate(storms, 1)]
    rolesets = []
    for place in range(ROLESETS):
        made = render_roleset(storms[place % 2], revisions[place % 2], place, f"storm-roleset-{place}")
        made["metadata"] |= metadata(made["metadata"]["name"])
        rolesets.append(made | {"status": {"conditions": READY["conditions"], "roles": []}})
    ref = Ref(kind="stormservice", namespace="default", name="storm", uid="storm-uid")
    children = {"roleset": rolesets, "controllerrevision": revisions}
    return World(ref, storms[1], children, NOW), revisions[1]["metadata"]["name"]


def _storm(image: str) -> Json:
    template = {"metadata": {"labels": {"app": "b"}}, "spec": {"roles": [role(image, replicas=10)]}}
    spec = {"replicas": ROLESETS, "selector": {"matchLabels": {"app": "b"}}, "template": template}
    return {"metadata": metadata("storm"), "spec": spec}


def _revision(storm: Json, number: int) -> Json:
    digest = names.template_digest(storm["spec"]["template"])
    found = names.short_hash(digest)
    step = CreateRevision(name=names.revision_name("storm", found), revision=number, hash=found, digest=digest)
    made = render_revision(storm, step)
    made["metadata"] |= metadata(step.name)
    made["metadata"]["labels"] |= {labels.NAME: "storm"}
    return made
