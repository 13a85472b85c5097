"""Histories of earlier releases replay against the code of this one, and so do those of this very moment.

To record the life of an object again, after a change that is meant to be incompatible with none of them:

    BRIXFLOW_RECORD_HISTORIES=<release> pytest tests/workflows/test_histories.py

writes `tests/data/histories/<release>-<what>.json`. Files of older releases stay.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from activities.resources import PODS, ROLESETS, STORM_SERVICES
from tests.workflows.rig import World, eventually, storm_service
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
    } <= operations


async def test_a_whole_life_replays(world: World, operator: Operator, temporal: Client) -> None:
    found = await histories_of_a_life(world, temporal)
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
