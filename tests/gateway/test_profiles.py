"""Configuration profiles from the pods' annotation, through real Envoy."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
PROFILES = {
    "default": {"routingStrategy": "random"},
    "fast": {"routingStrategy": "throughput"},
    "long": {"routingStrategy": "power-of-two", "routingConfig": {"maxTokensGte": 1000}},
}


async def test_an_annotation_decides_and_its_changes_take_effect(  # 59, 62 to 66
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)

    def configure(document: dict[str, object]) -> None:
        rig.kubectl("annotate", "--overwrite", "pod", pod, f"model.aibrix.ai/config={json.dumps(document)}")

    async def told(**headers: str) -> tuple[str, str | None]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.post(CHAT, json=chat(model, max_tokens=2000), headers=named) as answer:
            assert answer.status == 200
            return answer.headers["routing-strategy"], answer.headers.get("x-aibrix-config-profile")

    async def becomes(strategy: str, **headers: str) -> bool:
        return (await told(**headers))[0] == strategy

    assert await told(config_profile="fast") == ("least-request", None)
    configure({"profiles": PROFILES})
    await eventually(lambda: becomes("throughput", config_profile="fast"))
    assert await told() == ("random", None)
    assert await told(config_profile="auto") == ("power-of-two", "long")
    assert await told(config_profile="auto", routing_strategy="least-request") == ("least-request", "long")
    configure({"profiles": PROFILES, "lockedRoutingStrategy": "power-of-two"})
    await eventually(lambda: becomes("power-of-two", routing_strategy="random"))
