"""Histories of earlier releases replay against the code of this one, and so do those of this very moment.

To record the life of an object again, after a change that is meant to be incompatible with none of them:

    BRIXFLOW_RECORD_HISTORIES=<release> pytest tests/workflows/test_histories.py

writes `tests/data/histories/<release>-<what>.json`. Files of older releases stay.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from activities.resources import PODS, PODSETS, ROLESETS, STORM_SERVICES
from planning.planner import Resource
from tests.workflows.node import PaperNode
from tests.workflows.rig import World, eventually, storm_service, uids
from tests.workflows.test_groups import is_at, pod_set
from tests.workflows.test_in_place import edit, engine, in_place, is_updated
from workflows.object import ObjectWorkflow
from workflows.operator import Operator
from workflows.rollout import RolloutWorkflow

FOLDER = Path(__file__).parents[1] / "data" / "histories"
RECORDED = sorted(FOLDER.glob("*.json"))
LARGEST_BYTES = 200_000


def replayer() -> Replayer:
    return Replayer(workflows=[ObjectWorkflow, RolloutWorkflow], data_converter=pydantic_data_converter)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path) -> None:
    text = await asyncio.to_thread(path.read_text)
    assert len(text) < LARGEST_BYTES
    await replayer().replay_workflow(WorkflowHistory.from_json(path.stem, text))


def test_histories_of_every_operation_are_recorded() -> None:
    operations = {path.stem.partition("-")[2] for path in RECORDED}
    assert {
        "create",
        "create-rollout",
        "scale",
        "rollout",
        "pause",
        "commands",
        "delete",
        "roleset",
        "warm-up",
        "podset",
        "groups",
        "group-rollout",
        "stuck-rollout",
        "failed-rollout",
    } <= operations


def test_a_recorded_life_began_with_its_first_decision() -> None:
    """Since release 0.3 an object's workflow is started together with the first plan of it."""
    for what in ("create", "roleset", "podset", "create-rollout"):
        started = json.loads((FOLDER / f"0.3-{what}.json").read_text())["events"][0]
        (given,) = started["workflowExecutionStartedEventAttributes"]["input"]["payloads"]
        assert json.loads(base64.b64decode(given["data"]))["opening"]["steps"], what


def test_a_warm_up_and_a_rollout_in_its_midst_are_recorded() -> None:
    assert '"name": "warm_up"' in (FOLDER / "0.3-warm-up.json").read_text()
    assert "WORKFLOW_EXECUTION_COMPLETED" not in (FOLDER / "0.3-stuck-rollout.json").read_text()
    assert "WORKFLOW_EXECUTION_COMPLETED" in (FOLDER / "0.3-failed-rollout.json").read_text()


async def test_a_whole_life_replays(world: World, operator: Operator, temporal: Client) -> None:
    await replay(await histories_of_a_life(world, temporal))


async def test_the_lives_of_an_engine_and_of_groups_replay(world: World, operator: Operator, temporal: Client) -> None:
    async with engine([503, 200]) as port, PaperNode(world, broken="bad", address="127.0.0.1").running():
        found = await histories_of_an_engine(world, temporal, port)
        found |= await histories_of_groups(world, temporal)
    await replay(found)


async def replay(found: dict[str, WorkflowHistory]) -> None:
    """Each against the code of this moment; kept where a release is named."""
    release = os.environ.get("BRIXFLOW_RECORD_HISTORIES")
    for what, history in found.items():
        await replayer().replay_workflow(history)
        if release:
            await asyncio.to_thread((FOLDER / f"{release}-{what}.json").write_text, scrubbed(history))


async def histories_of_a_life(world: World, temporal: Client) -> dict[str, WorkflowHistory]:
    """Create, scale, roll out, pause, resume, cancel, delete; the history of each operation at its end."""
    found: dict[str, WorkflowHistory] = {}
    workflow_id = f"stormservice/{world.namespace}/llama"
    handle = temporal.get_workflow_handle(workflow_id)

    async def rollout() -> WorkflowHistory:
        storm = await world.client.get(STORM_SERVICES, world.namespace, "llama")
        return await temporal.get_workflow_handle(
            f"rollout/{workflow_id}/{storm['status']['updateRevision']}"
        ).fetch_history()

    async with world.kubelet():
        await world.create(storm_service("llama", replicas=2))
        await eventually(lambda: world.is_at("llama", "v1", 2))
        roleset = (await world.all(ROLESETS))[0]["metadata"]["name"]
        found["create"] = await handle.fetch_history()
        found["create-rollout"] = await rollout()
        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 1}})
        await eventually(lambda: world.is_at("llama", "v1", 1))
        found["scale"] = await handle.fetch_history()
        await world.set_image("llama", "v2")
        await eventually(lambda: world.is_at("llama", "v2", 1))
        found["rollout"] = await rollout()
        await handle.execute_update("pause")
        await handle.execute_update("resume")
        await handle.cancel()
        found["pause"] = await handle.fetch_history()
        await handle.execute_update("plan")
        await handle.execute_update("undo")
        await eventually(lambda: world.is_at("llama", "v1", 1))
        await handle.execute_update("restart")
        found["commands"] = await handle.fetch_history()
        await world.delete(STORM_SERVICES, "llama")
        await eventually(lambda: is_gone(world))
        await handle.result()
        found["delete"] = await handle.fetch_history()
    found["roleset"] = await temporal.get_workflow_handle(f"roleset/{world.namespace}/{roleset}").fetch_history()
    return found


async def histories_of_an_engine(world: World, temporal: Client, port: int) -> dict[str, WorkflowHistory]:
    """It warms up, is drained and gets another image in place; its history at the end of its life."""
    await world.create(in_place("pair", 1, warmUp={"port": port}, drainSeconds=1))
    await eventually(lambda: world.is_ready("pair", ROLESETS))
    await edit(world, "pair", image="engine:v2")
    await eventually(is_updated(world, "engine:v2"))
    return {"warm-up": await history_at_the_end(world, temporal, ROLESETS, "pair")}


async def histories_of_groups(world: World, temporal: Client) -> dict[str, WorkflowHistory]:
    """A PodSet that starts again as a whole; groups of a StormService whose second rollout is taken back."""
    await world.create(pod_set("group", 2, recoveryPolicy="Recreate"))
    await eventually(lambda: is_at(world, "group", "Ready", 2, 2))
    before = uids(await world.all(PODS))
    await world.delete(PODS, "group-1")

    async def all_new() -> bool:
        return not before & uids(await world.all(PODS)) and await is_at(world, "group", "Ready", 2, 2)

    await eventually(all_new, what="both pods anew")
    found = {"podset": await history_at_the_end(world, temporal, PODSETS, "group")}
    body = storm_service("llama", progressDeadlineSeconds=2, automaticRollback=True)
    body["spec"]["template"]["spec"]["roles"][0]["podGroupSize"] = 2
    await world.create(body)
    await eventually(lambda: world.is_ready("llama"))
    return found | await histories_of_a_failure(world, temporal)


async def histories_of_a_failure(world: World, temporal: Client) -> dict[str, WorkflowHistory]:
    """Of a rollout that succeeds and one that cannot: in the midst of it, and after it was taken back."""
    found: dict[str, WorkflowHistory] = {}
    workflow_id = f"stormservice/{world.namespace}/llama"

    async def status() -> dict[str, Any]:
        return dict((await world.client.get(STORM_SERVICES, world.namespace, "llama"))["status"])

    first = (await status())["updateRevision"]
    found["group-rollout"] = await temporal.get_workflow_handle(f"rollout/{workflow_id}/{first}").fetch_history()
    await world.set_image("llama", "bad")

    async def is_stuck() -> str:
        now = await status()
        return str(now["updateRevision"]) if now["updateRevision"] != first and now.get("updatedReplicas") else ""

    bad = await eventually(is_stuck, what="a RoleSet that does not start")
    rollout = temporal.get_workflow_handle(f"rollout/{workflow_id}/{bad}")
    found["stuck-rollout"] = await rollout.fetch_history()
    assert (await rollout.result())["result"] == "failed"
    found["failed-rollout"] = await rollout.fetch_history()

    async def is_back() -> bool:
        now = await status()
        return (now["updateRevision"], now["readyReplicas"], now["replicas"]) == (first, 1, 1)

    await eventually(is_back, what="the first revision alone")
    found["groups"] = await history_at_the_end(world, temporal, STORM_SERVICES, "llama")
    return found


async def history_at_the_end(world: World, temporal: Client, resource: Resource, name: str) -> WorkflowHistory:
    handle = temporal.get_workflow_handle(f"{resource.key}/{world.namespace}/{name}")
    await world.delete(resource, name)
    await handle.result()
    return await handle.fetch_history()


async def is_gone(world: World) -> bool:
    return not [*await world.all(STORM_SERVICES), *await world.all(ROLESETS), *await world.all(PODS)]


def scrubbed(history: WorkflowHistory) -> str:
    """The history without the names of the machine and the processes that made it."""
    return json.dumps(_scrub(json.loads(history.to_json())), indent=1, sort_keys=True) + "\n"


def _scrub(value: Any) -> Any:
    if isinstance(value, list):
        return [_scrub(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _scrub(each) for key, each in value.items()}
    if "identity" in kept:
        kept["identity"] = "operator"
    if "STICKY" in str(kept.get("kind", "")):
        kept["name"] = "sticky"
    if "stackTrace" in kept:
        kept["stackTrace"] = ""
    return kept
