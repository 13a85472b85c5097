"""Host grpc may leave the bodies of answers to Envoy, whether Envoy allows it or not: each counts to its last byte."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from gateway.settings import Host
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import ControlPlane, Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def unread(control_plane: ControlPlane) -> AsyncIterator[Rig]:
    """A gateway that wants nothing of a good answer's body."""
    async with Rig.running(control_plane, Host.GRPC, BRIXFLOW_GATEWAY_READS_ANSWERS="false") as running:
        yield running


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_slow_stream_is_in_flight_until_its_last_byte_when_its_body_is_not_read(
    unread: Rig, engines: list[Engine], model: str, is_allowed: bool
) -> None:
    unread.mode_override = is_allowed
    unread.restart_envoy()
    await eventually(unread.envoy_answers)
    model = f"{model}-{is_allowed}".lower()
    pod = unread.pod(model, engines[0].host)
    await unread.routable(model, 1)
    headers = {"x-engine-chunks": "5", "x-engine-gap": "0.2"}
    async with aiohttp.ClientSession(unread.url) as client:
        async with client.post(CHAT, json=chat(model, stream=True), headers=headers) as answer:
            for _ in range(5):
                while not (await answer.content.readline()).startswith(b"data:"):
                    pass
                assert await unread.metric("brixflow_pod_requests_running", pod=pod) == 1
            await answer.read()
        async with client.post(CHAT, json=chat(model)) as answer:
            assert (await answer.json())["usage"]["total_tokens"] == 18
        async with client.post(CHAT, json=chat(model), headers={"x-engine-status": "429"}) as answer:
            assert set((await answer.json())["error"]) == {"message", "type", "code", "param"}
    await eventually(unread.is_quiet)
    assert await unread.metric("gateway_request_model_success_total", model=model) == 2
    assert await unread.metric("gateway_request_model_fail_total", model=model, status_code="429") == 1
    assert await unread.metric("gateway_requests_with_usage_total", model=model) == (0 if is_allowed else 1)
