"""The life of one object as its workflow sees it: create, scale, roll out, pause, delete, and what people do to it."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from activities.resources import PODS, REVISIONS, ROLESETS, SERVICES, STORM_SERVICES
from tests.workflows.rig import World, eventually, names, role_set, storm_service, uids
from workflows import starter
from workflows.operator import Operator


def object_id(world: World, name: str) -> str:
    return f"stormservice/{world.namespace}/{name}"


async def rollout_id(world: World, name: str) -> str:
    async def update() -> str:
        storm = await world.get(STORM_SERVICES, name) or {}
        return str((storm.get("status") or {}).get("updateRevision", ""))

    return f"rollout/{object_id(world, name)}/{await eventually(update, what='a status')}"


async def status_of(temporal: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    return (await temporal.get_workflow_handle(workflow_id).describe()).status


async def ready(world: World, name: str) -> None:
    await eventually(lambda: world.is_ready(name), what=f"{name} is ready")


async def test_a_storm_service_is_made_scaled_and_rolled_out(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama", replicas=2))
        await eventually(lambda: world.is_at("llama", "v1", 2), what="two RoleSets are ready")
        assert names(await world.all(SERVICES)) == {"llama"}
        assert len(await world.all(REVISIONS)) == 1
        first = await rollout_id(world, "llama")

        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 3}})
        await eventually(lambda: world.is_at("llama", "v1", 3), what="three RoleSets are ready")

        before = uids(await world.all(PODS))
        await world.set_image("llama", "v2")
        await eventually(lambda: world.is_at("llama", "v2", 3), what="three RoleSets run v2")
        assert not before & uids(await world.all(PODS))
        second = await rollout_id(world, "llama")

    assert first != second
    for rollout in (first, second):
        result: Any = await temporal.get_workflow_handle(rollout).result()
        assert result["result"] == "completed"


async def test_deleting_an_object_takes_all_it_made_and_closes_its_workflow(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await ready(world, "llama")
        await world.delete(STORM_SERVICES, "llama")
        await eventually(lambda: gone(world), what="nothing is left")
    result = await temporal.get_workflow_handle(object_id(world, "llama")).result()
    assert result == "the object is gone"


async def gone(world: World) -> bool:
    return not [*await world.all(STORM_SERVICES), *await world.all(ROLESETS), *await world.all(PODS)]


async def test_an_object_of_the_same_name_is_a_new_life(world: World, operator: Operator, temporal: Client) -> None:
    async with world.kubelet():
        await world.create(role_set("pair", replicas=2))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        before = uids(await world.all(PODS))
        await world.delete(ROLESETS, "pair")
        await eventually(lambda: gone(world))
        await world.create(role_set("pair", replicas=1))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        after = uids(await world.all(PODS))
    assert len(after) == 1
    assert not before & after
    roleset = await world.get(ROLESETS, "pair")
    assert roleset is not None
    handle = temporal.get_workflow_handle(f"roleset/{world.namespace}/pair")

    async def serves_the_new_one() -> bool:
        history = await handle.fetch_history()
        return roleset["metadata"]["uid"] in str(history.events[0].workflow_execution_started_event_attributes.input)

    await eventually(serves_the_new_one)


async def test_cancelling_a_rollout_pauses_the_object(world: World, operator: Operator, temporal: Client) -> None:
    await world.create(storm_service("llama"))
    await eventually(lambda: has_pods(world, 1))
    workflow_id = await rollout_id(world, "llama")
    await temporal.get_workflow_handle(workflow_id).cancel()
    await eventually(lambda: is_paused(world, "llama"), what="spec.paused is set")
    assert await status_of(temporal, workflow_id) == WorkflowExecutionStatus.RUNNING
    await temporal.get_workflow_handle(workflow_id).execute_update("resume")
    async with world.kubelet():
        await ready(world, "llama")


async def has_pods(world: World, count: int) -> bool:
    return len(await world.all(PODS)) == count


async def is_paused(world: World, name: str) -> bool:
    storm = await world.get(STORM_SERVICES, name)
    return bool(storm and storm["spec"].get("paused"))


async def test_cancelling_an_object_is_ignored_and_noted(world: World, operator: Operator, temporal: Client) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await ready(world, "llama")
        handle = temporal.get_workflow_handle(object_id(world, "llama"))
        await handle.cancel()
        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 2}})
        await eventually(lambda: world.is_at("llama", "v1", 2), what="it scales all the same")
    assert await status_of(temporal, object_id(world, "llama")) == WorkflowExecutionStatus.RUNNING
    details = await handle.query("__temporal_workflow_metadata")
    assert "cancel: ignored" in str(details)


async def test_pause_and_resume_are_edits_of_the_object(world: World, operator: Operator, temporal: Client) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await ready(world, "llama")
        handle = temporal.get_workflow_handle(object_id(world, "llama"))
        edited: Any = await handle.execute_update("pause")
        assert edited == {"paused": True, "message": "", "did": "paused"}
        assert await is_paused(world, "llama")
        await handle.execute_update("resume")
        assert not await is_paused(world, "llama")


async def test_a_terminated_rollout_is_started_again(world: World, operator: Operator, temporal: Client) -> None:
    await world.create(storm_service("llama", replicas=2))
    await eventually(lambda: has_pods(world, 2))
    before = uids(await world.all(PODS))
    workflow_id = await rollout_id(world, "llama")
    await temporal.get_workflow_handle(workflow_id).terminate()
    await eventually(lambda: is_running(temporal, workflow_id), what="a new run of the rollout")
    async with world.kubelet():
        await ready(world, "llama")
    assert uids(await world.all(PODS)) == before


async def is_running(temporal: Client, workflow_id: str) -> bool:
    return await status_of(temporal, workflow_id) == WorkflowExecutionStatus.RUNNING


async def test_a_terminated_object_workflow_is_started_again_and_restarts_no_pod(
    world: World, operator: Operator, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "UNTENDED_SECONDS", 3.0)
    async with world.kubelet():
        await world.create(storm_service("llama", replicas=2))
        await ready(world, "llama")
        before = uids(await world.all(PODS))
        workflow_id = object_id(world, "llama")
        await temporal.get_workflow_handle(workflow_id).terminate()
        await eventually(lambda: is_running(temporal, workflow_id), what="a new run of the object's workflow")
        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 3}})
        await eventually(lambda: world.is_at("llama", "v1", 3))
    assert before < uids(await world.all(PODS))


async def test_search_attributes_and_details_say_what_happens(
    world: World, operator: Operator, temporal: Client
) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await ready(world, "llama")

    async def shown() -> dict[str, Any]:
        found = await temporal.get_workflow_handle(object_id(world, "llama")).describe()
        return {pair.key.name: pair.value for pair in found.typed_search_attributes.search_attributes}

    async def is_shown() -> bool:
        attributes = await shown()
        return attributes.get("Model") == "llama" and attributes.get("ObjectKind") == "stormservice"

    await eventually(is_shown)
    attributes = await shown()
    assert attributes["ObjectNamespace"] == world.namespace
    assert attributes["Blocked"] is False
    found = await temporal.get_workflow_handle(object_id(world, "llama")).describe()
    assert await found.static_summary() == f"stormservice {world.namespace}/llama"


async def test_a_new_object_is_acted_for_without_a_first_poll_and_closes_without_a_last(
    world: World, operator: Operator, temporal: Client
) -> None:
    await world.create(role_set("alone"))
    async with world.kubelet():
        await eventually(lambda: world.is_ready("alone", ROLESETS))
        await world.delete(ROLESETS, "alone")
        handle = temporal.get_workflow_handle(f"roleset/{world.namespace}/alone")
        assert await handle.result() == "the object is gone"
    history = await handle.fetch_history()
    asked = [event.activity_task_scheduled_event_attributes.activity_type.name for event in history.events]
    activities = [name for name in asked if name]
    assert (activities[0], activities[-1]) == ("carry_out", "carry_out")
    assert activities.count("next_decision") <= 4
