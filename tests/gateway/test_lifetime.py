"""Starting, draining and ending the gateway's processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.rig import ControlPlane, Engine, Rig, chat, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"


def lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_on_sigterm_running_streams_end_well_and_the_process_ends_with_0(  # 97, gateway-ops 9
    control_plane: ControlPlane, engines: list[Engine], model: str
) -> None:
    async with (
        Rig.running(control_plane, BRIXFLOW_GATEWAY_PROCESSES="1") as rig,
        aiohttp.ClientSession(rig.url) as client,
    ):
        rig.pod(model, engines[0].host)
        await rig.routable(model, 1)
        assert rig.gateway is not None
        slow = {"x-engine-chunks": "8", "x-engine-gap": "0.2"}
        async with client.post(CHAT, json=chat(model, stream=True), headers=slow) as answer:
            await answer.content.readline()
            rig.gateway.process.terminate()
            await asyncio.sleep(0.3)
            assert not await rig.is_healthy()
            assert rig.gateway.process.poll() is None
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        await eventually(lambda: rig.gateway is not None and rig.gateway.process.poll() is not None)
        assert rig.gateway.process.returncode == 0
        assert not [name for name, pid in rig.children().items() if lives(pid)]
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["type"] == "overloaded_error"


async def test_a_stream_that_outlasts_the_drain_time_is_cut(
    control_plane: ControlPlane, engines: list[Engine], model: str
) -> None:
    variables = {"AIBRIX_SHUTDOWN_DRAIN_SECONDS": "1", "BRIXFLOW_GATEWAY_PROCESSES": "1"}
    async with Rig.running(control_plane, **variables) as rig, aiohttp.ClientSession(rig.url) as client:
        rig.pod(model, engines[0].host)
        await rig.routable(model, 1)
        assert rig.gateway is not None
        endless = {"x-engine-chunks": "300", "x-engine-gap": "0.1"}
        async with client.post(CHAT, json=chat(model, stream=True), headers=endless) as answer:
            await answer.content.readline()
            began = time.monotonic()
            rig.gateway.process.terminate()
            await eventually(lambda: rig.gateway is not None and rig.gateway.process.poll() is not None)
            assert 0.9 < time.monotonic() - began < 4
            assert rig.gateway.process.returncode == 0


async def test_children_end_with_a_parent_that_was_killed_and_the_next_one_adopts(
    control_plane: ControlPlane, engines: list[Engine], model: str
) -> None:
    async with Rig.running(control_plane) as rig, aiohttp.ClientSession(rig.url) as client:
        rig.pod(model, engines[0].host)
        await rig.routable(model, 1)
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
        assert rig.gateway is not None
        children = rig.children()
        os.kill(rig.gateway.process.pid, signal.SIGKILL)
        rig.gateway.process.wait()
        await eventually(lambda: not any(lives(pid) for pid in children.values()))
        rig.start_gateway()
        await eventually(rig.is_healthy)
        await rig.routable(model, 1)
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
        await eventually(rig.is_quiet)
        assert await rig.metric("gateway_request_model_success_total", model=model) == 2
        assert "origin=ADOPTED" in rig.gateway.log.read_text()
