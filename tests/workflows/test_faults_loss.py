"""What is lost or comes twice: Temporal's database, its answers for minutes, events, a network, a workflow's past."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client

from activities import fences
from activities.resources import PODS, ROLESETS, STORM_SERVICES
from local.control_plane_only import ControlPlane
from tests.workflows.proxies import ApiProxy, Points, TemporalProxy
from tests.workflows.rig import (
    OperatorProcess,
    TemporalServer,
    World,
    eventually,
    operator_in_process,
    storm_service,
    uids,
)
from workflows import starter
from workflows.operator import Operator

MINUTES = pytest.param(120.0, 30.0, marks=pytest.mark.slow)


@pytest.fixture
async def temporal_proxy(control_plane: ControlPlane) -> AsyncIterator[TemporalProxy]:
    proxy = TemporalProxy(control_plane.temporal_address, Points())
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("outage_seconds", "decision_seconds"), [(4.0, 2.0), MINUTES])
async def test_pods_that_fail_between_a_decision_and_its_delete_keep_the_floor(
    control_plane: ControlPlane,
    world: World,
    temporal_proxy: TemporalProxy,
    monkeypatch: pytest.MonkeyPatch,
    outage_seconds: float,
    decision_seconds: float,
) -> None:
    """Of three RoleSets one may be unavailable: it was to be deleted, then another one failed by itself."""
    monkeypatch.setattr(fences, "DECISION_LIFE", timedelta(seconds=decision_seconds))
    strategy = {"type": "RollingUpdate", "maxSurge": 0, "maxUnavailable": 1}
    async with operator_in_process(control_plane.settings.operator_kubeconfig, temporal_proxy.address):
        await world.create(storm_service("llama", replicas=3, updateStrategy=strategy))
        async with world.kubelet():
            await eventually(lambda: world.is_at("llama", "v1", 3))
        before = uids(await world.all(PODS))
        temporal_proxy.cut_after = b"delete-rolesets"
        await world.set_image("llama", "v2")

        async def is_cut() -> bool:
            return temporal_proxy.away

        await eventually(is_cut)
        assert uids(await world.all(PODS)) == before
        failed = (await world.all(PODS))[0]["metadata"]["name"]
        await world.set_unready(failed)
        await asyncio.sleep(outage_seconds)
        temporal_proxy.away = False
        ends = asyncio.get_running_loop().time() + 5
        while asyncio.get_running_loop().time() < ends:
            ready = [pod for pod in await world.all(PODS) if world.is_pod_ready(pod)]
            assert len(ready) >= 2, "a ready pod was taken below the floor"
            await asyncio.sleep(0.1)
        async with world.kubelet():
            await eventually(lambda: world.is_at("llama", "v2", 3), seconds=90)


@pytest.mark.timeout(180)
async def test_a_lost_database_of_temporal_in_mid_rollout_restarts_no_pod(
    control_plane: ControlPlane, world: World, temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "UNTENDED_SECONDS", 2.0)
    async with operator_in_process(control_plane.settings.operator_kubeconfig, temporal_server.address):
        await world.create(storm_service("llama", replicas=2))
        await world.create(storm_service("other"))
        async with world.kubelet():
            await eventually(lambda: world.is_ready("llama"))
            await eventually(lambda: world.is_ready("other"))
        untouched = [pod for pod in await world.all(PODS) if pod["metadata"]["labels"]["app"] == "other"]
        await world.set_image("llama", "v2")

        async def is_surged() -> bool:
            return len(await world.all(PODS)) == 4

        await eventually(is_surged)
        before = uids(await world.all(PODS))
        temporal_server.kill()
        temporal_server.forget()
        temporal_server.start()
        await asyncio.sleep(5)
        assert uids(await world.all(PODS)) == before, "pods went or came although nothing became ready"
        async with world.kubelet():

            async def is_done() -> bool:
                pods = [pod for pod in await world.all(PODS) if pod["metadata"]["labels"]["app"] == "llama"]
                images = {pod["spec"]["containers"][0]["image"] for pod in pods}
                return len(pods) == 2 and images == {"engine:v2"} and await world.is_ready("llama")

            await eventually(is_done, seconds=90)
        after = [pod for pod in await world.all(PODS) if pod["metadata"]["labels"]["app"] == "other"]
        assert [pod["metadata"]["resourceVersion"] for pod in after] == [
            pod["metadata"]["resourceVersion"] for pod in untouched
        ]


async def test_a_thousand_stale_and_doubled_events_change_nothing(world: World, operator: Operator) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama", replicas=2))
        await eventually(lambda: world.is_at("llama", "v1", 2))
        old = {resource: await world.all(resource) for resource in (PODS, ROLESETS, STORM_SERVICES)}
        await world.set_image("llama", "v2")
        await eventually(lambda: world.is_at("llama", "v2", 2))
    await asyncio.sleep(1.0)
    before = await states(world)
    chance = random.Random(6)
    for _ in range(1000):
        resource = chance.choice([PODS, ROLESETS, STORM_SERVICES])
        store = operator.cache.stores[resource.key]
        live = [each for each in store.objects() if each["metadata"]["namespace"] == world.namespace]
        gone = [each for each in old[resource] if store.by_uid(each["metadata"]["uid"]) is None]
        known = [each for each in old[resource] if each not in gone]
        event = deepcopy(chance.choice(live + known))
        event.setdefault("kind", resource.kind)
        event.setdefault("apiVersion", resource.api_version)
        store.put(event)
        if gone:
            store.remove(chance.choice(gone))
    await asyncio.sleep(2.0)
    assert await states(world) == before


async def states(world: World) -> dict[str, str]:
    """Every object's uid with its version: equal means that nobody wrote anything."""
    found = [each for resource in (PODS, ROLESETS, STORM_SERVICES) for each in await world.all(resource)]
    return {each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in found}


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_of_two_operators_the_one_cut_off_stops_and_the_other_takes_over(
    control_plane: ControlPlane, world: World, tmp_path: Path
) -> None:
    api = ApiProxy(control_plane.settings.operator_kubeconfig, Points())
    await api.start()
    first = OperatorProcess(api.kubeconfig(tmp_path / "cut"), control_plane.temporal_address, tmp_path / "first.log")
    second = OperatorProcess(
        control_plane.settings.operator_kubeconfig, control_plane.temporal_address, tmp_path / "second.log"
    )
    first.variables["BRIXFLOW_OPERATOR_IDENTITY"] = "first"
    second.variables["BRIXFLOW_OPERATOR_IDENTITY"] = "second"
    try:
        await first.started()
        second.start()
        async with world.kubelet():
            await world.create(storm_service("llama"))
            await eventually(lambda: world.is_ready("llama"))
            before = uids(await world.all(PODS))
            api.away = True
            api.cut()
            await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 2}})
            await eventually(second.is_leader, seconds=30)
            assert not await first.is_leader()
            await eventually(lambda: world.is_at("llama", "v1", 2))
            assert before < uids(await world.all(PODS))
            api.away = False
            settled = await states(world)
            await asyncio.sleep(5)
            assert not await first.is_leader()
            assert await states(world) == settled
    finally:
        first.kill()
        await second.stop()
        await api.stop()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_settled_object_in_need_is_woken_by_the_next_operator_long_before_its_poll_is_missed(
    world: World, control_plane: ControlPlane, tmp_path: Path
) -> None:
    process = OperatorProcess(
        control_plane.settings.operator_kubeconfig, control_plane.temporal_address, tmp_path / "operator.log"
    )
    process.variables["BRIXFLOW_WATCH_HEARTBEAT_SECONDS"] = "15"
    try:
        await process.started()
        async with world.kubelet():
            await world.create(storm_service("llama"))
            await eventually(lambda: world.is_ready("llama"))
            await asyncio.sleep(7)
            process.kill()
            await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 2}})
            await process.started()
            await eventually(lambda: world.is_at("llama", "v1", 2), seconds=30)
        assert "poll-lost" in process.log.read_text()
    finally:
        process.kill()


@pytest.mark.timeout(180)
async def test_a_reset_of_either_workflow_is_survived_without_a_change(
    world: World, operator: Operator, temporal: Client
) -> None:
    await world.create(storm_service("llama", replicas=2))
    async with world.kubelet():
        await eventually(lambda: world.is_at("llama", "v1", 2))
    object_id = f"stormservice/{world.namespace}/llama"
    before = uids(await world.all(PODS))
    await reset(temporal, object_id)
    async with world.kubelet():
        await asyncio.sleep(2)
        assert uids(await world.all(PODS)) == before
        await world.patch(STORM_SERVICES, "llama", {"spec": {"replicas": 3}})
        await eventually(lambda: world.is_at("llama", "v1", 3), seconds=60)
    assert before < uids(await world.all(PODS))
    await world.set_image("llama", "v2")

    async def is_surged() -> bool:
        return len(await world.all(PODS)) == 4

    await eventually(is_surged)
    surged = uids(await world.all(PODS))
    storm = await world.client.get(STORM_SERVICES, world.namespace, "llama")
    await reset(temporal, f"rollout/{object_id}/{storm['status']['updateRevision']}")
    await asyncio.sleep(3)
    assert uids(await world.all(PODS)) == surged
    async with world.kubelet():
        await eventually(lambda: world.is_at("llama", "v2", 3), seconds=90)


async def reset(temporal: Client, workflow_id: str) -> None:
    """Back to the first workflow task, as from the UI."""
    handle = temporal.get_workflow_handle(workflow_id)
    history = await handle.fetch_history()
    done = next(e for e in history.events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
    run_id = (await handle.describe()).run_id
    await temporal.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            reason="test",
            workflow_task_finish_event_id=done.event_id,
            request_id=f"reset-{run_id}",
        )
    )
