"""Commands as updates of the object's workflow and of a running rollout: each is an edit of the object."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError

from activities.events import EVENTS
from activities.resources import PODS, ROLESETS, STORM_SERVICES
from planning.planner import Json
from tests.workflows.rig import World, eventually, names, role_set, storm_service, uids
from workflows.operator import Operator


def object_id(world: World, name: str = "llama") -> str:
    return f"stormservice/{world.namespace}/{name}"


async def rollout_of(world: World, temporal: Client, name: str = "llama") -> Any:
    """The rollout of the newest template: the status may be a moment behind."""

    async def update() -> str:
        storm = await world.client.get(STORM_SERVICES, world.namespace, name)
        status = storm.get("status") or {}
        seen = status.get("observedGeneration") == storm["metadata"]["generation"]
        return str(status["updateRevision"]) if seen else ""

    revision = await eventually(update, what="the status is about the newest template")
    return temporal.get_workflow_handle(f"rollout/{object_id(world, name)}/{revision}")


async def storm_of(world: World) -> Json:
    return await world.client.get(STORM_SERVICES, world.namespace, "llama")


def image_of(storm: Json) -> str:
    return str(storm["spec"]["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"])


async def two_revisions(world: World, replicas: int = 1) -> None:
    await world.create(storm_service("llama", replicas=replicas))
    await eventually(lambda: world.is_at("llama", "v1", replicas))
    await world.set_image("llama", "v2")
    await eventually(lambda: world.is_at("llama", "v2", replicas))


async def events_of(world: World, name: str = "llama") -> dict[str, tuple[str, str]]:
    """Type and message of the last Event of each reason."""
    found = [each for each in await world.all(EVENTS) if each["involvedObject"]["name"] == name]
    return {each["reason"]: (each["type"], each["message"]) for each in found}


async def test_undo_writes_the_template_back_and_keeps_what_was_scaled(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with world.kubelet():
        await two_revisions(world)
        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 2}})
        await eventually(lambda: world.is_at("llama", "v2", 2))
        handle = temporal.get_workflow_handle(object_id(world))
        foretold: Any = await handle.execute_update("plan", 0)
        assert foretold["rows"][0]["replaced"] == 2
        assert image_of(await storm_of(world)) == "engine:v2"
        answer: Any = await handle.execute_update("undo")
        assert answer["message"] == ""
        assert "template of revision 1" in answer["did"]
        assert "replaces 2 pods of engine" in answer["did"]
        storm = await storm_of(world)
        assert (image_of(storm), storm["spec"]["replicas"]) == ("engine:v1", 2)
        await eventually(lambda: world.is_at("llama", "v1", 2), what="v1 again, with two RoleSets")
    assert (await events_of(world))["RolloutUndone"][0] == "Normal"


async def test_restart_replaces_every_pod_once_and_keeps_replicas(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama", replicas=2))
        await eventually(lambda: world.is_at("llama", "v1", 2))
        before = uids(await world.all(PODS))
        answer: Any = await temporal.get_workflow_handle(object_id(world)).execute_update("restart")
        assert answer["did"] == "restarted"

        async def all_new() -> bool:
            return not before & uids(await world.all(PODS)) and await world.is_at("llama", "v1", 2)

        await eventually(all_new, what="new pods, as many as before")


async def test_a_running_rollout_takes_the_same_commands(world: World, operator: Operator, temporal: Client) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await eventually(lambda: world.is_at("llama", "v1", 1))
    await world.set_image("llama", "broken")

    async def rolls() -> bool:
        status = (await storm_of(world))["status"]
        return status["updateRevision"] != status["currentRevision"] and status.get("updatedReplicas") == 1

    await eventually(rolls, what="a RoleSet of the broken revision")
    rollout = await rollout_of(world, temporal)
    assert (await rollout.execute_update("pause"))["did"] == "paused"
    assert (await storm_of(world))["spec"]["paused"] is True
    assert (await rollout.execute_update("pause"))["did"] == "stormservice/llama is paused already"
    left: Any = await rollout.execute_update("plan")
    assert left["notes"][-1] == "paused: no RoleSet is rolled out until it is resumed"
    await rollout.execute_update("resume")
    answer = await rollout.execute_update("undo")
    assert "template of revision 1" in answer["did"]
    result: Any = await rollout.result()
    assert result["result"] == "undone"
    assert result["number"] == 2
    assert result["steps"]["create-rolesets"] >= 1
    async with world.kubelet():
        await eventually(lambda: world.is_at("llama", "v1", 1))


async def test_what_cannot_be_done_fails_the_update_and_not_the_workflow(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await eventually(lambda: world.is_at("llama", "v1", 1))
        handle = temporal.get_workflow_handle(object_id(world))
        for arguments, said in (([7], "has no revision 7; there are 1"), ([-1], "is below zero"), ([], "no previous")):
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await handle.execute_update("undo", args=arguments)
            assert said in str(refused.value.cause)
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update("plan", 7)
        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 2}})
        await eventually(lambda: world.is_at("llama", "v1", 2), what="it works on")


async def test_a_roleset_refuses_before_anything_stands_in_its_history(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with world.kubelet():
        await world.create(role_set("pair", replicas=2))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        handle = temporal.get_workflow_handle(f"roleset/{world.namespace}/pair")
        events = len((await handle.fetch_history()).events)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update("undo")
        assert "only a StormService can be undone" in str(refused.value.cause)
        assert not any(
            each.HasField("workflow_execution_update_accepted_event_attributes")
            for each in (await handle.fetch_history()).events[events:]
        )
        before = names(await world.all(PODS))
        await handle.execute_update("restart")

        async def restarted() -> bool:
            pods = await world.all(PODS)
            return len(pods) == 2 and not before & names(pods) and await world.is_ready("pair", ROLESETS)

        await eventually(restarted, what="both pods are new")


async def test_a_blocked_rollout_names_the_pod_everywhere(world: World, operator: Operator, temporal: Client) -> None:
    """In the status, the Events, the metrics, the page in the UI, and the result once it is superseded."""
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await eventually(lambda: world.is_at("llama", "v1", 1))
        value = operator.metrics.registry.get_sample_value
        completed = {"kind": "stormservice", "result": "completed"}
        await eventually(lambda: _true(value("brixflow_rollout_seconds_count", completed) == 1), what="one completed")
    await world.set_image("llama", "broken")

    async def broken_pod() -> str:
        pods = await world.all(PODS)
        found = [p["metadata"]["name"] for p in pods if p["spec"]["containers"][0]["image"] == "engine:broken"]
        return found[0] if found else ""

    pod = await eventually(broken_pod)
    await world.set_pod_waiting(pod, "CrashLoopBackOff", "back-off 10s", exit_code=1, message="no CUDA device")
    why = "CrashLoopBackOff: back-off 10s; its last run ended with exit code 1: no CUDA device"
    sentence = f"pod {pod}: container engine waits: {why}"

    async def told() -> bool:
        return sentence in (await events_of(world)).get("Blocked", ("", ""))[1]

    await eventually(told, what="a Warning Event on the StormService")
    assert (await events_of(world))["Blocked"][0] == "Warning"
    rollout = await rollout_of(world, temporal)

    async def shown() -> bool:
        return sentence in str(await rollout.query("__temporal_workflow_metadata"))

    await eventually(shown, what="the page of the rollout names the pod")
    page = str(await rollout.query("__temporal_workflow_metadata"))
    assert f"| engine | 1 | 1 | 1 | {sentence}" in page
    labels = {"kind": "stormservice", "cause": "crash"}
    await eventually(lambda: _true((value("brixflow_blocked_seconds_total", labels) or 0) > 0))
    async with world.kubelet():
        await world.set_image("llama", "v3")
        await eventually(lambda: world.is_at("llama", "v3", 1))
    result: Any = await rollout.result()
    assert result["result"] == "superseded"
    assert sentence in result["blocked"][-1]
    ended = {"kind": "stormservice", "result": "superseded"}
    assert value("brixflow_rollout_seconds_count", ended) >= 1  # what an earlier test left may end as well
    completed = ended | {"result": "completed"}
    await eventually(
        lambda: _true((value("brixflow_rollout_seconds_count", completed) or 0) >= 2), what="two completed"
    )
    assert (value("brixflow_decision_reasons_total", {"kind": "stormservice", "reason": "start-rollout"}) or 0) >= 3


async def _true(value: bool) -> bool:
    return value


async def test_events_tell_the_life_of_a_rollout(world: World, operator: Operator, temporal: Client) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await eventually(lambda: world.is_at("llama", "v1", 1))
        await world.patch(STORM_SERVICES, "llama", {"spec": {"paused": True}})
        await world.set_image("llama", "v2")

        async def has(reason: str) -> bool:
            return reason in await events_of(world)

        await eventually(lambda: has("RolloutPaused"))
        await world.patch(STORM_SERVICES, "llama", {"spec": {"paused": False}})
        await eventually(lambda: world.is_at("llama", "v2", 1))
        await eventually(lambda: has("RolloutResumed"))
        await eventually(lambda: has("RolloutCompleted"))
    found = await events_of(world)
    assert found["RolloutStarted"][1].startswith("roll out llama-")
    assert " completed after " in found["RolloutCompleted"][1]


async def test_a_rollout_out_of_time_says_which_pod_blocked_it_and_resume_tries_again(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama", progressDeadlineSeconds=2))
        await eventually(lambda: world.is_at("llama", "v1", 1))
    await world.set_image("llama", "slow")

    async def new_pod() -> str:
        pods = await world.all(PODS)
        return next((p["metadata"]["name"] for p in pods if p["spec"]["containers"][0]["image"] == "engine:slow"), "")

    pod = await eventually(new_pod)
    await world.set_pod_waiting(pod, "CrashLoopBackOff", "back-off", exit_code=1, message="no CUDA device")
    rollout = await rollout_of(world, temporal)
    result: Any = await rollout.result()
    sentence = f"pod {pod}: container engine waits: CrashLoopBackOff: back-off; its last run ended with exit code 1"
    assert result["result"] == "failed"
    assert f"{sentence}: no CUDA device" in result["message"] + result["blocked"][-1]

    async def told() -> bool:
        return {"RolloutFailed", "ProgressDeadlineExceeded"} <= (await events_of(world)).keys()

    await eventually(told, what="Warning Events")
    found = await events_of(world)
    assert found["RolloutFailed"][0] == "Warning"
    assert sentence in found["RolloutFailed"][1]
    answer: Any = await temporal.get_workflow_handle(object_id(world)).execute_update("resume")
    assert "is tried again" in answer["did"]
    async with world.kubelet():
        await eventually(lambda: world.is_at("llama", "slow", 1), what="the same revision, once its pod can start")
