"""What scraping costs: a hundred engines' recorded pages every 200 ms, in the collector's own loop.

The pages come from a small server in another process, so that only the client and the parser are measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import uvloop

from benchmarks.figure import Figure
from csrc.binding import Limits, Pod, SegmentWriter
from gateway.scraping import Scraper
from gateway.topology import Target

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "tests" / "data" / "recordings" / "vllm-0.32" / "metrics-after-load.txt"
ENGINES = 100
PERIOD = timedelta(milliseconds=200)
WARM_UP_SECONDS = 2.0
SECONDS = 10.0
PARSES = 2000

SERVER = """
import asyncio, sys
page = open(sys.argv[1], "rb").read()
answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(page) + page
class Engine(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(answer)
async def main():
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
import uvloop
uvloop.run(main())
"""


def figures() -> Iterator[Figure]:
    """Share of a core, and microseconds a page."""
    page = PAGE.read_bytes()
    pods = [Pod(f"u{n}", "default", f"p{n}", f"10.0.0.1:{8000 + n}", ready=True) for n in range(ENGINES)]
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="brixflow-bench-") as folder,
        SegmentWriter.open(Path(folder) / "segment", Limits()) as writer,
        engines() as port,
    ):
        writer.publish({"m": pods})
        yield parse_figure(writer, page)
        pages, share = uvloop.run(scrape(writer, port))
        yield Figure(
            f"{ENGINES} pods every 200 ms, pages of {len(page) // 1000} KB, share of a core",
            share * 100,
            "%",
            "below 15",
        )
        yield Figure("pages a second", pages, "/s", f"about {ENGINES * 5}")
        yield Figure("a page, asked for, read and derived", share / pages * 1e6, "us")


def parse_figure(writer: SegmentWriter, page: bytes) -> Figure:
    begun = time.thread_time()
    for number in range(PARSES):
        writer.scrape("u0", page, 0, 1 + number * 0.2)
    return Figure("parsing and deriving alone, a page", (time.thread_time() - begun) / PARSES * 1e6, "us")


async def scrape(writer: SegmentWriter, port: int) -> tuple[float, float]:
    """Pages a second, and processor seconds a second."""
    scraper = Scraper(Busy(writer), PERIOD)
    scraper.follow(Target((f"u{n}",), f"default/p{n}", "127.0.0.1", port, "/metrics", "m") for n in range(ENGINES))
    await asyncio.sleep(WARM_UP_SECONDS)
    pages, cost, begun = scraper.scraped.pages, time.process_time(), time.monotonic()
    await asyncio.sleep(SECONDS)
    taken = time.monotonic() - begun
    found = (scraper.scraped.pages - pages) / taken, (time.process_time() - cost) / taken
    await scraper.close()
    return found


class Busy:
    """The writer, with a request on every pod: idle engines would be asked more seldom."""

    def __init__(self, writer: SegmentWriter) -> None:
        self._writer = writer
        self.scrape, self.count_page = writer.scrape, writer.count_page

    def running(self, key: str) -> int:
        """One more than there is."""
        return self._writer.running(key) + 1


@contextlib.contextmanager
def engines() -> Iterator[int]:
    """A hundred engines behind one port."""
    command = [sys.executable, "-c", SERVER, str(PAGE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()
