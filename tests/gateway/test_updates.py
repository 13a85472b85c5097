"""A collector with another layout of the segment, and another Envoy, take over under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from gateway.drain import drain
from tests.gateway.parts import Engine, Gate, eventually, free_port
from tests.gateway.rig import Rig, only_module
from tests.gateway.test_faults import assert_no_counter_fell
from tests.gateway.test_kills import flowing
from tests.gateway.test_lifetime import ended

pytestmark = pytest.mark.asyncio(loop_scope="session")
OTHER_LAYOUT = "1000"
"""Pods that the segment has room for from here on; the rig's own is the default."""

SLOW_SERVICE_SECONDS = 0.5
"""How long a Service still sends new connections to a pod that is ending."""

QUIET_SECONDS = 1.0
"""Without a new connection, before a draining Envoy takes none any more."""


@only_module
async def test_a_new_layout_fails_no_request_and_loses_no_count(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    assert rig.gateway is not None
    for engine in engines:
        rig.pod(model, engine.host)
    await rig.routable(model, len(engines))
    before = await rig.metrics()
    async with flowing(client, model, 50) as answers:
        rig.environment["BRIXFLOW_MAX_PODS"] = OTHER_LAYOUT
        rig.gateway.process.terminate()
        assert await ended(rig) == 0
        rig.start_gateway()
        await eventually(rig.is_healthy)
        await rig.routable(model, len(engines))
        seen = answers.whole
        await eventually(lambda: answers.whole > seen + 20)
        await asyncio.sleep(0.5)  # sweeps: what was counted on the file before is folded
    assert not answers.failed, answers.failed[:3]
    assert not answers.broken
    await eventually(rig.is_quiet)
    assert_no_counter_fell(before, await rig.metrics())
    assert await rig.metric("gateway_request_model_success_total", model=model) == answers.whole
    assert "origin=REPLACED" in rig.gateway.log.read_text()


@pytest_asyncio.fixture(loop_scope="session")
async def service(rig: Rig) -> AsyncIterator[Gate]:
    """The way to Envoy as a Service is one: new connections go to the target of now, others stay where they are."""
    gate = Gate(target=("127.0.0.1", rig.port))
    await gate.open()
    yield gate
    gate.shut()


async def replace_envoy(rig: Rig, service: Gate) -> None:
    """As an update of its Deployment does: a new one serves, the old one is drained while it leaves the Service."""
    old, admin = rig.envoy, f"http://127.0.0.1:{rig.admin_port}"
    assert old is not None
    rig.port, rig.admin_port = free_port(), free_port()
    rig.start_envoy()
    await eventually(rig.envoy_answers)
    draining = asyncio.create_task(asyncio.to_thread(drain, admin, 30, QUIET_SECONDS))
    await asyncio.sleep(SLOW_SERVICE_SECONDS)
    service.target = ("127.0.0.1", rig.port)
    assert await draining
    old.stop()


async def test_an_envoy_that_is_updated_fails_no_request(
    rig: Rig, service: Gate, engines: list[Engine], model: str
) -> None:
    for engine in engines:
        rig.pod(model, engine.host)
    await rig.routable(model, len(engines))
    assert rig.envoy is not None
    first = rig.envoy.process.pid
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as client,
        flowing(client, model, 50) as answers,
    ):
        await eventually(lambda: answers.whole > 20)
        await replace_envoy(rig, service)
        seen = answers.whole
        await eventually(lambda: answers.whole > seen + 50)
    assert rig.envoy.process.pid != first
    assert not answers.failed, answers.failed[:3]
    assert not answers.broken
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_request_model_success_total", model=model) == answers.whole
