"""Users and their limits end to end. Numbers in comments are acceptance cases of the spec's gateway document."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.settings import Host
from tests.gateway.parts import Engine, eventually
from tests.gateway.redis_server import RedisServer
from tests.gateway.rig import ControlPlane, Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
MINUTE = 60


async def in_one_minute(seconds: float = 4) -> None:
    """Begin where so many seconds of the minute are left, by both clocks that windows go by."""
    clocks = (time.monotonic, time.time)
    await eventually(lambda: all(clock() % MINUTE < MINUTE - seconds for clock in clocks), within=2 * seconds + 1)


async def ask(client: aiohttp.ClientSession, model: str, user: str, **fields: Any) -> tuple[int, Any, dict[str, Any]]:
    """Status, headers and document of a chat of this user."""
    async with client.post(CHAT, json=chat(model, **fields), headers={"user": user} if user else {}) as answer:
        raw = await answer.read()
        return answer.status, answer.headers, json.loads(raw) if raw.startswith(b"{") else {}


async def test_a_user_makes_as_many_requests_a_minute_as_its_record_says(  # 13, 14
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    await rig.users(**{model: {"rpm": 3}})
    await in_one_minute()
    for count in ("1", "2", "3"):
        status, headers, _ = await ask(client, model, model)
        assert (status, headers["x-update-rpm"]) == (200, count)
    status, headers, document = await ask(client, model, model)
    assert (status, headers["x-error-rpm-exceeded"]) == (429, "true")
    assert 1 <= int(headers["retry-after"]) <= MINUTE
    assert document["error"] == {
        "message": f"user: {model} has exceeded RPM: 3", "type": "rate_limit_error", "code": "rate_limit_exceeded",
        "param": None,
    }  # fmt: skip
    async with client.post(CHAT, json=chat(model)) as answer:
        assert answer.status == 200
    await eventually(rig.is_quiet)


async def test_a_limit_is_exact_for_many_that_come_at_once(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    """Over all threads and processes that decide."""
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    await rig.users(**{model: {"rpm": 40}})
    await in_one_minute(8)
    answers = await asyncio.gather(*(ask(client, model, model) for _ in range(100)))
    assert sorted(status for status, _, _ in answers) == [200] * 40 + [429] * 60
    passed = [int(headers["x-update-rpm"]) for status, headers, _ in answers if status == 200]
    assert sorted(passed) == list(range(1, 41))


async def test_what_answers_used_is_charged_and_then_refused(  # 15, 24, 25, 91
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    await rig.users(**{model: {"rpm": 10, "tpm": 36}})
    await in_one_minute()
    status, headers, document = await ask(client, model, model, stream=True)
    assert (status, document["error"]["param"]) == (400, "stream_options")
    assert headers["x-error-no-stream-options-include-usage"] == "include usage for stream options not set"
    for _ in range(2):
        assert (await ask(client, model, model))[0] == 200
    status, headers, document = await ask(client, model, model)
    assert (status, headers["x-error-tpm-exceeded"]) == (429, "true")
    assert document["error"]["message"] == f"user: {model} has exceeded TPM: 36"


async def test_a_name_that_nobody_has_is_refused(rig: Rig, client: aiohttp.ClientSession, model: str) -> None:  # 6
    await rig.users(**{model: {}})
    status, headers, document = await ask(client, model, f"not-{model}")
    assert (status, headers["x-error-user"]) == (401, "true")
    assert "x-went-into-req-headers" not in headers
    assert document["error"]["type"] == "authentication_error"


async def test_a_profile_allows_a_model_so_many_requests_a_second(  # 67, 69
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    name = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    config = {"profiles": {"default": {"routingStrategy": "random", "requestsPerSecond": 1}}}
    rig.kubectl("annotate", "pod", name, f"model.aibrix.ai/config={json.dumps(config)}")

    async def one_of_two_is_refused() -> bool:
        """Within one second by the clock; before the annotation is known both pass."""
        began = int(time.monotonic())
        answers = [await ask(client, model, "") for _ in range(2)]
        if int(time.monotonic()) != began or [status for status, _, _ in answers] != [200, 429]:
            return False
        _, headers, document = answers[1]
        assert (headers["x-error-model-rps-exceeded"], headers["retry-after"]) == ("true", "1")
        assert document["error"]["message"] == f"model: {model} has exceeded RPS: 1"
        return True

    await eventually(one_of_two_is_refused)


# With Redis


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer.running() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(control_plane: ControlPlane, host: Host, redis: RedisServer) -> AsyncIterator[Rig]:
    variables = {
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis.port),
        "BRIXFLOW_MAX_IN_FLIGHT_PER_POD": "2",
        "BRIXFLOW_LIMITS_DEADLINE_MS": "500",  # steady on a machine that does other things as well
    }
    redis.stop()  # it need not be there when the gateway starts
    async with Rig.running(control_plane, host, **variables) as rig:
        redis.start()
        yield rig


@pytest_asyncio.fixture(loop_scope="session")
async def caller(shared: Rig) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(shared.url) as session:
        yield session


def record(redis: RedisServer, name: str, **limits: int) -> None:
    redis.client.set(f"aibrix-users/{name}", json.dumps({"name": name, **limits}))


def counter(user: str, what: str) -> str:
    return f"aibrix:{user}_{what}_CURRENT:{int(time.time()) // MINUTE % 64}"


async def test_limits_are_counted_with_other_gateways(  # 13, 14, 15, 91
    shared: Rig, caller: aiohttp.ClientSession, redis: RedisServer, engines: list[Engine], model: str
) -> None:
    shared.pod(model, engines[0].host)
    await shared.routable(model, 1)
    record(redis, model, rpm=10, tpm=100)
    await in_one_minute()
    redis.client.set(counter(model, "RPM"), 9)
    status, headers, _ = await ask(caller, model, model)
    assert (status, headers["x-update-rpm"]) == (200, "10")
    assert redis.client.get(counter(model, "RPM")) == "10"
    assert 0 < redis.client.ttl(counter(model, "RPM")) <= MINUTE
    status, headers, document = await ask(caller, model, model)
    assert (status, document["error"]["message"]) == (429, f"user: {model} has exceeded RPM: 10")
    assert redis.client.get(counter(model, "RPM")) == "10"
    await eventually(lambda: redis.client.get(counter(model, "TPM")) == "18", within=5)
    record(redis, model, rpm=100, tpm=100)
    redis.client.set(counter(model, "TPM"), 100)
    status, _, document = await ask(caller, model, model)
    assert (status, document["error"]["message"]) == (429, f"user: {model} has exceeded TPM: 100")
    assert (await ask(caller, model, model, stream=True))[0] == 400


async def test_an_unknown_name_is_asked_for_once(
    shared: Rig, caller: aiohttp.ClientSession, redis: RedisServer, model: str, engines: list[Engine]
) -> None:
    shared.pod(model, engines[0].host)
    await shared.routable(model, 1)
    before = await shared.metric("brixflow_limit_questions_total")
    for _ in range(10):
        assert (await ask(caller, model, f"nobody-{model}"))[0] == 401
    assert 1 <= await shared.metric("brixflow_limit_questions_total") - before <= 2


async def test_a_lost_or_slow_redis_is_no_error_to_anybody(
    shared: Rig, caller: aiohttp.ClientSession, redis: RedisServer, engines: list[Engine], model: str
) -> None:
    shared.pod(model, engines[0].host)
    await shared.routable(model, 1)
    record(redis, model, rpm=6)
    await in_one_minute(6)
    assert (await ask(caller, model, model))[0] == 200
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    try:
        assert [(await ask(caller, model, user))[0] for user in (model, f"unheard-of-{model}")] == [200, 200]
    finally:
        redis.process.send_signal(signal.SIGCONT)
    redis.stop()
    assert [(await ask(caller, model, model))[0] for _ in range(4)] == [200] * 4
    assert (await ask(caller, model, model))[0] == 429, "what was counted on this node still counts"
    assert await shared.metric("brixflow_limit_fallbacks_total", reason="store_away") >= 6
    redis.start()
    record(redis, f"x-{model}", rpm=100)
    await eventually(lambda: shares_again(caller, redis, model), within=5, every=0.1)


async def shares_again(caller: aiohttp.ClientSession, redis: RedisServer, model: str) -> bool:
    await ask(caller, model, f"x-{model}")
    return redis.client.get(counter(f"x-{model}", "RPM")) is not None


async def test_a_collector_that_does_not_answer_holds_up_nobody_for_long(
    shared: Rig, caller: aiohttp.ClientSession, redis: RedisServer, engines: list[Engine], model: str
) -> None:
    shared.pod(model, engines[0].host)
    await shared.routable(model, 1)
    record(redis, model, rpm=100)
    assert (await ask(caller, model, model))[0] == 200
    collector = shared.children()["collector"]
    os.kill(collector, signal.SIGSTOP)
    try:
        statuses = [(await ask(caller, model, model))[0] for _ in range(2)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await ask(caller, model, model)  # a client that leaves while its request waits
    finally:
        os.kill(collector, signal.SIGCONT)
    assert statuses == [200] * 2
    await eventually(lambda: unanswered(shared), within=5)
    await eventually(shared.is_quiet)


async def unanswered(shared: Rig) -> bool:
    return await shared.metric("brixflow_limit_fallbacks_total", reason="unanswered") >= 2


async def test_a_pod_takes_so_many_requests_at_one_time(
    shared: Rig, caller: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    shared.pod(model, engines[0].host)
    await shared.routable(model, 1)
    slow = {"x-engine-chunks": "100", "x-engine-gap": "0.1"}
    async with (
        caller.post(CHAT, json=chat(model, stream=True), headers=slow) as first,
        caller.post(CHAT, json=chat(model, stream=True), headers=slow) as second,
    ):
        assert first.status == second.status == 200
        async with caller.post(CHAT, json=chat(model)) as refused:
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            error = (await refused.json())["error"]
            assert error["message"] == f"model: {model} has too many requests in flight"
            assert error["code"] == "rate_limit_exceeded"
        first.close()

        async def passes() -> bool:
            async with caller.post(CHAT, json=chat(model)) as answer:
                return answer.status == 200

        await eventually(passes)
