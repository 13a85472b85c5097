"""The collector's scraping over real engines' connections, without a cluster. Numbers are cases of gateway-cache."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from csrc.binding import Limits, Pod, SegmentWriter
from gateway.page_client import PageClient, ScrapeFailed
from gateway.scraping import Scraper
from gateway.topology import Target
from tests.gateway.parts import Engine, eventually, free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")
PERIOD = timedelta(milliseconds=50)
RECORDED = Path(__file__).parents[1] / "data" / "recordings" / "vllm-0.32" / "metrics-after-load.txt"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def writer() -> Iterator[SegmentWriter]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="brixflow-test-") as folder,
        SegmentWriter.open(Path(folder) / "segment", Limits(models=4, pods=64, members=64)) as writer,
    ):
        writer.publish({"m": [Pod(f"u{n}", "default", f"p{n}", f"10.0.0.{n}:8000", ready=True) for n in range(8)]})
        yield writer


@pytest_asyncio.fixture(loop_scope="session")
async def scraper(writer: SegmentWriter) -> AsyncIterator[Scraper]:
    made = Scraper(writer, PERIOD)
    yield made
    await made.close()


def target(number: int, host: str, port: int, path: str = "/metrics", keys: tuple[str, ...] = ()) -> Target:
    return Target(keys or (f"u{number}",), f"default/p{number}", host, port, path, "m")


def known(writer: SegmentWriter, number: int, gauge: str = "running") -> float | None:
    return writer.gauges(time.monotonic())[f"u{number}"].get(gauge)


@contextlib.asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[int]:
    """A server on a port of its own, as odd as `serve` makes it."""
    port, open_now = free_port(), set[asyncio.StreamWriter]()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()
        for each in open_now:
            each.transport.abort()


def answering(*answers: bytes, asked: list[bytes] | None = None) -> Serve:
    """Gives these answers in turn, the last one ever after."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if asked is not None:
                asked.append(head)
            answer = left.pop(0) if len(left) > 1 else left[0]
            writer.write(answer)
            await writer.drain()
            said = answer.lower()
            if b"close" in said or (b"length" not in said and b"chunked" not in said):
                return

    return serve


def plain(text: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text)


PAGE = b"vllm:num_requests_running 3\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x;ext=1\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    9, PAGE[:9], len(PAGE) - 9, PAGE[9:],
)  # fmt: skip


async def test_an_engines_page_becomes_its_gauges(
    scraper: Scraper, writer: SegmentWriter, engines: list[Engine]
) -> None:
    await engines[0].say("vllm:num_requests_running 3\nvllm:kv_cache_usage_perc 0.25\n")
    scraper.follow([target(0, engines[0].host, 22801)])
    await eventually(lambda: known(writer, 0) == 3)
    assert known(writer, 0, "kv_cache") == 0.25
    await engines[0].say(RECORDED.read_text())
    await eventually(lambda: known(writer, 0, "generation_length"))
    await engines[0].say("")


@pytest.mark.parametrize(
    "answer",
    [plain(PAGE), CHUNKED, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + PAGE, b"HTTP/1.0 200 OK\r\n\r\n" + PAGE],
    ids=["length", "chunked", "until the end", "1.0"],
)
async def test_every_way_to_send_a_page_is_read(answer: bytes) -> None:
    async with served(answering(answer)) as port:
        client = PageClient("127.0.0.1", port, "/metrics")
        assert [await client.fetch(5) for _ in range(3)] == [PAGE] * 3
        client.close()


async def test_a_connection_serves_many_pages() -> None:
    """And the path is the engine's: 37."""
    asked: list[bytes] = []
    connections = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(plain(PAGE), asked=asked)(reader, writer)

    async with served(counted) as port:
        client = PageClient("127.0.0.1", port, "/prometheus/metrics")
        for _ in range(5):
            await client.fetch(5)
        client.close()
    assert connections == 1
    assert asked[0].startswith(b"GET /prometheus/metrics HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % port)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (plain(b"x", b"500 Broken"), "answered http/1.1 500"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", "unreadable length"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n", "unreadable chunks"),
        (b"nonsense\r\n\r\n", "answered nonsense"),
        (b"HTTP/1.1 200 OK\r\nconnection: close, content-length: 5", "connection broke"),
    ],
)
async def test_a_page_that_is_none_says_why(answer: bytes, reason: str) -> None:
    async with served(answering(answer)) as port:
        client = PageClient("127.0.0.1", port, "/metrics")
        with pytest.raises(ScrapeFailed, match=reason):
            await client.fetch(5)
        client.close()


async def test_an_engine_that_is_silent_or_absent_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with served(silent) as port:
        client = PageClient("127.0.0.1", port, "/metrics")
        with pytest.raises(ScrapeFailed, match="in time"):
            await client.fetch(0.1)
    with pytest.raises(ScrapeFailed, match="cannot connect"):
        await PageClient("127.0.0.1", port, "/metrics").fetch(5)


async def test_a_failure_is_followed_by_another_try(scraper: Scraper, writer: SegmentWriter) -> None:  # 39
    async with served(answering(plain(b"x", b"500 Broken"), plain(PAGE))) as port:
        scraper.follow([target(0, "127.0.0.1", port)])
        await eventually(lambda: known(writer, 0) == 3)
    assert scraper.scraped.failures == 1


async def test_slow_and_dead_engines_delay_nobody(scraper: Scraper, writer: SegmentWriter) -> None:  # 40, 41
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with served(silent) as slow, served(answering(plain(PAGE))) as good:
        dead = free_port()
        targets = [target(n, "127.0.0.1", port) for n, port in enumerate((slow, slow, dead, dead, good))]
        scraper.follow(targets)
        await eventually(lambda: known(writer, 4) == 3, within=1)
        before = scraper.scraped.pages
        await eventually(lambda: scraper.scraped.pages >= before + 2, within=3)
    assert [known(writer, number) for number in range(4)] == [None] * 4


async def test_an_engine_that_left_is_asked_no_more(scraper: Scraper, writer: SegmentWriter) -> None:
    asked: list[bytes] = []
    async with served(answering(plain(PAGE), asked=asked)) as port:
        one = target(0, "127.0.0.1", port)
        scraper.follow([one])
        await eventually(lambda: len(asked) >= 2)
        scraper.follow([one])  # the same again changes nothing
        scraper.follow([])
        await asyncio.sleep(0.1)
        before = len(asked)
        await asyncio.sleep(1.2)
        assert len(asked) == before


async def test_ranks_of_one_page_are_told_apart(scraper: Scraper, writer: SegmentWriter) -> None:
    page = b'vllm:num_requests_running{engine="0"} 4\nvllm:num_requests_running{engine="1"} 7\n'
    async with served(answering(plain(page))) as port:
        scraper.follow([target(0, "127.0.0.1", port, keys=("u0", "u1"))])
        await eventually(lambda: known(writer, 1))
    assert [known(writer, 0), known(writer, 1)] == [4, 7]


async def test_a_page_never_stops_growing_in_vain() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"vllm:x 1\n" * 100_000)
            await writer.drain()

    async with served(endless) as port:
        with pytest.raises(ScrapeFailed, match="without an end"):
            await PageClient("127.0.0.1", port, "/metrics").fetch(10)
