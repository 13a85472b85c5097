"""Engines' metrics pages, asked for in turn and handed to the kernel, which keeps them five seconds.

Each engine has a timer of its own, so that a slow or dead one delays nobody. The pause after a page is the configured
period, longer while the engine idles, after a failure, when the page itself takes long, and when there are so many
engines that asking them all would take more than `CORE_SHARE` of a core.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from csrc.binding import MessageUnreadable
from gateway.page_client import PageClient, ScrapeFailed
from gateway.topology import Target

PAGE_SECONDS = 2.0
"""How long an engine may take to answer."""

PAGE_LIFE_SECONDS = 30.0
"""How long a page is shown after it was given, several times the longest pause."""

IDLE_PERIOD_SECONDS = 1.0
"""The longest pause while an engine has nothing to do; its gauges must not grow old in it."""

LAST_BACK_OFF_SECONDS = 5.0
CORE_SHARE = 0.15
COST_SECONDS = 0.0003
"""What one page costs the collector, on a slow core."""

DUTY = 4
"""An engine spends at most one part in so many on its pages."""

CONCURRENCY = 64
JITTER = 0.1

log = logging.getLogger(__name__)


class Gauges(Protocol):
    """The part of the segment's writer that scraping needs."""

    def running(self, key: str) -> int:
        """Requests of this node on the pod now."""

    def scrape(self, key: str, page: bytes, local: int, now: float, model: str = "", rank: int = -1) -> None:
        """Make true what an engine's page says."""

    def count_page(self, *, failed: bool) -> None:
        """Count a page for good, given or not."""


@dataclass
class Scraped:
    """What became of the pages that this scraper asked for."""

    pages: int = 0
    failures: int = 0


@dataclass
class Pace:
    """How long to wait until the next page."""

    period: float
    pause: float = field(init=False)
    failures: int = 0

    def __post_init__(self) -> None:
        self.pause = self.period

    def after_page(self, taken: float, *, idle: bool) -> float:
        """The pause after a page that took so long."""
        self.failures = 0
        longest = max(self.period, IDLE_PERIOD_SECONDS)
        self.pause = min(self.pause * 2, longest) if idle else self.period
        self.pause = max(self.pause, min(DUTY * taken, longest))
        return self.pause

    def after_failure(self) -> float:
        """The pause after a failure: twice the last one."""
        self.failures += 1
        self.pause = min(max(self.pause, self.period) * 2, LAST_BACK_OFF_SECONDS)
        return self.pause


def period_of(engines: int, configured: float) -> float:
    """Seconds between two pages of a busy engine, when there are so many engines."""
    return max(configured, engines * COST_SECONDS / CORE_SHARE)


class Scraper:
    """Follows the targets that it was last given. All its work is in tasks of the running loop."""

    def __init__(self, gauges: Gauges, period: timedelta) -> None:
        self._gauges = gauges
        self._period = period.total_seconds()
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(CONCURRENCY)
        self.scraped = Scraped()
        self._pages: dict[Target, tuple[float, bytes]] = {}

    def follow(self, targets: Iterable[Target]) -> None:
        """Ask these engines from here on, and no others."""
        wanted = set(targets)
        for target in self._tasks.keys() - wanted:
            self._tasks.pop(target).cancel()
            self._pages.pop(target, None)
        for target in wanted - self._tasks.keys():
            self._tasks[target] = asyncio.create_task(self._ask_again_and_again(target))

    def page(self, target: Target) -> bytes | None:
        """What an engine said last, unless that is too old."""
        taken, page = self._pages.get(target, (0.0, b""))
        return page if page and time.monotonic() - taken < PAGE_LIFE_SECONDS else None

    async def close(self) -> None:
        """End all tasks."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_again_and_again(self, target: Target) -> None:
        client, pace = PageClient(target.host, target.port, target.path), Pace(self._period)
        try:
            while True:
                pace.period = period_of(len(self._tasks), self._period)
                await asyncio.sleep(await self._ask(client, target, pace))
        finally:
            client.close()

    async def _ask(self, client: PageClient, target: Target, pace: Pace) -> float:
        """One page; the pause after it."""
        began = time.monotonic()
        local = [self._gauges.running(key) for key in target.keys]
        try:
            async with self._room:
                page = await client.fetch(PAGE_SECONDS)
            self._take(target, page, local)
        except (ScrapeFailed, MessageUnreadable) as error:
            self.scraped.failures += 1
            self._gauges.count_page(failed=True)
            if pace.failures == 0:
                log.warning("event=scrape_failed pod=%s port=%d reason=%s", target.pod, target.port, error)
            pause = pace.after_failure()
        else:
            if pace.failures:
                log.info("event=scrape_recovered pod=%s port=%d failures=%d", target.pod, target.port, pace.failures)
            self.scraped.pages += 1
            self._gauges.count_page(failed=False)
            idle = not any(local) and not any(map(self._gauges.running, target.keys))
            pause = pace.after_page(time.monotonic() - began, idle=idle)
        return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter

    def _take(self, target: Target, page: bytes, local: list[int]) -> None:
        now = time.monotonic()
        self._pages[target] = (now, page)
        for rank, key in enumerate(target.keys):
            self._gauges.scrape(key, page, local[rank], now, target.model, rank if len(target.keys) > 1 else -1)
