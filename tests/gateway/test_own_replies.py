"""What Envoy answers by itself carries OpenAI's error object and is counted, and no load ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from gateway.envoy import COPIES_OF_A_BODY, OWN_HEAP_BYTES
from gateway.settings import Host
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import ControlPlane, Rig, chat
from tests.gateway.test_soak import memory

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
FAIL = "gateway_request_model_fail_total"
MIB = 1024 * 1024
HELD = 16 * MIB
PIECE = 256 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tight(control_plane: ControlPlane, host: Host) -> AsyncIterator[Rig]:
    """An Envoy that may hold little and waits shortly."""
    limits = {"BRIXFLOW_GATEWAY_IDLE_SECONDS": "4", "BRIXFLOW_MAX_HELD_BYTES": str(HELD)}
    async with Rig.running(control_plane, host, **limits) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(tight: Rig) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(tight.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


def error_of(body: str) -> dict[str, object]:
    document = json.loads(body)
    assert set(document) == {"error"}
    error: dict[str, object] = document["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return error


async def raw(rig: Rig, request: bytes) -> tuple[int, str]:
    """Status and body of what is answered to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(request)
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().splitlines() if line.startswith("content-length:"))
        body = await reader.readexactly(int(length.partition(":")[2]))
    writer.close()
    return int(head.split(" ")[1]), body.decode()


async def uncounted(rig: Rig, status: int) -> int:
    """Envoy's own count of replies to requests that never reached the gateway."""
    url = f"http://127.0.0.1:{rig.admin_port}/stats?filter=uncounted_replies"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        lines = (await answer.text()).splitlines()
    return sum(int(line.rpartition(": ")[2]) for line in lines if f"status_code.{status}" in line)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
        (b"NOT HTTP AT ALL\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 300 + b"\r\n", 431),
    ],
    ids=["no host", "no http", "a long header", "many headers"],
)
async def test_what_never_reaches_the_gateway_is_answered_in_the_envelope_and_counted_by_envoy(
    rig: Rig, request_bytes: bytes, status: int
) -> None:
    before = await uncounted(rig, status)
    answered, body = await raw(rig, request_bytes)
    assert answered == status
    assert error_of(body)["type"] == "invalid_request_error"
    await eventually(lambda: is_more(rig, status, before))


async def is_more(rig: Rig, status: int, before: int) -> bool:
    return await uncounted(rig, status) == before + 1


async def test_a_body_beyond_the_limit_is_413_and_counted_as_refused(rig: Rig, client: aiohttp.ClientSession) -> None:
    before = await rig.metric(FAIL, status="gateway_req_body_fail", status_code="413")

    async def body() -> AsyncIterator[bytes]:
        for _ in range(33):
            yield b"x" * MIB

    async with client.post(CHAT, data=body()) as answer:
        assert answer.status == 413
        assert error_of(await answer.text())["type"] == "invalid_request_error"
    await eventually(rig.is_quiet)
    assert await rig.metric(FAIL, status="gateway_req_body_fail", status_code="413") == before + 1


async def test_an_engine_that_is_silent_for_the_idle_timeout_is_504_and_counted(
    tight: Rig, visitor: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    tight.pod(model, engines[0].host)
    await tight.routable(model, 1)
    async with visitor.post(CHAT, json=chat(model), headers={"x-engine-delay": "9"}) as answer:
        assert answer.status == 504
        assert error_of(await answer.text())["type"] == "api_error"
    await eventually(tight.is_quiet)
    assert await tight.metric(FAIL, model=model, status="gateway_rsp_headers_fail", status_code="504") == 1


async def test_a_stream_may_last_longer_than_the_idle_timeout(
    tight: Rig, visitor: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    tight.pod(model, engines[0].host)
    await tight.routable(model, 1)
    headers = {"x-engine-chunks": "4", "x-engine-gap": "1.2"}
    async with visitor.post(CHAT, json=chat(model, stream=True), headers=headers) as answer:
        assert b"[DONE]" in await answer.read()


async def upload(rig: Rig, body: bytes) -> int:
    """The status that a chat gets, read while it is being sent; 0 when there was none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    sending = asyncio.create_task(send(writer, body))
    try:
        return int((await reader.readline() or b"- 0").split(b" ")[1])
    except ConnectionError:
        return 0
    finally:
        sending.cancel()
        writer.close()


async def send(writer: asyncio.StreamWriter, body: bytes) -> None:
    """A chat in pieces: many that send at once share this one body."""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with contextlib.suppress(ConnectionError):
        writer.write(head.encode())
        for start in range(0, len(body), PIECE):
            writer.write(memoryview(body)[start : start + PIECE])
            await writer.drain()


async def test_bodies_beyond_what_may_be_held_together_are_refused_and_envoy_lives(
    tight: Rig, engines: list[Engine], model: str
) -> None:
    tight.pod(model, engines[0].host)
    await tight.routable(model, 1)
    body = json.dumps(chat(model, "x" * 5 * MIB)).encode()
    statuses = Counter(await asyncio.gather(*(upload(tight, body) for _ in range(12))))
    assert set(statuses) <= {200, 503}, statuses
    assert statuses[503] > 0
    assert tight.envoy is not None
    assert tight.envoy.process.poll() is None
    await eventually(tight.is_quiet)
    assert [await upload(tight, body) for _ in range(4)] == [200] * 4
    assert await tight.metric(FAIL, status="gateway_req_body_fail", status_code="503") == statuses[503]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_200_uploads_of_30_mib_at_once_are_served_or_refused_and_envoy_lives(
    control_plane: ControlPlane, host: Host, engines: list[Engine], model: str
) -> None:
    """With what ships: 6 GB are sent, 1 GiB may be held."""
    async with Rig.running(control_plane, host) as shipped:
        assert shipped.envoy is not None
        shipped.pod(model, engines[0].host)
        await shipped.routable(model, 1)
        body = json.dumps(chat(model, "x" * 30 * MIB)).encode()
        async with sampled(shipped) as peaks:
            statuses = Counter(await asyncio.gather(*(upload(shipped, body) for _ in range(200))))
        logger.info("event=uploaded statuses=%s peaks=%s", dict(statuses), peaks)
        assert set(statuses) <= {200, 413, 503}, statuses
        assert statuses[503] > 0
        assert shipped.envoy.process.poll() is None
        if host == Host.MODULE:  # with ext_proc, Envoy holds a whole body before the gateway can refuse it
            assert peaks["envoy"] < shipped.envoy_values().held_bytes * COPIES_OF_A_BODY + OWN_HEAP_BYTES
        await eventually(shipped.is_quiet, within=30)
        assert await upload(shipped, body) == 200
        told = await shipped.metric(FAIL, status="gateway_req_body_fail", status_code="503")
        assert told + await uncounted(shipped, 503) >= statuses[503]


@contextlib.asynccontextmanager
async def sampled(rig: Rig) -> AsyncIterator[dict[str, int]]:
    """The most bytes that each process had resident while the block ran."""
    peaks = await memory(rig)

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.1)
            peaks.update({name: max(size, peaks[name]) for name, size in (await memory(rig)).items()})

    watching = asyncio.create_task(watch())
    try:
        yield peaks
    finally:
        watching.cancel()
