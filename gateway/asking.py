"""An ext_proc process asks the collector what the segment cannot know, and waits no longer than Envoy's module does."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp

ADDRESS = "http://collector/ask"
NOT_IN_TIME = b""


class Collector:
    """The collector behind its socket. Close it."""

    def __init__(self, socket: Path, within: timedelta) -> None:
        timeout = aiohttp.ClientTimeout(total=within.total_seconds())
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket), limit=0), timeout=timeout)

    async def ask(self, question: bytes) -> bytes:
        """What it says; empty when it does not in time."""
        try:
            async with self._session.post(ADDRESS, data=question) as got:
                return await got.read() if got.status == HTTPStatus.OK else NOT_IN_TIME
        except (aiohttp.ClientError, TimeoutError, OSError):
            return NOT_IN_TIME

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
