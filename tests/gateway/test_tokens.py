"""Tokens counted at the gateway, through real Envoy, and what that costs others."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from tests.gateway.parts import Engine
from tests.gateway.rig import Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
EMBEDDINGS = "/v1/embeddings"


async def test_an_input_of_too_many_tokens_is_refused(  # 30, 31
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(EMBEDDINGS, json={"model": model, "input": "word " * 8191}) as answer:
        assert answer.status == 200
    async with client.post(EMBEDDINGS, json={"model": model, "input": "word " * 8193}) as answer:
        assert answer.status == 400
        message = (await answer.json())["error"]["message"]
        assert message == "input exceeds max tokens per model (8192), estimated tokens: 8193"


async def test_a_large_embedding_is_counted_beside_other_requests(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[1].host)
    await rig.routable(model, 1)
    words = "The quick brown fox jumps over the lazy dog, internationalisation notwithstanding. "
    for inputs, status in (([words * 440] * 36, 200), ([words * 440] * 60, 400)):
        async with client.post(EMBEDDINGS, json={"model": model, "input": inputs}) as answer:
            assert answer.status == status, await answer.text()
    started = time.monotonic()
    large = asyncio.create_task(large_embedding(client, model, [words * 440] * 36))
    answered = 0
    while not large.done():
        async with client.post("/v1/chat/completions", json=chat(model)) as answer:
            assert answer.status == 200
        answered += 1
    assert await large == 200
    assert answered > 0
    assert time.monotonic() - started < 20


async def large_embedding(client: aiohttp.ClientSession, model: str, inputs: list[str]) -> int:
    async with client.post(EMBEDDINGS, json={"model": model, "input": inputs}) as answer:
        await answer.read()
        return answer.status
