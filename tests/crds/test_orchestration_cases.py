"""Cases of the orchestration document that a controller has to show: real API server, webhooks, operator and Temporal.

Pods are marked Ready by the test, so that every step of an order can be seen (CRD cases B13 to B15, B19 to B24,
B26, B27, B31, B32).
"""

from __future__ import annotations

from typing import Any

import pytest

from activities.events import EVENTS
from activities.resources import PODS, PODSETS, REVISIONS, ROLESETS, STORM_SERVICES
from planning.objects import is_condition_true
from tests.workflows.node import GATE, PaperNode
from tests.workflows.rig import World, eventually, names, pod_template, storm_service

Json = dict[str, Any]


def roles_of(name: str, orders: dict[str, int | None], image: str = "v1") -> list[Json]:
    template = pod_template({"app": name}, f"engine:{image}")
    return [
        {"name": role, "replicas": 1, "template": template} | ({"upgradeOrder": order} if order else {})
        for role, order in orders.items()
    ]


async def images(world: World) -> dict[str, str]:
    """By role; of two pods of one role the newer."""
    pods = sorted(await world.all(PODS), key=lambda pod: int(pod["metadata"]["resourceVersion"]))
    return {
        pod["metadata"]["labels"]["role-name"]: pod["spec"]["containers"][0]["image"].removeprefix("engine:")
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
    }


# --- topology ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "policy", "labels"),
    [
        ("B13", {"scope": "RoleSet", "key": "kubernetes.io/hostname"}, {"storm-service-name", "roleset-name"}),
        (
            "B14",
            {"scope": "RoleSet", "mode": "Required", "key": "topology.kubernetes.io/zone"},
            {"storm-service-name", "roleset-name"},
        ),
        ("B15", {"scope": "StormService", "key": "rack"}, {"storm-service-name"}),
        ("B15b", {"scope": "Role", "key": "rack"}, {"storm-service-name", "role-name"}),
    ],
)
async def test_b13_to_b15_pods_are_drawn_to_those_of_their_scope(world, webhooks, operator, case, policy, labels):
    manifest = storm_service("near")
    manifest["spec"]["template"]["spec"]["topologyPolicy"] = policy
    await world.create(manifest)
    (pod,) = await eventually(lambda: world.all(PODS), what="the pod exists")
    affinity = pod["spec"]["affinity"]["podAffinity"]
    if policy.get("mode") == "Required":
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    else:
        (weighted,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        assert weighted["weight"] == 100
        term = weighted["podAffinityTerm"]
    assert term["topologyKey"] == policy["key"]
    own = pod["metadata"]["labels"]
    assert term["labelSelector"] == {"matchLabels": {label: own[label] for label in labels}}


async def test_b13_the_template_of_a_podset_has_the_term(world, webhooks, operator):
    manifest = storm_service("near")
    template = manifest["spec"]["template"]["spec"]
    template["topologyPolicy"] = {"scope": "RoleSet", "key": "kubernetes.io/hostname"}
    template["roles"][0]["podGroupSize"] = 2
    await world.create(manifest)
    (podset,) = await eventually(lambda: world.all(PODSETS), what="the PodSet exists")
    affinity = podset["spec"]["template"]["spec"]["affinity"]["podAffinity"]
    (weighted,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    labels = {label: podset["metadata"]["labels"][label] for label in ("storm-service-name", "roleset-name")}
    assert weighted["weight"] == 100
    assert weighted["podAffinityTerm"]["labelSelector"] == {"matchLabels": labels}


async def test_b27_a_podset_has_a_pod_for_each_place_and_is_ready_after_the_last(world, webhooks, operator):
    body = {"apiVersion": PODSETS.api_version, "kind": "PodSet", "metadata": {"name": "pair"}}
    spec = {"podGroupSize": 2, "template": pod_template({"app": "pair"}, "engine:v1")}
    await world.client.create(PODSETS, world.namespace, body | {"spec": spec})

    async def shown(phase: str, ready: int) -> bool:
        status = ((await world.get(PODSETS, "pair")) or {}).get("status") or {}
        return (status.get("phase"), status.get("readyPods"), status.get("totalPods")) == (phase, ready, 2)

    await eventually(lambda: shown("Pending", 0), what="two pods and none is ready")
    pods = {each["metadata"]["name"]: each["metadata"]["labels"] for each in await world.all(PODS)}
    index = "stormservice.orchestration.aibrix.ai/pod-group-index"
    assert {name: found[index] for name, found in pods.items()} == {"pair-0": "0", "pair-1": "1"}
    await world._set_ready("pair-0")
    await eventually(lambda: shown("Running", 1), what="one is ready")
    await world._set_ready("pair-1")
    await eventually(lambda: shown("Ready", 2), what="both are ready")
    await world.delete(PODSETS, "pair")


# --- order of roles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "orders", "expected"),
    [
        ("B19", {"two": 2, "one": 1, "last": None}, ["one", "two", "last"]),
        ("B20", {"b": 1, "a": 1, "c": 1}, ["b", "a", "c"]),
    ],
)
async def test_b19_b20_roles_follow_their_upgrade_order_and_ties_the_list(
    world, webhooks, operator, case, orders, expected
):
    body = {"apiVersion": ROLESETS.api_version, "kind": "RoleSet", "metadata": {"name": "ordered"}}
    await world.create(body | {"spec": {"updateStrategy": "Sequential", "roles": roles_of("ordered", orders)}})
    async with world.kubelet():
        await eventually(lambda: world.is_ready("ordered", ROLESETS), what="all roles are ready")
    await world.patch(ROLESETS, "ordered", {"spec": {"roles": roles_of("ordered", orders, "v2")}})
    for place in range(1, len(expected) + 1):

        async def updated(count: int = place) -> dict[str, str] | None:
            found = await images(world)
            return found if sum(image == "v2" for image in found.values()) >= count else None

        found = await eventually(updated, what=f"{place} roles are updated")
        assert {role for role, image in found.items() if image == "v2"} == set(expected[:place])
        await world.make_ready()


# --- updates in place -------------------------------------------------------------------------------------------------


IN_PLACE = {"type": "InPlaceIfPossible", "maxUnavailable": 1}
PREFIX = "stormservice.orchestration.aibrix.ai"


def in_place(name: str, **spec: Any) -> Json:
    """One pod with the readiness gate, below a StormService that rewrites its RoleSets."""
    manifest = storm_service(name, updateStrategy={"type": "InPlaceUpdate"})
    role = manifest["spec"]["template"]["spec"]["roles"][0] | {"updateStrategy": IN_PLACE}
    role["template"]["spec"] |= {"readinessGates": [{"conditionType": GATE}], **spec}
    manifest["spec"]["template"]["spec"]["roles"] = [role]
    return manifest


async def edit_container(world: World, name: str, **fields: Any) -> None:
    storm = await world.client.get(STORM_SERVICES, world.namespace, name)
    storm["spec"]["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0] |= fields
    await world.patch(STORM_SERVICES, name, {"spec": {"template": storm["spec"]["template"]}})


async def event_reasons(world: World) -> list[str]:
    found = sorted(await world.all(EVENTS), key=lambda event: int(event["metadata"]["resourceVersion"]))
    return [event["reason"] for event in found]


async def test_b23_b26_an_image_changes_in_the_running_pod_behind_its_gate(world, webhooks, operator):
    """The node is told to run by hand, so that the pod can be seen while it waits for the new image."""
    node = PaperNode(world)
    await world.create(in_place("same"))
    async with node.running():
        await eventually(lambda: world.is_ready("same"), what="the pod serves")
    (before,) = await world.all(PODS)
    await edit_container(world, "same", image="engine:v2")

    async def patched() -> Json | None:
        (pod,) = await world.all(PODS)
        waits = pod["metadata"]["annotations"].get(f"{PREFIX}/in-place-update-pending-reason")
        return pod if waits and pod["spec"]["containers"][0]["image"] == "engine:v2" else None

    waiting = await eventually(patched, what="the image is patched and awaited")
    assert waiting["metadata"]["uid"] == before["metadata"]["uid"]
    assert not is_condition_true(waiting, GATE)
    async with node.running():

        async def done() -> Json | None:
            (pod,) = await world.all(PODS)
            return pod if is_condition_true(pod, GATE) and await world.is_ready("same") else None

        after = await eventually(done, what="the pod serves with the new image")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["imageID"] != before["status"]["containerStatuses"][0]["imageID"]
    assert after["metadata"]["labels"]["role-template-hash"] != before["metadata"]["labels"]["role-template-hash"]

    async def told() -> bool:
        found = await event_reasons(world)
        return {"InPlaceUpdateStarted", "InPlaceUpdateCompleted"} <= set(found)

    await eventually(told, what="start and end are told")
    found = await event_reasons(world)
    assert found.index("InPlaceUpdateStarted") < found.index("InPlaceUpdateCompleted")


async def test_b24_a_variable_that_changes_replaces_the_pod_and_says_so(world, webhooks, operator):
    async with PaperNode(world).running():
        await world.create(in_place("other"))
        await eventually(lambda: world.is_ready("other"), what="the pod serves")
        (before,) = await world.all(PODS)
        await edit_container(world, "other", env=[{"name": "NEW", "value": "1"}])

        async def replaced() -> bool:
            pods = await world.all(PODS)
            new = len(pods) == 1 and pods[0]["metadata"]["uid"] != before["metadata"]["uid"]
            return new and "InPlaceFallback" in await event_reasons(world)

        await eventually(replaced, what="a new pod and the reason")


# --- number of RoleSets -----------------------------------------------------------------------------------------------


async def test_b21_the_number_of_rolesets_follows_and_each_names_the_revision(world, webhooks, operator):
    async with world.kubelet():
        await world.create(storm_service("many", replicas=3))
        for count in (3, 4, 2):
            await world.patch(STORM_SERVICES, "many", {"spec": {"replicas": count}})
            await eventually(lambda count=count: world.is_at("many", "v1", count), what=f"{count} RoleSets")
            status = (await world.get(STORM_SERVICES, "many"))["status"]
            labels = {each["metadata"]["labels"]["storm-service-revision"] for each in await world.all(ROLESETS)}
            assert (status["replicas"], labels) == (count, {status["updateRevision"]})


async def test_b22_of_two_the_one_that_is_not_ready_goes(world, webhooks, operator):
    await world.create(storm_service("fewer", replicas=2))

    async def pods() -> list[Json] | None:
        found = await world.all(PODS)
        return found if len(found) == 2 else None

    served = (await eventually(pods, what="two pods"))[0]
    await world._set_ready(served["metadata"]["name"])
    kept = served["metadata"]["labels"]["roleset-name"]
    await eventually(lambda: world.is_ready(kept, ROLESETS), what="one RoleSet is ready")
    await world.patch(STORM_SERVICES, "fewer", {"spec": {"replicas": 1}})

    async def one() -> set[str] | None:
        found = names(await world.all(ROLESETS))
        return found if len(found) == 1 else None

    assert await eventually(one, what="one RoleSet is left") == {kept}


# --- revisions --------------------------------------------------------------------------------------------------------


async def edited(world: World, name: str, image: str) -> str:
    """Set the image and wait until its revision is the target; the revision's name."""
    await world.set_image(name, image)

    async def seen() -> str | None:
        storm = await world.get(STORM_SERVICES, name)
        status = (storm or {}).get("status") or {}
        same = storm is not None and status.get("observedGeneration") == storm["metadata"]["generation"]
        return str(status["updateRevision"]) if same else None

    return str(await eventually(seen, what=f"{image} is the target"))


async def test_b31_a_template_that_is_edited_back_takes_up_its_first_revision(world, webhooks, operator):
    await world.create(storm_service("back", paused=True))
    first = await edited(world, "back", "v1")
    assert await edited(world, "back", "v2") != first
    assert await edited(world, "back", "v1") == first
    numbers = {each["metadata"]["name"]: each["revision"] for each in await world.all(REVISIONS)}
    assert len(numbers) == 2
    assert numbers[first] == max(numbers.values())


async def test_b32_of_twelve_edits_ten_old_revisions_are_kept(world, webhooks, operator):
    await world.create(storm_service("often", paused=True))
    made = [await edited(world, "often", f"v{number}") for number in range(1, 14)]
    assert len(set(made)) == 13

    async def trimmed() -> bool:
        found = names(await world.all(REVISIONS))
        live = {made[0], made[-1]}
        return live <= found and len(found - live) <= 10

    await eventually(trimmed, what="at most ten old revisions beside the live ones")
    kept = names(await world.all(REVISIONS)) - {made[0], made[-1]}
    assert kept == set(made[-11:-1])
