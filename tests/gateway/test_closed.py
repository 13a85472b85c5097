"""A gateway with an API key and without a default strategy. Numbers are acceptance cases of the gateway document."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import grpc.aio
import pytest
import pytest_asyncio

from gateway.settings import Host
from tests.gateway.exchange import Exchange, headers_set
from tests.gateway.parts import Engine
from tests.gateway.rig import ControlPlane, Rig, chat, only_grpc

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer secret-1"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def closed(control_plane: ControlPlane, engines: list[Engine], host: Host) -> AsyncIterator[Rig]:
    variables = {"AIBRIX_AUTH_BEARER_TOKEN": " secret-1 ", "ROUTING_ALGORITHM": "", "BRIXFLOW_GATEWAY_PROCESSES": "1"}
    async with Rig.running(control_plane, host, **variables) as rig:
        rig.pod("closed", engines[0].host)
        await rig.routable("closed", 1)
        yield rig


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ("Bearer secret-1", True),  # 1
        (None, False),  # 2
        ("secret-1", False),  # 3
        ("Bearer wrong-token", False),  # 4
        ("bearer   secret-1", True),  # 5
    ],
)
async def test_only_the_key_opens(closed: Rig, engines: list[Engine], given: str | None, accepted: bool) -> None:
    headers = {"routing-strategy": "random"} | ({"authorization": given} if given else {})
    async with (
        aiohttp.ClientSession(closed.url) as client,
        client.post(CHAT, json=chat("closed"), headers=headers) as answer,
    ):
        if accepted:
            assert answer.status == 200
            assert (await engines[0].seen())[-1]["headers"]["authorization"] == given
            return
        assert (answer.status, answer.headers["content-type"]) == (401, "application/json")
        assert await answer.json() == {
            "error": {
                "message": "Incorrect API key provided", "type": "authentication_error",
                "code": "invalid_api_key", "param": "api_key",
            }
        }  # fmt: skip


async def test_a_client_that_names_a_model_header_gets_past_nothing(closed: Rig) -> None:  # gateway-ops 40
    async with (
        aiohttp.ClientSession(closed.url) as client,
        client.post(CHAT, json=chat("closed"), headers={"model": "closed"}) as answer,
    ):
        assert answer.status == 401


async def test_without_any_strategy_the_answer_says_what_to_set(closed: Rig) -> None:
    async with (
        aiohttp.ClientSession(closed.url) as client,
        client.post(CHAT, json=chat("closed"), headers=KEY) as answer,
    ):
        assert (answer.status, answer.headers["x-error-routing"]) == (503, "true")
        error = (await answer.json())["error"]
        assert error["code"] == "service_unavailable"
        assert "ROUTING_ALGORITHM" in error["message"]


async def test_the_key_is_in_no_log(closed: Rig) -> None:
    for log in closed.home.glob("*.log"):
        assert "secret-1" not in log.read_text()


@only_grpc
async def test_without_any_strategy_only_the_model_is_set(closed: Rig) -> None:  # 49, 53
    async with grpc.aio.insecure_channel(closed.settings.ext_proc_address) as channel:
        exchange = Exchange(channel)
        reply = await exchange.request("closed", KEY)
        assert headers_set(reply.request_body) == {"model": "closed"}
        exchange.call.cancel()
