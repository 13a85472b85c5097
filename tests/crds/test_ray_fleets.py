"""Ray fleets on the real API server, by an operator with the rights that are shipped (CRD cases B28, B29, D6).

KubeRay's kind is not ours to ship: a definition that takes any object stands for it, and the test is its operator.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from activities.events import EVENTS
from planning.render_ray import RAY_CLUSTER, RAY_FLEET, RAY_REPLICA_SET
from tests.crds.objects import ray, stand_in
from tests.workflows.rig import World, eventually, names

Json = dict[str, Any]
PREFIX = "deployment.kubernetes.io"
FLEET_LABEL = "orchestration.aibrix.ai/raycluster-fleet-name"
COST = "controller.kubernetes.io/pod-deletion-cost"
QUARTERS = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}


@pytest.fixture(scope="module")
def kuberay(control_plane):
    manifest = yaml.safe_dump(stand_in("rayclusters.ray.io", "v1", "RayCluster"))
    control_plane.kubectl("apply", "--server-side", "-f", "-", input=manifest)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=50s", "-f", "-", input=manifest)
    yield
    control_plane.kubectl("delete", "-f", "-", "--wait=false", input=manifest)


def named(body: Json, name: str, **metadata: Any) -> Json:
    return body | {"metadata": {"name": name, **metadata}}


async def clusters(world: World, count: int) -> list[Json] | None:
    found = await world.all(RAY_CLUSTER)
    return found if len(found) == count else None


async def provision(world: World, name: str, workers: int = 1) -> None:
    """Do KubeRay's part: the cluster is up."""
    true = {"status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [{"type": kind, **true} for kind in ("RayClusterProvisioned", "HeadPodReady")]
    status = {"conditions": conditions, "readyWorkerReplicas": workers, "desiredWorkerReplicas": 1}
    await world.patch(RAY_CLUSTER, name, {"status": status})


async def status_of(world: World, resource: Any, name: str) -> Json:
    found = await world.get(resource, name) or {"metadata": {"generation": -1}}
    status = found.get("status") or {}
    return status if status.get("observedGeneration") == found["metadata"]["generation"] else {}


async def test_d6_without_kuberay_a_replica_set_says_so_and_goes_on_once_it_is_there(
    world, webhooks, operator, request, monkeypatch
):
    monkeypatch.setattr("activities.informer.ABSENT_SECONDS", 0.3)
    await world.client.create(RAY_REPLICA_SET, world.namespace, named(ray("RayClusterReplicaSet"), "early"))

    async def told() -> bool:
        found = await status_of(world, RAY_REPLICA_SET, "early")
        return any("install KubeRay" in each["message"] for each in found.get("conditions") or ())

    await eventually(told, what="the status says what is missing")
    request.getfixturevalue("kuberay")
    await eventually(lambda: clusters(world, 1), what="its cluster is made as soon as the kind is served")


async def test_b28_of_four_clusters_those_go_first_that_serve_least(world, webhooks, kuberay, operator):
    replica_set = named(ray("RayClusterReplicaSet", replicas=4), "set")
    await world.client.create(RAY_REPLICA_SET, world.namespace, replica_set)
    made = await eventually(lambda: clusters(world, 4), what="four RayClusters")
    assert all(each["metadata"]["name"].startswith("set-") for each in made)
    assert all(each["metadata"]["labels"] == {"app": "t"} for each in made)
    starting, cheap, one, other = sorted(names(made))
    await world.patch(RAY_CLUSTER, starting, {"metadata": {"annotations": {COST: "1000"}}})
    await world.patch(RAY_CLUSTER, cheap, {"metadata": {"annotations": {COST: "-10"}}})
    for name in (cheap, one, other):
        await provision(world, name)

    async def ready() -> bool:
        found = await status_of(world, RAY_REPLICA_SET, "set")
        counts = tuple(found.get(key) for key in ("replicas", "fullyLabeledReplicas", "readyReplicas"))
        return counts == (4, 4, 3) and found["availableReplicas"] == 3

    await eventually(ready, what="the status counts them")
    for replicas, left in ((3, {cheap, one, other}), (2, {one, other})):
        await world.patch(RAY_REPLICA_SET, "set", {"spec": {"replicas": replicas}})
        found = await eventually(lambda count=replicas: clusters(world, count), what=f"{replicas} are left")
        assert names(found) == left
    ages = {each["metadata"]["name"]: each["metadata"]["creationTimestamp"] for each in found}
    first = min(ages, key=lambda name: (ages[name], name))
    await world.patch(RAY_REPLICA_SET, "set", {"spec": {"replicas": 1}})
    found = await eventually(lambda: clusters(world, 1), what="one is left")
    assert names(found) == {one, other} - {first}, "the older goes; of two of one age the first by name"


async def test_b29_a_fleet_has_one_replica_set_with_its_numbers_and_rolls(world, webhooks, kuberay, operator):
    """And Ray cases 18, 19, 21, 22, 30 and 38 on the way."""
    everything = named(ray("RayClusterFleet", selector={}), "all")
    await world.client.create(RAY_FLEET, world.namespace, everything)
    fleet = named(ray("RayClusterFleet", replicas=1, strategy=QUARTERS), "fleet", annotations={"a": "b"})
    await world.client.create(RAY_FLEET, world.namespace, fleet)
    (cluster,) = await eventually(lambda: clusters(world, 1), what="one RayCluster")
    (found,) = await world.all(RAY_REPLICA_SET)
    name, own = found["metadata"]["name"], found["metadata"]["labels"]["pod-template-hash"]
    assert name == f"fleet-{own}"
    assert len(own) == 6
    notes = found["metadata"]["annotations"]
    assert notes[f"{PREFIX}/desired-replicas"] == "1"
    assert notes[f"{PREFIX}/max-replicas"] == "2"
    assert (notes[f"{PREFIX}/revision"], notes["a"]) == ("1", "b")
    assert found["spec"]["selector"]["matchLabels"] == {"app": "t", "pod-template-hash": own}
    assert found["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == own
    head = cluster["spec"]["headGroupSpec"]["template"]
    assert head["metadata"]["labels"][FLEET_LABEL] == "fleet"
    assert await complete(world, cluster)
    status = await status_of(world, RAY_FLEET, "fleet")
    assert status["scalingTargetSelector"] == f"{FLEET_LABEL}=fleet,ray.io/node-type=head"

    image = {"spec": {"containers": [{"name": "c", "image": "second"}]}}
    spec = {"headGroupSpec": {"rayStartParams": {}, "template": image}}
    await world.patch(RAY_FLEET, "fleet", {"spec": {"template": {"spec": spec}}})
    both = await eventually(lambda: clusters(world, 2), what="the second version is made beside the first")
    new = next(each for each in both if each["metadata"]["name"] != cluster["metadata"]["name"])
    assert await complete(world, new)
    (left,) = await eventually(lambda: clusters(world, 1), what="the first version goes")
    assert left["metadata"]["name"] == new["metadata"]["name"]

    await world.patch(RAY_FLEET, "fleet", {"metadata": {"annotations": {"deprecated.deployment.rollback.to": "0"}}})

    async def back() -> bool:
        live = await world.client.get(RAY_FLEET, world.namespace, "fleet")
        template = live["spec"]["template"]
        asked = "deprecated.deployment.rollback.to" in live["metadata"]["annotations"]
        return template == fleet["spec"]["template"] and not asked

    await eventually(back, what="the first template is back, without what the fleet had added")

    async def told() -> bool:
        found = {each["reason"] for each in await world.all(EVENTS)}
        return {"SelectingAll", "ScalingReplicaSet", "DeploymentRollback"} <= found

    await eventually(told, what="the Events")
    assert {each["metadata"]["name"].split("-")[0] for each in await world.all(RAY_REPLICA_SET)} == {"fleet"}


async def complete(world: World, cluster: Json) -> bool:
    """The cluster is up, and the fleet says that it is what was asked for."""
    await provision(world, cluster["metadata"]["name"])

    async def done() -> bool:
        status = await status_of(world, RAY_FLEET, "fleet")
        reasons = {each["reason"] for each in status.get("conditions") or ()}
        return {"NewReplicaSetAvailable", "MinimumReplicasAvailable"} <= reasons

    return bool(await eventually(done, what="the fleet is complete"))
