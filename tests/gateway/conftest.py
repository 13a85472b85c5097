"""One gateway and Envoy for each host, and one set of small engines, for all tests of this folder."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
import pytest_asyncio

from gateway.settings import Host
from tests.gateway.parts import Engine
from tests.gateway.rig import ControlPlane, Rig

SESSION = secrets.token_hex(2)


@pytest.fixture(scope="session", params=list(Host))
def host(request: pytest.FixtureRequest) -> Host:
    """Where requests are decided: every test that has a rig runs with both."""
    named: Host = request.param
    return named


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rig(control_plane: ControlPlane, host: Host) -> AsyncIterator[Rig]:
    async with Rig.running(control_plane, host) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engines() -> AsyncIterator[list[Engine]]:
    """Four engines that live as long as the session: no test ends them."""
    started = [await Engine.start() for _ in range(4)]
    yield started
    for engine in started:
        engine.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def start_engine() -> AsyncIterator[Callable[[], Awaitable[Engine]]]:
    """Starts engines that the test may end; those that still live end with the test."""
    started: list[Engine] = []

    async def start() -> Engine:
        started.append(await Engine.start())
        return started[-1]

    yield start
    for engine in started:
        engine.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def client(rig: Rig) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of Envoy's listener."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(rig.url, connector=connector) as session:
        yield session


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model name that no other test, no other host and no earlier session uses."""
    name: str = request.node.name
    words = name.removeprefix("test_").partition("[")[0].replace("_", "-")
    host = request.getfixturevalue("host") if "host" in request.fixturenames else "none"
    return f"{words[:40].strip('-')}-{host}-{SESSION}"
