"""Processes end by SIGKILL under load: only what was on them fails, and nothing of it stays in flight."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from gateway.settings import Host
from tests.gateway.parts import Engine, eventually
from tests.gateway.redis_server import RedisServer
from tests.gateway.rig import Rig, chat, only_module
from tests.gateway.standalone import Standalone, without_kubernetes

pytestmark = pytest.mark.asyncio(loop_scope="session")
StartEngine = Callable[[], Awaitable[Engine]]
CHAT = "/v1/chat/completions"
STREAMED = {"x-engine-chunks": "4", "x-engine-gap": "0.02"}
ENDLESS = {"x-engine-chunks": "500", "x-engine-gap": "0.05"}


@dataclass
class Answers:
    """How requests ended: whole; broken off after a first byte; anything else is told in words."""

    whole: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    async def ask(self, client: aiohttp.ClientSession, model: str, stream: bool, headers: dict[str, str]) -> None:
        begun = ""
        try:
            async with client.post(CHAT, json=chat(model, stream=stream), headers=STREAMED | headers) as answer:
                begun = answer.headers.get("target-pod", "") if answer.status == 200 else ""
                text = await answer.read()
                if begun and (not stream or text.endswith(b"data: [DONE]\n\n")):
                    self.whole += 1
                else:
                    self.failed.append(f"{answer.status} {text!r}")
        except aiohttp.ClientError as error:
            if begun:
                self.broken[begun] += 1
            else:
                self.failed.append(repr(error))


@contextlib.asynccontextmanager
async def flowing(client: aiohttp.ClientSession, model: str, per_second: int, **headers: str) -> AsyncIterator[Answers]:
    """Plain and streamed chats in turn at a steady rate while the block runs; all have ended when it is left."""
    answers, running = Answers(), set[asyncio.Task[None]]()

    async def send() -> None:
        stream, clock = False, asyncio.get_running_loop().time
        due = clock()
        while True:
            stream = not stream
            task = asyncio.create_task(answers.ask(client, model, stream, headers))
            running.add(task)
            task.add_done_callback(running.discard)
            due += 1 / per_second
            await asyncio.sleep(max(0, due - clock()))

    sender = asyncio.create_task(send())
    try:
        yield answers
    finally:
        sender.cancel()
        await asyncio.gather(*running)


@pytest_asyncio.fixture(loop_scope="session")
async def whole_envoy(rig: Rig) -> AsyncIterator[Rig]:
    """The rig, whose Envoy a test may kill."""
    yield rig
    assert rig.envoy is not None
    if rig.envoy.process.poll() is not None:
        rig.start_envoy()
        await eventually(rig.envoy_answers)


@only_module
async def test_an_engine_killed_at_200_requests_a_second_takes_only_begun_answers_along(
    rig: Rig, client: aiohttp.ClientSession, start_engine: StartEngine, model: str
) -> None:
    engines = [await start_engine() for _ in range(4)]
    pods = [rig.pod(model, engine.host) for engine in engines]
    await rig.routable(model, 4)
    async with flowing(client, model, 200) as answers:
        await eventually(lambda: answers.whole > 100)
        engines[0].stop()
        await asyncio.sleep(1.5)  # nobody tells the API server
        rig.set_ready(pods[0], False)
        await rig.routable(model, 3)
    assert not answers.failed, answers.failed[:3]
    assert set(answers.broken) <= {pods[0]}
    assert answers.whole > 300
    await eventually(rig.is_quiet)


async def fallbacks(rig: Standalone) -> float:
    """Requests that this node decided on its own, because Redis was away."""
    async with aiohttp.ClientSession() as session, session.get(f"{rig.http_url}/metrics") as got:
        lines = (await got.text()).splitlines()
    told = [line for line in lines if line.startswith("brixflow_limit_fallbacks_total") and "store_away" in line]
    return float(told[0].rpartition(" ")[2])


async def test_a_redis_killed_under_load_fails_nobody_and_counts_again_when_it_is_back(
    host: Host, engines: list[Engine], tmp_path: Path
) -> None:
    """Every request is one of a user with limits, so each asks Redis first."""
    user = {"name": "ada", "rpm": 1_000_000}
    with RedisServer.running(tmp_path) as redis:
        redis.client.set("aibrix-users/ada", json.dumps(user))
        known = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port), "BRIXFLOW_LIMITS_DEADLINE_MS": "500"}
        with without_kubernetes(host, **known) as rig:
            rig.say(*engines)
            rig.start()
            async with aiohttp.ClientSession(rig.url, connector=aiohttp.TCPConnector(limit=0)) as client:
                await eventually(lambda: is_served(client), within=20)
                async with flowing(client, "m", 100, user="ada") as answers:
                    await eventually(lambda: answers.whole > 50)
                    assert await fallbacks(rig) == 0
                    assert counted(redis) > 50
                    redis.stop()
                    await eventually(lambda: many_fallbacks(rig), within=10)
                    redis.start()
                    before = counted(redis)
                    await eventually(lambda: counted(redis) > before + 50, within=10)
                assert not answers.failed, answers.failed[:3]
                assert not answers.broken


async def is_served(client: aiohttp.ClientSession) -> bool:
    async with client.post(CHAT, json=chat("m"), headers={"user": "ada"}) as answer:
        return answer.status == 200


async def many_fallbacks(rig: Standalone) -> bool:
    return await fallbacks(rig) > 50


def counted(redis: RedisServer) -> int:
    """Requests that the user's windows in Redis hold, of all minutes."""
    client = redis.client
    return sum(int(value or 0) for value in client.mget(["none", *client.keys("aibrix:ada_RPM_CURRENT:*")]))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
async def test_what_a_killed_envoy_had_in_flight_is_freed_each_time(
    whole_envoy: Rig, engines: list[Engine], model: str, kills: int
) -> None:
    rig = whole_envoy
    pods = [rig.pod(model, engine.host) for engine in engines]
    await rig.routable(model, len(pods))
    for _ in range(kills):
        assert rig.envoy is not None
        async with aiohttp.ClientSession(rig.url) as client, contextlib.AsyncExitStack() as open_ones:
            for _ in range(12):
                answer = await client.post(CHAT, json=chat(model, stream=True), headers=ENDLESS)
                open_ones.push_async_callback(answer.wait_for_close)
                await answer.content.readline()
            running = [await rig.metric("brixflow_pod_requests_running", pod=pod) for pod in pods]
            assert running == [3, 3, 3, 3]
            rig.envoy.process.kill()
            rig.envoy.process.wait()
            await eventually(rig.is_quiet, within=10)
            with contextlib.suppress(aiohttp.ClientError):
                await open_ones.aclose()
        rig.start_envoy()
        await eventually(rig.envoy_answers)
        async with aiohttp.ClientSession(rig.url) as client, client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_request_model_success_total", model=model) == kills
    assert await rig.metric("brixflow_segment_anomalies_total") == 0
