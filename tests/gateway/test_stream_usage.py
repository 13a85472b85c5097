"""Streams that did not ask for usage are counted, and their clients get what they would have got."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"


async def events(answer: aiohttp.ClientResponse) -> list[str]:
    assert answer.status == 200
    return [line for line in (await answer.text()).split("\n\n") if line]


async def test_a_stream_is_counted_and_has_no_extra_chunk(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model, stream=True)) as answer:
        plain = await events(answer)
    assert len(plain) == 4
    assert plain[-1] == "data: [DONE]"
    assert not any("usage" in line for line in plain)
    assert json.loads((await engines[0].seen())[-1]["body"])["stream_options"] == {"include_usage": True}

    async def counted() -> bool:
        return await rig.metric("gateway_input_tokens_total", model=model) == 10

    await eventually(counted)
    async with client.post(CHAT, json=chat(model, stream=True, stream_options={"include_usage": True})) as answer:
        asked = await events(answer)
    assert len(asked) == 5
    assert '"prompt_tokens":10' in asked[-2]


async def test_a_large_prompt_is_asked_for_usage_too(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[1].host)
    await rig.routable(model, 1)
    for size in (100_000, 1_500_000, 5_000_000):
        async with client.post(CHAT, json=chat(model, "x" * size, stream=True)) as answer:
            assert len(await events(answer)) == 4
        seen = json.loads((await engines[1].seen())[-1]["body"])
        assert seen["stream_options"] == {"include_usage": True}
        assert len(seen["messages"][0]["content"]) == size


async def test_each_event_of_a_counted_stream_comes_at_once(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[2].host)
    await rig.routable(model, 1)
    slow = {"x-engine-chunks": "4", "x-engine-gap": "0.2"}
    async with client.post(CHAT, json=chat(model, stream=True), headers=slow) as answer:
        times = [asyncio.get_running_loop().time() async for _ in answer.content.iter_any()]
    assert len(times) >= 4
    assert times[3] - times[0] > 0.4
