"""What must hold when processes die: the operator at any step, Temporal for a while, one of two operators."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from temporalio.client import Client

from activities.resources import PODS, ROLESETS, STORM_SERVICES
from crds import labels
from local.control_plane_only import ControlPlane
from tests.workflows.rig import (
    HEARTBEAT_SECONDS,
    OperatorProcess,
    TemporalServer,
    World,
    eventually,
    operator_in_process,
    storm_service,
    uids,
)

REPLICAS, SURGE = 2, 1


class Watcher:
    """Remembers the most RoleSets that were ever alive at once, and every pod that ever was."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.most_rolesets = 0
        self.pods: dict[str, str] = {}

    async def run(self) -> None:
        while True:
            alive = [each for each in await self.world.all(ROLESETS) if "deletionTimestamp" not in each["metadata"]]
            self.most_rolesets = max(self.most_rolesets, len(alive))
            for pod in await self.world.all(PODS):
                self.pods[pod["metadata"]["uid"]] = pod["metadata"]["labels"]["roleset-name"]
            await asyncio.sleep(0.1)


async def kill_at_every_step(world: World, process: OperatorProcess, image: str, replicas: int) -> int:
    """Kill and restart the operator after each step that it reports, until the rollout is over; the number of kills."""
    kills, seen = 0, len(process.steps())
    ends = time.monotonic() + 100

    async def over() -> bool:
        return await world.is_at("llama", image, replicas)

    while not await over():
        assert time.monotonic() < ends, "the rollout does not end"
        if len(process.steps()) > seen:
            process.kill()
            kills += 1
            seen = len(process.steps())
            process.start()
        await asyncio.sleep(0.02)
    return kills


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_an_operator_killed_at_every_step_of_a_rollout_ends_it_with_no_object_twice(
    world: World, process: OperatorProcess
) -> None:
    await process.started()
    async with world.kubelet():
        await world.create(storm_service("llama", replicas=REPLICAS))
        await eventually(lambda: world.is_at("llama", "v1", REPLICAS))
        watcher = Watcher(world)
        watching = asyncio.create_task(watcher.run())
        await world.set_image("llama", "v2")
        kills = await kill_at_every_step(world, process, "v2", REPLICAS)
        watching.cancel()
    assert kills >= REPLICAS
    assert watcher.most_rolesets <= REPLICAS + SURGE
    assert max(Counter(watcher.pods.values()).values()) == 1, "one pod for each RoleSet that ever was"
    indexes = [roleset["metadata"]["annotations"][labels.ROLESET_INDEX] for roleset in await world.all(ROLESETS)]
    assert len(set(indexes)) == REPLICAS


async def test_an_operator_killed_while_it_waits_is_replaced_within_the_heartbeat(
    world: World, process: OperatorProcess
) -> None:
    await process.started()
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await eventually(lambda: world.is_ready("llama"))
        process.kill()
        process.start()
        began = time.monotonic()
        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 2}})
        await eventually(lambda: world.is_at("llama", "v1", 2))
    assert time.monotonic() - began < HEARTBEAT_SECONDS + 15


@pytest.mark.parametrize(
    "outage_seconds", [pytest.param(HEARTBEAT_SECONDS / 2, marks=pytest.mark.slow), HEARTBEAT_SECONDS + 1]
)
async def test_an_outage_of_temporal_costs_nothing_but_time(
    control_plane: ControlPlane, world: World, temporal_server: TemporalServer, outage_seconds: float
) -> None:
    async with (
        operator_in_process(control_plane.settings.operator_kubeconfig, temporal_server.address),
        world.kubelet(),
    ):
        await world.create(storm_service("llama"))
        await eventually(lambda: world.is_ready("llama"))
        before = uids(await world.all(PODS))
        temporal_server.kill()
        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 2}})
        await asyncio.sleep(outage_seconds)
        assert uids(await world.all(PODS)) == before
        temporal_server.start()
        await eventually(lambda: world.is_at("llama", "v1", 2), seconds=60)
        assert before < uids(await world.all(PODS))


async def test_without_temporal_the_operator_says_what_it_waits_for(
    control_plane: ControlPlane, world: World, temporal_server: TemporalServer, tmp_path: Path
) -> None:
    temporal_server.kill()
    process = OperatorProcess(
        control_plane.settings.operator_kubeconfig, temporal_server.address, tmp_path / "operator.log"
    )
    process.start()
    try:

        async def waits() -> bool:
            status, text = await process.fetch("/readyz")
            return status == 503 and text.startswith(f"waiting for Temporal at {temporal_server.address}")

        await eventually(waits)
        assert (await process.fetch("/healthz"))[0] == 200
        temporal_server.start()

        async def is_ready() -> bool:
            return (await process.fetch("/readyz"))[0] == 200

        await eventually(is_ready)
        began = time.monotonic()
        assert await process.stop() == 0
        assert time.monotonic() - began < 10
    finally:
        process.kill()


async def test_of_two_operators_one_acts_and_the_other_takes_over_when_it_ends(
    control_plane: ControlPlane, world: World, process: OperatorProcess, tmp_path: Path
) -> None:
    process.variables["BRIXFLOW_OPERATOR_IDENTITY"] = "first"
    await process.started()
    second = OperatorProcess(
        control_plane.settings.operator_kubeconfig, control_plane.temporal_address, tmp_path / "second.log"
    )
    second.variables["BRIXFLOW_OPERATOR_IDENTITY"] = "second"
    second.start()
    try:

        async def stands_by() -> bool:
            return (await second.fetch("/readyz"))[0] == 200

        await eventually(stands_by)
        await asyncio.sleep(3)
        assert not await second.is_leader()
        async with world.kubelet():
            await world.create(storm_service("llama"))
            await eventually(lambda: world.is_ready("llama"))
            assert await process.stop() == 0
            await eventually(second.is_leader, seconds=6)
            await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 2}})
            await eventually(lambda: world.is_at("llama", "v1", 2))
    finally:
        await second.stop()


async def test_a_long_history_goes_on_as_a_new_run(
    control_plane: ControlPlane, world: World, temporal_server: TemporalServer
) -> None:
    async with (
        operator_in_process(control_plane.settings.operator_kubeconfig, temporal_server.address),
        world.kubelet(),
    ):
        await world.create(storm_service("llama"))
        await eventually(lambda: world.is_ready("llama"))
        temporal = await Client.connect(temporal_server.address)
        handle = temporal.get_workflow_handle(f"stormservice/{world.namespace}/llama")
        first = await handle.describe()
        for replicas in (2, 1, 2, 1, 2):
            await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": replicas}})
            await eventually(lambda: world.is_at("llama", "v1", replicas))  # noqa: B023 - awaited at once

        async def is_new_run() -> bool:
            return (await handle.describe()).run_id != first.run_id

        await eventually(is_new_run)
        assert (await handle.describe()).raw_description.workflow_execution_info.first_run_id == first.run_id
        details = await handle.query("__temporal_workflow_metadata")
        assert f"**stormservice {world.namespace}/llama**" in str(details)
