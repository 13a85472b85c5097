"""Starting, draining and ending the gateway's processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from gateway.drain import drain
from gateway.settings import Host
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import ControlPlane, Rig, chat, only_grpc, only_module

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"


def lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(control_plane: ControlPlane, host: Host) -> AsyncIterator[Rig]:
    variables = {"AIBRIX_SHUTDOWN_DRAIN_SECONDS": "2", "BRIXFLOW_GATEWAY_PROCESSES": "1"}
    async with Rig.running(control_plane, host, **variables) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="session")
async def mortal(shared: Rig, engines: list[Engine], model: str) -> Rig:
    """A rig whose gateway a test may end; the next test starts it again."""
    assert shared.gateway is not None
    if shared.gateway.process.poll() is not None:
        shared.start_gateway()
    await eventually(shared.is_healthy)
    shared.pod(model, engines[0].host)
    await shared.routable(model, 1)
    return shared


async def ended(rig: Rig) -> int:
    """Exit code of the gateway, once it has ended with all its children."""
    assert rig.gateway is not None
    process = rig.gateway.process
    await eventually(lambda: process.poll() is not None)
    await eventually(lambda: not any(lives(pid) for pid in rig.children().values()))
    return process.returncode


@only_grpc
async def test_on_sigterm_running_streams_end_well_and_the_process_ends_with_0(  # 97, gateway-ops 9
    mortal: Rig, model: str
) -> None:
    assert mortal.gateway is not None
    slow = {"x-engine-chunks": "6", "x-engine-gap": "0.2"}
    async with aiohttp.ClientSession(mortal.url) as client:
        async with client.post(CHAT, json=chat(model, stream=True), headers=slow) as answer:
            await answer.content.readline()
            mortal.gateway.process.terminate()
            await asyncio.sleep(0.3)
            assert not await mortal.is_healthy()
            assert mortal.gateway.process.poll() is None
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert await ended(mortal) == 0
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["type"] == "overloaded_error"


@only_grpc
async def test_a_stream_that_outlasts_the_drain_time_is_cut(mortal: Rig, model: str) -> None:
    assert mortal.gateway is not None
    endless = {"x-engine-chunks": "300", "x-engine-gap": "0.1"}
    async with (
        aiohttp.ClientSession(mortal.url) as client,
        client.post(CHAT, json=chat(model, stream=True), headers=endless) as answer,
    ):
        await answer.content.readline()
        began = time.monotonic()
        mortal.gateway.process.terminate()
        assert await ended(mortal) == 0
        assert 1.9 < time.monotonic() - began < 6


async def test_children_end_with_a_parent_that_was_killed_and_the_next_one_adopts(mortal: Rig, model: str) -> None:
    assert mortal.gateway is not None
    async with aiohttp.ClientSession(mortal.url) as client:
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
        mortal.gateway.process.kill()
        await ended(mortal)
        mortal.start_gateway()
        await eventually(mortal.is_healthy)
        await mortal.routable(model, 1)
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
    await eventually(mortal.is_quiet)
    assert await mortal.metric("gateway_request_model_success_total", model=model) == 2
    assert "origin=ADOPTED" in mortal.gateway.log.read_text()


async def test_a_drained_envoy_ends_what_runs_and_takes_nothing_new(mortal: Rig, model: str) -> None:
    admin = f"http://127.0.0.1:{mortal.admin_port}"
    slow = {"x-engine-chunks": "15", "x-engine-gap": "0.2"}
    try:
        async with (
            aiohttp.ClientSession(mortal.url) as client,
            client.post(CHAT, json=chat(model, stream=True), headers=slow) as answer,
        ):
            await answer.content.readline()
            assert not await asyncio.to_thread(drain, admin, 0.1)
            draining = asyncio.create_task(asyncio.to_thread(drain, admin, 30))
            with pytest.raises(aiohttp.ClientConnectorError):
                async with aiohttp.ClientSession() as other, other.get(f"{mortal.url}/healthz"):
                    pass
            assert not draining.done()
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert await draining
    finally:
        mortal.restart_envoy()
        await eventually(mortal.envoy_answers)
    assert await mortal.metric("gateway_request_model_success_total", model=model) == 1


@only_module
async def test_envoy_decides_on_while_the_gateway_is_away(mortal: Rig, model: str) -> None:
    assert mortal.gateway is not None
    slow = {"x-engine-chunks": "6", "x-engine-gap": "0.2"}
    async with aiohttp.ClientSession(mortal.url) as client:
        async with client.post(CHAT, json=chat(model, stream=True), headers=slow) as answer:
            await answer.content.readline()
            mortal.gateway.process.terminate()
            assert await ended(mortal) == 0
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
    mortal.start_gateway()
    await eventually(mortal.is_healthy)
    await eventually(mortal.is_quiet)
    assert await mortal.metric("gateway_request_model_success_total", model=model) == 2


@only_module
async def test_an_envoy_without_a_segment_answers_503_and_serves_as_soon_as_there_is_one(
    mortal: Rig, engines: list[Engine], model: str
) -> None:
    assert mortal.gateway is not None
    mortal.gateway.process.terminate()
    await ended(mortal)
    mortal.settings.segment_path.unlink()
    mortal.restart_envoy()
    await eventually(mortal.envoy_answers)
    async with aiohttp.ClientSession(mortal.url) as client:
        async with client.post(CHAT, json=chat(model)) as answer:
            assert (answer.status, answer.headers["content-type"]) == (503, "application/json")
            assert await answer.json() == {
                "error": {
                    "message": "error on selecting target pod", "type": "overloaded_error",
                    "code": "service_unavailable", "param": None,
                }
            }  # fmt: skip
        mortal.start_gateway()
        await eventually(mortal.is_healthy)
        await mortal.routable(model, 1)
        await asyncio.sleep(0.15)
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
    await eventually(mortal.is_quiet)


@only_module
async def test_a_damaged_segment_is_named_in_the_log_and_recovered_from(mortal: Rig, model: str) -> None:
    assert mortal.gateway is not None
    assert mortal.envoy is not None
    mortal.gateway.process.terminate()
    await ended(mortal)
    mortal.settings.segment_path.write_bytes(b"not a segment" * 4096)
    mortal.restart_envoy()
    await eventually(mortal.envoy_answers)
    async with aiohttp.ClientSession(mortal.url) as client:
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 503
        assert "is damaged or of an unknown version" in mortal.envoy.log.read_text()
        mortal.start_gateway()
        await eventually(mortal.is_healthy)
        await mortal.routable(model, 1)
        await asyncio.sleep(0.15)
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
