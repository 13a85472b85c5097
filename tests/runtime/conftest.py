"""The sidecar beside a real process of the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from runtime.app import Sidecar
from runtime.settings import RuntimeSettings
from tests.simulator.conftest import start_engine as start_engine  # a fixture


@dataclass
class Client:
    """Asks one sidecar."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.session.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, str]:
        async with self.session.post(self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.text()


Beside = Callable[[RuntimeSettings], Awaitable[Client]]


@pytest.fixture
async def beside() -> AsyncIterator[Beside]:
    """Start sidecars; all are gone when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(settings: RuntimeSettings) -> Client:
            runner = web.AppRunner(Sidecar(settings).application(), shutdown_timeout=0.1)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Client(f"http://127.0.0.1:{runner.addresses[0][1]}", session)

        yield start
