"""PodSets, PodGroups and topology policies on the real parts (roleset spec cases 43, 47, 60 to 64)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from activities import informer
from activities.errors import KubeError
from activities.events import EVENTS
from activities.kube import MERGE_PATCH, path_of
from activities.resources import PODS, PODSETS, ROLESETS, STORM_SERVICES
from crds.labels import POD_GROUP_INDEX
from local.control_plane_only import ControlPlane
from planning.gang import SCHEDULERS
from planning.planner import Json, Resource
from tests.workflows.node import GATE, PaperNode
from tests.workflows.rig import World, eventually, pod_template, storm_service, uids
from tests.workflows.test_in_place import WARM, engine
from workflows.operator import Operator

DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
OPERATOR = "system:serviceaccount:aibrix-system:aibrix-controller-manager"
VOLCANO, COSCHEDULING = SCHEDULERS[2], SCHEDULERS[1]


def pod_set(name: str, size: int = 3, **spec: Any) -> Json:
    template = pod_template({"app": name}, "engine:v1")
    spec = {"podGroupSize": size, "template": template, **spec}
    return {"apiVersion": PODSETS.api_version, "kind": "PodSet", "metadata": {"name": name}, "spec": spec}


def role_set(name: str, role: Json, **spec: Any) -> Json:
    role = {"name": "worker", "replicas": 1, "template": pod_template({"app": name}, "engine:v1"), **role}
    metadata = {"name": name, "labels": {"storm-service-name": "storm"}}
    spec = {"roles": [role], **spec}
    return {"apiVersion": ROLESETS.api_version, "kind": "RoleSet", "metadata": metadata, "spec": spec}


async def events(world: World, about: str) -> Counter[str]:
    """How often each reason was told about an object of that name."""
    found: Counter[str] = Counter()
    for event in await world.all(EVENTS):
        if event["involvedObject"]["name"] == about:
            found[event["reason"]] += event.get("count", 1)
    return found


async def was_told(world: World, about: str, reason: str) -> bool:
    return (await events(world, about))[reason] > 0


async def phase(world: World, name: str) -> tuple[Any, Any, Any]:
    status = (await world.client.get(PODSETS, world.namespace, name)).get("status") or {}
    return status.get("phase"), status.get("readyPods"), status.get("totalPods")


async def is_at(world: World, name: str, *wanted: Any) -> bool:
    return await phase(world, name) == wanted


async def set_status(world: World, pod: str, status: Json) -> None:
    path = path_of(PODS, world.namespace, pod, "status")
    await world.client.call("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)


async def set_role(world: World, name: str, **fields: Any) -> None:
    live = await world.client.get(ROLESETS, world.namespace, name)
    roles = [live["spec"]["roles"][0] | fields]
    await world.patch(ROLESETS, name, {"spec": {"roles": roles}})


async def nothing_left(world: World) -> bool:
    return not [*await world.all(ROLESETS), *await world.all(PODSETS), *await world.all(PODS)]


async def test_64_a_pod_set_of_its_own_lives_and_goes(world: World, operator: Operator) -> None:
    await world.create(pod_set("group"))
    await eventually(lambda: is_at(world, "group", "Pending", 0, 3))
    indexes = {each["metadata"]["name"]: each["metadata"]["labels"][POD_GROUP_INDEX] for each in await world.all(PODS)}
    assert indexes == {"group-0": "0", "group-1": "1", "group-2": "2"}
    await world.make_ready()
    await eventually(lambda: is_at(world, "group", "Ready", 3, 3))
    await world.delete(PODSETS, "group")
    await eventually(lambda: nothing_left(world))
    assert (await events(world, "group"))["PodsCreated"] == 1


async def test_a_pod_that_was_evicted_is_replaced_and_its_peers_stay(world: World, operator: Operator) -> None:
    await world.create(pod_set("group"))
    await eventually(lambda: is_at(world, "group", "Pending", 0, 3))
    await world.make_ready()
    await eventually(lambda: is_at(world, "group", "Ready", 3, 3))
    before = uids(await world.all(PODS))
    await set_status(world, "group-1", {"phase": "Failed", "reason": "Evicted"})
    async with world.kubelet():
        await eventually(lambda: replaced(world, before, 1), what="one new pod")
        await eventually(lambda: is_at(world, "group", "Ready", 3, 3))
    await eventually(lambda: was_told(world, "group", "ReplacingUnhealthy"))
    told = await events(world, "group")
    assert (told["DeletingUnhealthyPods"], told["ReplacingUnhealthy"]) == (1, 1)


async def replaced(world: World, before: set[str], count: int) -> bool:
    after = uids(await world.all(PODS))
    return len(after) == len(before) and len(after - before) == count


async def test_a_rank_that_restarts_takes_its_group_along(world: World, operator: Operator) -> None:
    await world.create(pod_set("group", recoveryPolicy="Recreate"))
    await eventually(lambda: is_at(world, "group", "Pending", 0, 3))
    await world.make_ready()
    await eventually(lambda: is_at(world, "group", "Ready", 3, 3))
    before = uids(await world.all(PODS))
    container = {"name": "engine", "image": "e", "imageID": "e", "ready": True, "restartCount": 1}
    await set_status(world, "group-2", {"containerStatuses": [container]})
    async with world.kubelet():
        await eventually(lambda: replaced(world, before, 3), what="three new pods")
        await eventually(lambda: is_at(world, "group", "Ready", 3, 3))
    await eventually(lambda: was_told(world, "group", "RecreatingAllPods"))
    assert (await events(world, "group"))["RecreatingAllPods"] == 1


async def test_43_a_role_of_groups_is_replaced_and_says_once_that_it_is_not_updated_in_place(
    world: World, operator: Operator
) -> None:
    strategy = {"type": "InPlaceIfPossible", "maxSurge": 1, "maxUnavailable": 1}
    async with world.kubelet():
        await world.create(role_set("set", {"podGroupSize": 2, "updateStrategy": strategy}))
        await eventually(lambda: world.is_ready("set", ROLESETS))
        (before,) = await world.all(PODSETS)
        await set_role(world, "set", template=pod_template({"app": "set"}, "engine:v2"))
        await eventually(lambda: is_new(world, before), what="a new PodSet is ready")
        (after,) = await world.all(PODSETS)
        await eventually(lambda: world.is_ready("set", ROLESETS))
    hash_label = "role-template-hash"
    assert before["metadata"]["labels"][hash_label] != after["metadata"]["labels"][hash_label]
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "engine:v2"
    assert len(await world.all(PODS)) == 2
    told = [event for event in await world.all(EVENTS) if event["reason"] == "InPlaceFallback"]
    assert [event["count"] for event in told] == [1]
    assert "PodSet" in told[0]["message"]
    await world.delete(ROLESETS, "set")
    await eventually(lambda: nothing_left(world))


async def test_a_group_counts_once_its_first_pod_has_generated(world: World, operator: Operator) -> None:
    gated = pod_template({"app": "set"}, "engine:v1")
    gated["spec"]["readinessGates"] = [{"conditionType": GATE}]
    async with engine([503, 200]) as port, PaperNode(world, address="127.0.0.1").running():
        await world.create(role_set("set", {"podGroupSize": 2, "warmUp": {"port": port}, "template": gated}))
        await eventually(lambda: world.is_ready("set", ROLESETS))
        marks = {
            pod["metadata"]["name"][-2:]: '"done"' in pod["metadata"]["annotations"].get(WARM, "")
            for pod in await world.all(PODS)
        }
    assert marks == {"-0": True, "-1": False}


async def test_a_storm_service_of_groups_is_made_rolled_out_and_deleted(world: World, operator: Operator) -> None:
    async with world.kubelet():
        body = storm_service("llama", replicas=2)
        body["spec"]["template"]["spec"]["roles"][0]["podGroupSize"] = 2
        await world.create(body)
        await eventually(lambda: serves(world, "v1"), what="two RoleSets of one group of two pods")
        before = uids(await world.all(PODS))
        await world.set_image("llama", "v2")
        await eventually(lambda: serves(world, "v2"), what="all groups run v2")
        assert not before & uids(await world.all(PODS))
        await world.delete(STORM_SERVICES, "llama")
        await eventually(lambda: nothing_left(world))


async def serves(world: World, image: str) -> bool:
    pods, sets = await world.all(PODS), await world.all(PODSETS)
    images = {pod["spec"]["containers"][0]["image"] for pod in pods}
    whole = (len(pods), len(sets), images) == (4, 2, {f"engine:{image}"})
    return whole and await world.is_ready("llama")


async def is_new(world: World, before: Json) -> bool:
    found = await world.all(PODSETS)
    fresh = [each for each in found if each["metadata"]["uid"] != before["metadata"]["uid"]]
    return len(found) == len(fresh) == 1 and fresh[0].get("status", {}).get("phase") == "Ready"


async def test_60_61_a_topology_policy_waits_for_the_next_pod_and_warns_once(world: World, operator: Operator) -> None:
    async with world.kubelet():
        await world.create(role_set("set", {}))
        await eventually(lambda: world.is_ready("set", ROLESETS))
        (before,) = await world.all(PODS)
        policy = {"scope": "RoleSet", "mode": "Required", "key": "zone"}
        await world.patch(ROLESETS, "set", {"spec": {"topologyPolicy": policy}})
        await eventually(lambda: has_condition(world, "set", "TopologyPolicyPending", "True"))
        assert uids(await world.all(PODS)) == uids([before])
        await world.delete(PODS, before["metadata"]["name"])
        await eventually(lambda: replaced(world, uids([before]), 1))
        await eventually(lambda: has_condition(world, "set", "TopologyPolicyPending", None))
    (after,) = await world.all(PODS)
    assert after["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    await eventually(lambda: was_told(world, "set", "TopologyPolicyPendingPodReplacement"))
    assert (await events(world, "set"))["TopologyPolicyPendingPodReplacement"] == 1


async def has_condition(world: World, name: str, kind: str, wanted: str | None, of: Resource = ROLESETS) -> bool:
    status = (await world.client.get(of, world.namespace, name)).get("status") or {}
    found = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    return found.get(kind) == wanted


# Gang scheduling.


@pytest.fixture
async def definitions(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Nothing is installed; whatever a test installs goes with it. The operator looks often."""
    monkeypatch.setattr(informer, "ABSENT_SECONDS", 0.3)
    yield world
    for scheduler in SCHEDULERS:
        path = path_of(DEFINITIONS, None, f"podgroups.{scheduler.group}")
        try:
            await world.client.call("DELETE", path)
        except KubeError:
            continue


async def install(world: World, resource: Resource) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": resource.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    named = {"plural": resource.plural, "singular": "podgroup", "kind": resource.kind, "listKind": "PodGroupList"}
    spec = {"group": resource.group, "scope": "Namespaced", "names": named, "versions": [version]}
    name = f"{resource.plural}.{resource.group}"
    body = {"apiVersion": DEFINITIONS.api_version, "kind": DEFINITIONS.kind, "metadata": {"name": name}, "spec": spec}
    await world.client.call("POST", path_of(DEFINITIONS), body=body)
    await eventually(lambda: is_served(world, resource), what=f"{name} is served")


async def is_served(world: World, resource: Resource) -> bool:
    try:
        await world.all(resource)
    except KubeError:
        return False
    return True


async def group_spec(world: World, resource: Resource, name: str) -> Json | None:
    found = await world.get(resource, name)
    spec: Json | None = found["spec"] if found else None
    return spec


async def test_62_63_a_pod_group_is_made_once_its_kind_is_there_and_goes_with_the_strategy(
    definitions: World, operator: Operator, control_plane: ControlPlane
) -> None:
    world, kind = definitions, VOLCANO.resource
    strategy = {"volcanoSchedulingStrategy": {"minMember": 2, "minResources": None}}
    await world.create(role_set("set", {"replicas": 2}, schedulingStrategy=strategy))
    await eventually(lambda: has_condition(world, "set", "PodGroupSynced", "False"))
    await eventually(lambda: was_told(world, "set", "PodGroupKindMissing"))
    await eventually(lambda: has_pods(world, 2))
    assert (await events(world, "set"))["PodGroupKindMissing"] == 1
    assert (await events(world, "set"))["PodGroupSynced"] == 0

    await install(world, kind)
    await eventually(lambda: has_condition(world, "set", "PodGroupSynced", "True"), what="the kind is noticed")
    assert await group_spec(world, kind, "set") == {"minMember": 2}
    verb = ("auth", "can-i", "delete", f"podgroups.{kind.group}", "-n", world.namespace, f"--as={OPERATOR}")
    assert control_plane.kubectl(*verb).strip() == "yes"

    await world.patch(kind, "set", {"metadata": {"labels": {"theirs": "x"}}, "spec": {"queue": "default"}})
    strategy = {"volcanoSchedulingStrategy": {"minMember": 3}}
    await world.patch(ROLESETS, "set", {"spec": {"schedulingStrategy": strategy}})

    async def is_changed() -> bool:
        return await group_spec(world, kind, "set") == {"minMember": 3, "queue": "default"}

    await eventually(is_changed, what="our field is changed, theirs is kept")
    assert (await world.client.get(kind, world.namespace, "set"))["metadata"]["labels"]["theirs"] == "x"

    async def was_synced_twice() -> bool:
        return (await events(world, "set"))["PodGroupSynced"] == 2

    await eventually(was_synced_twice)
    await world.patch(ROLESETS, "set", {"spec": {"schedulingStrategy": None}})
    await eventually(lambda: is_gone(world, kind, "set"), what="the group goes with the strategy")
    await world.patch(ROLESETS, "set", {"spec": {"schedulingStrategy": strategy}})
    await eventually(lambda: group_spec(world, kind, "set"))
    await world.delete(ROLESETS, "set")
    await eventually(lambda: nothing_left(world))
    await eventually(lambda: is_gone(world, kind, "set"), what="the group goes with the object")


async def is_gone(world: World, kind: Resource, name: str) -> bool:
    return await world.get(kind, name) is None


async def test_62_a_pod_group_of_nobody_is_taken_over_and_one_of_somebody_else_is_not(
    definitions: World, operator: Operator
) -> None:
    world, kind = definitions, COSCHEDULING.resource
    await install(world, kind)
    for name in ("mine", "theirs"):
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": {"minMember": 9}}
        if name == "theirs":
            owner = {"apiVersion": "v1", "kind": "Pod", "name": "other", "uid": "other", "controller": True}
            body["metadata"] = {"name": name, "ownerReferences": [owner]}
        await world.client.create(kind, world.namespace, body)
    strategy = {"coschedulingSchedulingStrategy": {"minMember": 2}}
    await world.create(pod_set("mine", 2, schedulingStrategy=strategy))
    await world.create(pod_set("theirs", 2, schedulingStrategy=strategy))
    await eventually(lambda: has_condition(world, "mine", "PodGroupSynced", "True", PODSETS))
    assert await group_spec(world, kind, "mine") == {"minMember": 2}
    await eventually(lambda: has_condition(world, "theirs", "PodGroupSynced", "False", PODSETS))
    found = await eventually(lambda: refusal(world), what="the condition says why")
    assert "belongs to somebody else" in found
    await eventually(lambda: was_told(world, "theirs", "ReconcileError"))
    await eventually(lambda: has_pods(world, 4), what="a refused PodGroup holds no pod up")


async def has_pods(world: World, count: int) -> bool:
    return len(await world.all(PODS)) == count


async def refusal(world: World) -> str:
    status = (await world.client.get(PODSETS, world.namespace, "theirs"))["status"]
    return next((each.get("message", "") for each in status["conditions"] if each["type"] == "PodGroupSynced"), "")
