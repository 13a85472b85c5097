"""Whatever clients send gets the answer that is specified, or at least a refusal, and Envoy lives on."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
from pathlib import Path

import aiohttp
import pytest

from gateway.settings import Host
from tests.gateway.load import ROOT
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat
from tests.gateway.test_soak import memory

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
WARM_UP = 5_000
GROWTH = 1.05
MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'


async def answer_to(rig: Rig, request: bytes) -> bytes:
    """All that comes back on a connection of its own; nothing when Envoy only hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(request)
    got = b""
    try:
        async with asyncio.timeout(5):
            while b"\r\n\r\n" not in got and (more := await reader.read(65536)):
                got += more
    except ConnectionError:
        pass
    finally:
        writer.close()
    return got


def post(body: bytes, *headers: bytes, path: bytes = CHAT.encode(), length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [b"POST " + path + b" HTTP/1.1", b"host: gateway", b"content-length: %d" % size, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def nested(depth: int, ends: bool = True) -> bytes:
    return b"[" * depth + (b"]" * depth if ends else b"")


BODIES = [
    ("whole", b'{"model":"MODEL",%s}' % MESSAGES, 200),
    ("the last of equal keys counts", b'{"model":"x","model":"MODEL",%s}' % MESSAGES, 200),
    ("nested as deep as is allowed", b'{"model":"MODEL",%s,"x":%s}' % (MESSAGES, nested(500)), 200),
    ("half a surrogate in an escape", b'{"model":"MODEL",%s,"x":"\\ud800"}' % MESSAGES, 200),
    ("a number that nothing can hold", b'{"model":"MODEL",%s,"x":1e99999}' % MESSAGES, 200),
    ("cut", b'{"model":"MODEL",%s' % MESSAGES, 400),
    ("cut in a string", b'{"model":"MOD', 400),
    ("nested deeper", b'{"model":"MODEL",%s,"x":%s}' % (MESSAGES, nested(600)), 400),
    ("nested without an end", b'{"model":"MODEL",%s,"x":%s' % (MESSAGES, nested(100_000, ends=False)), 400),
    ("no UTF-8", b'{"model":"MODEL",%s,"x":"\xff"}' % MESSAGES, 400),
    ("a surrogate in UTF-8", b'{"model":"MODEL",%s,"x":"\xed\xa0\x80"}' % MESSAGES, 400),
    ("a byte order mark", b'\xef\xbb\xbf{"model":"MODEL",%s}' % MESSAGES, 400),
    ("more behind the object", b'{"model":"MODEL",%s}{}' % MESSAGES, 400),
    ("an array", b"[]", 400),
    ("a number", b"7", 400),
    ("nothing", b"", 400),
    ("zeros", bytes(1000), 400),
]


@pytest.mark.parametrize(("body", "status"), [pytest.param(*each, id=name) for name, *each in BODIES])
async def test_a_body_gets_the_status_that_is_specified(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], body: bytes, status: int
) -> None:
    name = f"bad-input-{rig.settings.host}"
    if not await rig.metric("model_replicas", model=name):
        rig.pod(name, engines[0].host)
        await rig.routable(name, 1)
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense;;;"):
        given = body.replace(b"MODEL", name.encode())
        async with client.post(CHAT, data=given, headers={"content-type": kind}) as answer:
            assert answer.status == status, await answer.text()
            if status != 200:
                assert (await answer.json())["error"]["message"] == "error processing request body"


WIRE = [
    ("a header of 70 KB", post(b"{}", b"x-big: " + b"y" * 70_000), {431}),
    ("300 headers", post(b"{}", *(b"x-%d: y" % index for index in range(300))), {431}),
    ("a path of 70 KB", post(b"{}", path=b"/" + b"y" * 70_000), {431, 414}),
    ("a zero in a header", post(b"{}", b"x-zero: a\x00b"), {400}),
    ("a line feed alone in a header", post(b"{}", b"x-line: a\nb"), {400}),
    ("two lengths", post(b"{}", b"content-length: 5"), {400}),
    ("a length and chunks", post(b"0\r\n\r\n", b"transfer-encoding: chunked"), {400}),
    ("a length that is none", post(b"{}", b"x: y").replace(b"content-length: 2", b"content-length: x"), {400}),
    ("no host", b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}", {400}),
    ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), {400}),
    ("a method that nobody knows", post(b"{}").replace(b"POST", b"BREW"), {400, 405, 501}),
]


NO_CHUNKS_PATH = f"{CHAT}/"
"""Its line in the access log is found by it."""
NO_CHUNKS = b"\r\n".join(
    (
        f"POST {NO_CHUNKS_PATH} HTTP/1.1".encode(),
        b"host: g",
        b"transfer-encoding: chunked",
        b"",
        b"zz",
        b"{}",
        b"0",
        b"",
        b"",
    )
)


@pytest.mark.parametrize(("request_", "statuses"), [pytest.param(*each, id=name) for name, *each in WIRE])
async def test_what_is_hardly_http_is_refused(rig: Rig, request_: bytes, statuses: set[int]) -> None:
    got = await answer_to(rig, request_)
    assert int(got.split(b" ")[1]) in statuses, got


async def test_chunks_that_are_none_end_their_request(rig: Rig) -> None:
    """Its headers were sound. Envoy resets the stream as soon as it has made the 400: what ext_proc holds is lost."""
    failed, log = await rig.metric("gateway_request_model_fail_total"), rig.home / "access.log"
    if rig.settings.host == Host.MODULE:
        assert (await answer_to(rig, NO_CHUNKS)).split(b" ")[1] == b"400"
    else:
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(NO_CHUNKS)

    async def is_counted() -> bool:
        lines = [json.loads(line) for line in log.read_text().splitlines() if NO_CHUNKS_PATH in line]
        assert [(line["status"], line["details"]) for line in lines] == [(400, "http1.codec_error")]
        return await rig.metric("gateway_request_model_fail_total") == failed + 1

    await eventually(is_counted)
    await eventually(rig.is_quiet)


async def test_a_request_hidden_in_the_body_of_another_is_not_answered(
    rig: Rig, engines: list[Engine], model: str
) -> None:
    """What stands behind the length is the next request, which names its own address in vain."""
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    before = len(await engines[1].seen())
    hidden = f"GET /seen HTTP/1.1\r\nhost: x\r\nrouting-strategy: random\r\ntarget-pod: {engines[1].address}\r\n\r\n"
    whole = json.dumps(chat(model)).encode()
    await answer_to(rig, post(whole + hidden.encode(), length=len(whole)))
    await eventually(rig.is_quiet)
    assert len(await engines[1].seen()) == before


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "fuzz_client"
    source = ROOT / "tests" / "gateway" / "fuzz_client.c"
    command = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


async def fuzz(program: Path, rig: Rig, model: str, requests: int, seed: int) -> dict[str, int]:
    process = await asyncio.create_subprocess_exec(
        program, str(rig.port), model, str(requests), str(seed), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, told = await process.communicate()
    counts = {name: int(value) for name, value in (line.split("\t") for line in out.decode().splitlines())}
    assert (process.returncode, counts.get("bad")) == (0, 0), (counts, told[:4000])
    return counts


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("requests", [1500, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_damaged_requests_meet_no_error_of_ours_and_leave_nothing(
    rig: Rig, engines: list[Engine], fuzzer: Path, model: str, requests: int
) -> None:
    assert rig.envoy is not None
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    if requests > WARM_UP:
        await fuzz(fuzzer, rig, model, WARM_UP, 1)
    held = await memory(rig)
    counts = await fuzz(fuzzer, rig, model, requests, 2)
    assert counts["2xx"] > requests / 20, counts
    assert counts["4xx"] > requests / 20, counts
    assert rig.envoy.process.poll() is None
    await eventually(rig.is_quiet, within=10)
    assert await rig.metric("brixflow_segment_anomalies_total") == 0
    held_now = await memory(rig)
    logger.info("event=fuzzed counts=%s held=%s after=%s", counts, held, held_now)
    if requests > WARM_UP:
        assert not {name: (size, held_now[name]) for name, size in held.items() if held_now[name] > GROWTH * size}
