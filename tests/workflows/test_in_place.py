"""In-place updates, fallbacks, drains and warm-ups against a real API server with real Temporal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from temporalio.client import Client

from activities.events import EVENTS
from activities.resources import BUDGETS, PODS, ROLESETS, STORM_SERVICES
from planning.objects import annotations_of, condition, is_condition_true, labels_of, name_of, uid_of
from tests.workflows.node import GATE, PaperNode
from tests.workflows.rig import World, eventually, free_port, role_set, storm_service, uids
from workflows.operator import Operator

Json = dict[str, Any]
TARGET = "stormservice.orchestration.aibrix.ai/in-place-update-target-hash"
REASON = "stormservice.orchestration.aibrix.ai/in-place-update-pending-reason"
WARM = "brixflow.aibrix.ai/warm-up"


def in_place(name: str, replicas: int = 2, **fields: Any) -> Json:
    body = role_set(name, replicas=replicas)
    body["spec"]["roles"][0] |= {"updateStrategy": {"type": "InPlaceIfPossible", "maxUnavailable": 1}, **fields}
    return body


async def edit(world: World, name: str, **container: Any) -> None:
    live = await world.get(ROLESETS, name)
    assert live is not None
    roles = live["spec"]["roles"]
    roles[0]["template"]["spec"]["containers"][0] |= container
    await world.patch(ROLESETS, name, {"spec": {"roles": roles}})


def image_of(pod: Json) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def is_updated(world: World, image: str) -> Any:
    async def check() -> bool:
        pods = await world.all(PODS)
        done = all(image_of(pod) == image and TARGET not in annotations_of(pod) for pod in pods)
        return bool(pods) and done and await world.is_ready("pair", ROLESETS)

    return check


async def reasons(world: World) -> list[str]:
    """Reasons of the RoleSet's Events, one for each time."""
    events = [each for each in await world.all(EVENTS) if each["involvedObject"]["kind"] == "RoleSet"]
    return [each["reason"] for each in events for _ in range(each["count"])]


async def test_pods_get_another_image_in_place_one_after_another(world: World, operator: Operator) -> None:
    async with PaperNode(world).running():
        await world.create(in_place("pair"))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        before = uids(await world.all(PODS))
        hashes = {labels_of(pod)["role-template-hash"] for pod in await world.all(PODS)}
        await edit(world, "pair", image="engine:v2")
        worst = 2
        check = is_updated(world, "engine:v2")
        while not await check():
            worst = min(worst, sum(is_condition_true(pod, "Ready") for pod in await world.all(PODS)))
            await asyncio.sleep(0.05)
    pods = await world.all(PODS)
    assert uids(pods) == before
    assert worst >= 1
    assert not hashes & {labels_of(pod)["role-template-hash"] for pod in pods}

    async def told() -> bool:
        found = await reasons(world)
        return found.count("InPlaceUpdateStarted") == found.count("InPlaceUpdateCompleted") == 2

    await eventually(told, what="each pod's update is told once when it starts and once when it ends")
    events = [each for each in await world.all(EVENTS) if each["reason"] == "InPlaceUpdateStarted"]
    assert {name_of(pod) in event["message"] for pod in pods for event in events} == {True, False}


async def test_another_change_replaces_the_pods_and_one_event_says_why(world: World, operator: Operator) -> None:
    async with PaperNode(world).running():
        await world.create(in_place("pair"))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        before = uids(await world.all(PODS))
        await edit(world, "pair", command=["serve", "--fast"])

        async def replaced() -> bool:
            pods = await world.all(PODS)
            return len(pods) == 2 and not before & uids(pods) and await world.is_ready("pair", ROLESETS)

        await eventually(replaced)
    found = [each for each in await world.all(EVENTS) if each["reason"] == "InPlaceFallback"]
    assert [each["count"] for each in found] == [1]
    assert "cannot be updated in place: non-image pod fields changed" in found[0]["message"]


async def test_an_image_that_cannot_be_pulled_says_so_and_takes_no_second_pod(world: World, operator: Operator) -> None:
    async with PaperNode(world, broken="v2").running():
        await world.create(in_place("pair"))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        before = uids(await world.all(PODS))
        await edit(world, "pair", image="engine:v2")

        async def noted() -> Any:
            pods = await world.all(PODS)
            return [pod for pod in pods if annotations_of(pod).get(REASON) == "PodNotReady"]

        (stuck,) = await eventually(noted)
        assert uids(await world.all(PODS)) == before
        assert sum(is_condition_true(pod, "Ready") for pod in await world.all(PODS)) == 1
        roleset = await world.get(ROLESETS, "pair")
        assert roleset is not None
        assert f"pod {name_of(stuck)}" in condition(roleset, "Ready")["message"]
        assert "ImagePullBackOff" in condition(roleset, "Ready")["message"]
        await edit(world, "pair", image="engine:v3")
        await eventually(is_updated(world, "engine:v3"))
        assert uids(await world.all(PODS)) == before


async def test_a_pod_is_drained_before_its_image_changes(world: World, operator: Operator) -> None:
    async with PaperNode(world).running():
        await world.create(in_place("pair", drainSeconds=2))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        before = uids(await world.all(PODS))
        await edit(world, "pair", image="engine:v2")
        left: dict[str, float] = {}
        patched: dict[str, float] = {}
        check = is_updated(world, "engine:v2")
        while not await check():
            pods, at = await world.all(PODS), time.monotonic()
            assert sum(is_condition_true(pod, "Ready") for pod in pods) >= 1
            for pod in pods:
                if not is_condition_true(pod, GATE):
                    left.setdefault(uid_of(pod), at)
                if image_of(pod) == "engine:v2":
                    patched.setdefault(uid_of(pod), at)
            await asyncio.sleep(0.05)
    assert uids(await world.all(PODS)) == before == set(left) == set(patched)
    waits = [patched[uid] - left[uid] for uid in before]
    assert min(waits) >= 1.0, "the time on a pod has whole seconds"
    assert max(waits) < 5.0


@asynccontextmanager
async def metrics(running: list[int]) -> AsyncIterator[int]:
    """An engine that says how many requests run, the last number for ever; its port."""

    async def page(request: web.Request) -> web.Response:
        count = running.pop(0) if len(running) > 1 else running[0]
        gauges = f'vllm:num_requests_running{{model_name="m"}} {count}.0\nvllm:num_requests_waiting 0.0\n'
        return web.Response(text=f"# HELP of no interest\n{gauges}")

    app = web.Application()
    app.router.add_get("/metrics", page)
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


async def test_a_drain_ends_once_the_engine_says_that_nothing_runs(world: World, operator: Operator) -> None:
    running = [2, 1, 0]
    body = in_place("pair", 1, drainSeconds=600)
    async with metrics(running) as port, PaperNode(world, address="127.0.0.1").running():
        body["spec"]["roles"][0]["template"]["metadata"]["labels"]["model.aibrix.ai/port"] = str(port)
        await world.create(body)
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        await edit(world, "pair", image="engine:v2")
        await eventually(is_updated(world, "engine:v2"))
    assert running == [0], "it was asked until the last request had ended"


async def test_a_terminated_workflow_goes_on_where_the_pods_say(
    world: World, operator: Operator, temporal: Client, monkeypatch: Any
) -> None:
    monkeypatch.setattr("workflows.starter.UNTENDED_SECONDS", 2.0)
    async with PaperNode(world).running():
        await world.create(in_place("pair", 1, drainSeconds=3))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        before = uids(await world.all(PODS))
        await edit(world, "pair", image="engine:v2")

        async def drained() -> bool:
            return any(not is_condition_true(pod, GATE) for pod in await world.all(PODS))

        await eventually(drained)
        await temporal.get_workflow_handle(f"roleset/{world.namespace}/pair").terminate()
        await eventually(is_updated(world, "engine:v2"))
        assert uids(await world.all(PODS)) == before


@asynccontextmanager
async def engine(answers: list[int]) -> AsyncIterator[int]:
    """An engine that answers with these statuses, the last for ever; its port."""
    asked: list[Json] = []

    async def generate(request: web.Request) -> web.Response:
        asked.append(await request.json())
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        return web.json_response({"choices": [{"text": "a"}]} if status == 200 else {"error": "loading"}, status=status)

    app = web.Application()
    app.router.add_post("/v1/completions", generate)
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()
    assert asked
    assert asked[0]["prompt"] == "Hello"


async def test_an_updated_pod_counts_once_it_has_generated_a_token(world: World, operator: Operator) -> None:
    async with engine([503, 200]) as port, PaperNode(world, address="127.0.0.1").running():
        await world.create(in_place("pair", 1, warmUp={"port": port}))
        marks: list[str] = []

        async def ready() -> bool:
            marks.extend(annotations_of(pod).get(WARM, "") for pod in await world.all(PODS))
            return await world.is_ready("pair", ROLESETS)

        await eventually(ready)
        (pod,) = await world.all(PODS)
        assert '"state":"done"' in annotations_of(pod)[WARM]
        assert any("answers 503" in mark for mark in marks)


async def test_a_pod_of_a_role_whose_turn_has_not_come_returns_at_its_old_revision(
    world: World, operator: Operator
) -> None:
    body = storm_service("llama", updateStrategy={"type": "InPlaceUpdate"})
    first = body["spec"]["template"]["spec"]["roles"][0]
    later = {**first, "name": "later", "replicas": 2}
    body["spec"]["template"]["spec"]["roles"] = [{**first, "upgradeOrder": 1}, later]
    async with PaperNode(world, broken="v2").running():
        await world.create(body)
        await eventually(lambda: world.is_ready("llama"))
        storm = await world.get(STORM_SERVICES, "llama")
        assert storm is not None
        template = storm["spec"]["template"]
        for role in template["spec"]["roles"]:
            role["template"]["spec"]["containers"][0]["image"] = "engine:v2"
        await world.patch(STORM_SERVICES, "llama", {"spec": {"template": template}})

        async def of_role(role: str) -> list[Json]:
            return [pod for pod in await world.all(PODS) if labels_of(pod)["role-name"] == role]

        async def first_is_stuck() -> bool:
            return any(image_of(pod) == "engine:v2" for pod in await of_role("engine"))

        await eventually(first_is_stuck)
        victim = (await of_role("later"))[0]
        await world.delete(PODS, name_of(victim))

        async def is_back() -> bool:
            pods = await of_role("later")
            return len(pods) == 2 and uid_of(victim) not in uids(pods)

        await eventually(is_back)
        assert {image_of(pod) for pod in await of_role("later")} == {"engine:v1"}
        assert len({labels_of(pod)["role-template-hash"] for pod in await of_role("later")}) == 1


async def test_a_role_that_tolerates_so_much_has_a_disruption_budget(world: World, operator: Operator) -> None:
    async with PaperNode(world).running():
        await world.create(in_place("pair", 3, disruptionTolerance={"maxUnavailable": 1}))

        async def allowed() -> Any:
            budget = await world.get(BUDGETS, "pair-engine")
            return budget is not None and (budget.get("status") or {}).get("disruptionsAllowed")

        assert await eventually(allowed) == 1
