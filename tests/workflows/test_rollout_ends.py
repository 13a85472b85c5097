"""How a rollout ends when it cannot succeed, and what an owner that goes leaves behind, on the real parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from temporalio.client import Client

from activities.errors import KubeError
from activities.kube import MERGE_PATCH, path_of
from activities.resources import BUDGETS, PODS, REVISIONS, ROLESETS, SERVICES, STORM_SERVICES
from planning.planner import Json
from tests.workflows.rig import World, eventually, names, storm_service, uids
from workflows.operator import Operator

BAD = "engine:bad"
DEADLINE_SECONDS = 2


@asynccontextmanager
async def kubelet(world: World) -> AsyncIterator[None]:
    """As `World.kubelet`, but the bad image cannot be pulled."""

    async def run() -> None:
        while True:
            for pod in await world.all(PODS):
                with suppress(KubeError):
                    await start(world, pod)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()


async def start(world: World, pod: Json) -> None:
    if pod["spec"]["containers"][0]["image"] != BAD:
        if "conditions" not in pod.get("status", {}) and "deletionTimestamp" not in pod["metadata"]:
            await world._set_ready(pod["metadata"]["name"])
    elif "containerStatuses" not in pod.get("status", {}):
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        container = {
            "name": "engine", "ready": False, "restartCount": 0, "image": BAD, "imageID": "",
            "state": {"waiting": waiting},
        }  # fmt: skip
        await world.client.call(
            "PATCH", path_of(PODS, world.namespace, pod["metadata"]["name"], "status"),
            body={"status": {"phase": "Pending", "containerStatuses": [container]}}, content_type=MERGE_PATCH,
        )  # fmt: skip


def images(pods: list[Json]) -> list[str]:
    return sorted(pod["spec"]["containers"][0]["image"] for pod in pods)


async def progressing(world: World) -> Json:
    storm = await world.client.get(STORM_SERVICES, world.namespace, "llama")
    return next(each for each in storm["status"]["conditions"] if each["type"] == "Progressing")


async def has_failed(world: World) -> bool:
    return (await progressing(world))["reason"] == "ProgressDeadlineExceeded"


async def rollout_of(world: World, temporal: Client, revision: str) -> Any:
    handle = temporal.get_workflow_handle(f"rollout/stormservice/{world.namespace}/llama/{revision}")
    return await asyncio.wait_for(handle.result(), 10)


async def test_a_rollout_out_of_time_names_the_pod_and_a_resume_gives_it_more(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with kubelet(world):
        await world.create(storm_service("llama", replicas=2, progressDeadlineSeconds=DEADLINE_SECONDS))
        await eventually(lambda: world.is_at("llama", "v1", 2))
        before = uids(await world.all(PODS))
        await world.set_image("llama", "bad")
        await eventually(lambda: has_failed(world), what="the deadline passes")
        storm = await world.client.get(STORM_SERVICES, world.namespace, "llama")
        failed = storm["status"]["failedRevision"]
        (bad,) = [pod for pod in await world.all(PODS) if pod["metadata"]["uid"] not in before]
        result = await rollout_of(world, temporal, failed)
        assert result["result"] == "failed"
        assert result["revision"] == failed
        assert bad["metadata"]["name"] in result["message"]
        assert "ImagePullBackOff: no such image" in result["message"]
        assert before < uids(await world.all(PODS))

        await world.patch(
            STORM_SERVICES, "llama",
            {"metadata": {"annotations": {"orchestration.aibrix.ai/retry-at": "2026-01-01T00:00:00Z"}}},
        )  # fmt: skip

        async def tries_again() -> bool:
            return (await progressing(world))["reason"] == "Processing"

        await eventually(tries_again, what="another try")
        await eventually(lambda: has_failed(world), what="the new clock runs out too")


async def test_an_automatic_rollback_touches_no_serving_pod_and_no_spec(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with kubelet(world):
        await world.create(
            storm_service("llama", replicas=2, progressDeadlineSeconds=DEADLINE_SECONDS, automaticRollback=True)
        )
        await eventually(lambda: world.is_at("llama", "v1", 2))
        before = uids(await world.all(PODS))
        await world.set_image("llama", "bad")
        changed = await world.client.get(STORM_SERVICES, world.namespace, "llama")
        await eventually(lambda: has_failed(world), what="the deadline passes")

        async def is_back() -> bool:
            return uids(await world.all(PODS)) == before and len(await world.all(ROLESETS)) == 2

        await eventually(is_back, what="only the pods from before are left")

        async def is_said() -> bool:
            storm = await world.client.get(STORM_SERVICES, world.namespace, "llama")
            ready = next(each for each in storm["status"]["conditions"] if each["type"] == "Ready")
            return "2 of 2 RoleSets ready" in ready.get("message", "") and ready["reason"] == "RolledBack"

        await eventually(is_said)
        storm = await world.client.get(STORM_SERVICES, world.namespace, "llama")
        assert storm["spec"] == changed["spec"]
        assert storm["metadata"]["generation"] == changed["metadata"]["generation"]
        status = storm["status"]
        assert status["updateRevision"] == status["completedRevision"] == status["currentRevision"]
        assert (await rollout_of(world, temporal, status["failedRevision"]))["result"] == "failed"
        assert (await rollout_of(world, temporal, status["completedRevision"]))["result"] == "completed"


async def test_a_revert_in_mid_rollout_keeps_every_serving_pod(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with kubelet(world):
        await world.create(storm_service("llama", replicas=2))
        await eventually(lambda: world.is_at("llama", "v1", 2))
        before = uids(await world.all(PODS))
        await world.set_image("llama", "bad")

        async def is_half_way() -> bool:
            return images(await world.all(PODS)) == [BAD, "engine:v1", "engine:v1"]

        await eventually(is_half_way)
        storm = await world.client.get(STORM_SERVICES, world.namespace, "llama")
        await world.set_image("llama", "v1")
        await eventually(lambda: world.is_at("llama", "v1", 2))
    assert uids(await world.all(PODS)) == before
    result = await rollout_of(world, temporal, storm["status"]["updateRevision"])
    assert result["result"] == "undone"


async def test_a_change_that_makes_no_other_pods_restarts_none(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with kubelet(world):
        await world.create(storm_service("llama", replicas=2))
        await eventually(lambda: world.is_at("llama", "v1", 2))
        before = uids([*await world.all(PODS), *await world.all(ROLESETS)])
        storm = await world.client.get(STORM_SERVICES, world.namespace, "llama")
        template = storm["spec"]["template"]
        template["spec"]["roles"][0]["upgradeOrder"] = 3
        await world.patch(STORM_SERVICES, "llama", {"spec": {"template": template}})

        async def is_everywhere() -> bool:
            orders = [roleset["spec"]["roles"][0].get("upgradeOrder") for roleset in await world.all(ROLESETS)]
            return orders == [3, 3] and await world.is_ready("llama")

        await eventually(is_everywhere)
    assert uids([*await world.all(PODS), *await world.all(ROLESETS)]) == before
    assert len(await world.all(REVISIONS)) == 2


async def take_owners_away(world: World) -> None:
    """What the garbage collector does for its finalizer, once it has learned of a new kind: up to half a minute."""
    for kind in (ROLESETS, SERVICES, REVISIONS, BUDGETS):
        for each in await world.all(kind):
            await world.patch(kind, each["metadata"]["name"], {"metadata": {"ownerReferences": None}})
    with suppress(KubeError):
        await world.patch(STORM_SERVICES, "llama", {"metadata": {"finalizers": None}})


async def test_an_orphaning_deletion_keeps_everything_and_the_same_name_takes_it_back(
    world: World, operator: Operator, temporal: Client
) -> None:
    kinds = (ROLESETS, PODS, SERVICES, REVISIONS, BUDGETS)

    async def children() -> list[Json]:
        return [each for kind in kinds for each in await world.all(kind)]

    async def is_released() -> bool:
        storm = await world.get(STORM_SERVICES, "llama")
        return storm is None or storm["metadata"]["finalizers"] == ["orphan"]

    async def is_gone() -> bool:
        return await world.get(STORM_SERVICES, "llama") is None

    body = storm_service("llama", replicas=2, disruptionTolerance={"maxUnavailable": 1})
    async with kubelet(world):
        await world.create(body)
        await eventually(lambda: world.is_at("llama", "v1", 2))
        before = await children()
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan"}
        await world.client.call("DELETE", path_of(STORM_SERVICES, world.namespace, "llama"), body=options)
        await eventually(is_released, what="our finalizer is gone and the garbage collector's is left")
        await take_owners_away(world)
        await eventually(is_gone)
        await asyncio.sleep(1)
        assert uids(await children()) == uids(before)

        again = await world.create(body)
        await eventually(lambda: world.is_at("llama", "v1", 2), what="the new one is ready with what was there")
        after = await children()
    assert uids(after) == uids(before)
    ours = [each for kind in kinds if kind is not PODS for each in await world.all(kind)]
    owners = [[owner["uid"] for owner in each["metadata"].get("ownerReferences", ())] for each in ours]
    assert owners == [[again["metadata"]["uid"]]] * len(ours)


async def test_a_tolerance_becomes_a_budget_that_evictions_obey(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with kubelet(world):
        await world.create(storm_service("llama", replicas=2, disruptionTolerance={"maxUnavailable": 1}))
        await eventually(lambda: world.is_at("llama", "v1", 2))

        async def one_may_go() -> bool:
            budget = await world.get(BUDGETS, "llama")
            return bool(budget) and (budget or {}).get("status", {}).get("disruptionsAllowed") == 1

        await eventually(one_may_go, what="the disruption controller counts the pods")
        budget = await world.client.get(BUDGETS, world.namespace, "llama")
        assert budget["spec"]["minAvailable"] == 1
        await world.patch(STORM_SERVICES, "llama", {"spec": {"disruptionTolerance": {"maxUnavailable": 0}}})

        async def none_may_go() -> bool:
            found = await world.client.get(BUDGETS, world.namespace, "llama")
            return bool(found["spec"]["minAvailable"] == 2 and found["status"]["disruptionsAllowed"] == 0)

        await eventually(none_may_go)
        pod = min(names(await world.all(PODS)))
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        refused = ""
        try:
            await world.client.call(
                "POST", path_of(PODS, world.namespace, pod, "eviction"), body=eviction, deadline=0.5
            )
        except KubeError as error:
            refused = str(error)
        assert "disruption budget" in refused
        await world.patch(STORM_SERVICES, "llama", {"spec": {"disruptionTolerance": None}})

        async def is_gone() -> bool:
            return await world.get(BUDGETS, "llama") is None

        await eventually(is_gone)


async def test_a_deletion_that_a_pod_holds_up_says_which_one(world: World, operator: Operator) -> None:
    async with kubelet(world):
        await world.create(storm_service("llama", replicas=2))
        await eventually(lambda: world.is_at("llama", "v1", 2))
        stuck = min(names(await world.all(PODS)))
        await world.patch(PODS, stuck, {"metadata": {"finalizers": ["tests.aibrix.ai/held"]}})
        await world.delete(STORM_SERVICES, "llama")

        async def says_so() -> bool:
            found = await progressing(world)
            return found["reason"] == "Blocked" and f"pod {stuck} does not go" in found["message"]

        await eventually(says_so, what="the status names the pod")
        assert "finalizer tests.aibrix.ai/held holds it" in (await progressing(world))["message"]
        assert names(await world.all(PODS)) == {stuck}
        await world.patch(PODS, stuck, {"metadata": {"finalizers": None}})

        async def is_gone() -> bool:
            return not [*await world.all(STORM_SERVICES), *await world.all(ROLESETS), *await world.all(PODS)]

        await eventually(is_gone)
