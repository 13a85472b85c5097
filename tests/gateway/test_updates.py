"""A collector with another layout of the segment takes over under load."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, only_module
from tests.gateway.test_faults import assert_no_counter_fell
from tests.gateway.test_kills import flowing
from tests.gateway.test_lifetime import ended

pytestmark = pytest.mark.asyncio(loop_scope="session")
OTHER_LAYOUT = "1000"
"""Pods that the segment has room for from here on; the rig's own is the default."""


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
