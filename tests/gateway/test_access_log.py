"""The access log says the same of a request whichever host decided it: the expectations here know no host."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
FIELDS = ("status", "strategy", "outcome", "prompt_tokens", "completion_tokens")


def lines_of(rig: Rig, model: str) -> list[dict[str, Any]]:
    listed = (rig.home / "access.log").read_text().splitlines()
    return [line for line in map(json.loads, listed) if line["model"] == model]


async def leave(client: aiohttp.ClientSession, model: str) -> None:
    """Go away while the engine has not answered."""
    with pytest.raises(asyncio.TimeoutError):
        await client.post(
            CHAT, json=chat(model), headers={"x-engine-delay": "5"}, timeout=aiohttp.ClientTimeout(total=0.3)
        )


async def test_each_ending_has_one_line_with_model_strategy_pod_outcome_and_tokens(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    await (await client.post(CHAT, json=chat(model, stream=True))).read()
    await (await client.post(CHAT, json=chat(model), headers={"routing-strategy": "random"})).read()
    await (await client.post(CHAT, json=chat(model), headers={"x-engine-status": "429"})).read()
    await (await client.post(CHAT, json=chat(model), headers={"routing-strategy": "nonsense"})).read()
    await leave(client, model)
    await eventually(lambda: len(lines_of(rig, model)) == 5)
    lines = lines_of(rig, model)
    assert [tuple(line[field] for field in FIELDS) for line in lines] == [
        (200, "least-request", "ok", "10", "3"),
        (200, "random", "ok", "10", "8"),
        (429, "least-request", "upstream_error", None, None),
        (400, None, "rejected", None, None),
        (0, None, "client_cancelled", None, None),
    ]
    assert [line["pod"] for line in lines] == [pod, pod, pod, None, None]
    assert lines[4]["upstream"] == engines[0].address


async def test_the_time_to_the_first_token_is_told_apart_from_the_whole(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    headers = {"x-engine-delay": "0.2", "x-engine-chunks": "4", "x-engine-gap": "0.2"}
    await (await client.post(CHAT, json=chat(model, stream=True), headers=headers)).read()
    await eventually(lambda: len(lines_of(rig, model)) == 1)
    (line,) = lines_of(rig, model)
    assert 200 <= line["first_token_ms"] <= line["duration_ms"] - 500
