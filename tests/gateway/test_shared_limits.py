"""The script that counts limits in Redis, against a real server: nothing is taken unless all of it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
import pytest_asyncio

from csrc.binding import User
from gateway.quotas import Question
from gateway.shared_limits import MINUTE, SharedLimits, plain, window
from tests.gateway.redis_server import RedisServer

WITHIN = timedelta(seconds=10)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer.running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", params=[False, True], ids=["open", "closed"])
async def limits(server: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[SharedLimits]:
    server.client.flushall()
    made = SharedLimits.connect("127.0.0.1", server.port, "", within=WITHIN, fails_closed=request.param)
    yield made
    await made.close()


def question(user: str = "ada", rps: int = 0, *, lacks_usage: bool = False) -> Question:
    return Question(user, "m", "", rps, lacks_usage)


def have(server: RedisServer, name: str = "ada", **record: object) -> None:
    server.client.set(f"aibrix-users/{name}", json.dumps({"name": name, **record}))


def key(what: str, user: str = "ada") -> str:
    return f"aibrix:{user}_{what}_CURRENT:{window(time.time(), MINUTE)}"


async def test_a_request_counts_for_its_user_and_its_model(server: RedisServer, limits: SharedLimits) -> None:
    have(server, rpm=2, tpm=500)
    assert await limits.take(question(rps=5)) == (b"A 1", User(2, 500))
    assert server.client.get(key("RPM")) == "1"
    assert [server.client.ttl(name) for name in server.client.keys("aibrix_model:m_MODEL_RPS_CURRENT:*")] == [1]


async def test_a_request_that_one_limit_refuses_takes_nothing_of_the_other(
    server: RedisServer, limits: SharedLimits
) -> None:
    have(server, rpm=5)
    began = int(time.time())
    answers = [(await limits.take(question(rps=1)))[0] for _ in range(3)]
    taken = answers.count(b"S 1")
    assert taken == 2 or int(time.time()) > began
    assert server.client.get(key("RPM")) == str(3 - taken)
    server.client.set(key("RPM"), 5)
    server.client.delete(*server.client.keys("aibrix_model:*"))
    assert (await limits.take(question(rps=1)))[0] == b"R 5"
    assert server.client.keys("aibrix_model:*") == []


async def test_defaults_stand_for_zero(server: RedisServer, limits: SharedLimits) -> None:
    have(server)
    server.client.set(key("RPM"), 99)
    assert await limits.take(question(lacks_usage=True)) == (b"A 100", User(0, 0))
    assert (await limits.take(question()))[0] == b"R 100"
    server.client.set(key("RPM"), 0)
    server.client.set(key("TPM"), 100_000)
    assert (await limits.take(question()))[0] == b"T 100000"


async def test_hidden_usage_is_refused_where_tokens_are_limited(server: RedisServer, limits: SharedLimits) -> None:
    have(server, tpm=10)
    assert (await limits.take(question(lacks_usage=True)))[0][:1] == b"N"
    assert server.client.get(key("RPM")) is None


async def test_nobody_is_nobody(limits: SharedLimits) -> None:
    assert await limits.take(question("eve")) == (b"U", None)


@pytest.mark.parametrize(
    ("broken", "letter"), [("aibrix-users/ada", b"u"), ("RPM", b"r"), ("TPM", b"t"), ("full", b"i"), ("model", b"s")]
)
async def test_16_what_redis_cannot_tell_is_said_by_its_stage_or_decided_on_the_node(
    server: RedisServer, limits: SharedLimits, broken: str, letter: bytes
) -> None:
    have(server, rpm=5)
    client = server.client
    if broken == "full":
        client.config_set("maxmemory", "1")
    elif broken == "model":
        for second in range(3):
            client.lpush(f"aibrix_model:m_MODEL_RPS_CURRENT:{window(time.time() + second, 1)}", "x")
    else:
        name = broken if "/" in broken else key(broken)
        client.delete(name)
        client.lpush(name, "no number")
    try:
        said, _ = await limits.take(question(rps=5 if broken == "model" else 0))
    finally:
        client.config_set("maxmemory", "0")
    assert said[:1] == (letter if limits.fails_closed else b"D")


async def test_a_store_that_is_away_is_left_alone_for_a_moment(server: RedisServer) -> None:
    lost = SharedLimits.connect("127.0.0.1", 1, "", within=WITHIN, fails_closed=False)
    for _ in range(2):
        assert await lost.take(question()) == (b"D", None)
    await lost.close()
    closed = SharedLimits.connect("127.0.0.1", 1, "", within=WITHIN, fails_closed=True)
    assert (await closed.take(question()))[0] == b"r"
    assert (await closed.take(question("", rps=1)))[0] == b"s"
    await closed.close()


async def test_no_limit_is_passed_by_many_at_once(server: RedisServer, limits: SharedLimits) -> None:
    have(server, rpm=20)
    first = await limits.take(question())
    rest = await asyncio.gather(*(limits.take(question()) for _ in range(40)))
    said = [first[0], *(each for each, _ in rest)]
    assert sorted(each for each in said if each[:1] == b"A") == sorted(b"A %d" % count for count in range(1, 21))


async def test_tokens_are_charged_to_the_window_of_their_user(server: RedisServer, limits: SharedLimits) -> None:
    limits.remember(7, "ada")
    await limits.charge({7: 30, 8: 1})
    await limits.charge({7: 12})
    assert server.client.get(key("TPM")) == "42"
    assert 0 < server.client.ttl(key("TPM")) <= MINUTE


async def test_names_are_no_keys_of_others() -> None:
    assert plain("ada.b-c@d") == "ada.b-c@d"
    assert plain("x_RPM_CURRENT:3") == "x_RPM_CURRENT%3A3"
