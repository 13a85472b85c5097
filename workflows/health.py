"""Health, readiness and metrics over HTTP.

Healthy means that the process is alive; ready that it does its work or stands by for the holder of the Lease. When it
is not ready the answer says what it waits for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import aiohttp
from aiohttp import web
from prometheus_client import generate_latest

from activities.metrics import Metrics

TEXT = "text/plain; version=0.0.4; charset=utf-8"
SDK_SECONDS = 2.0


class HealthServer:
    """Serves `/healthz` and `/readyz` at one address, `/metrics` at another (both may be the same).

    `waiting_for` answers what keeps the process from its work, empty when nothing does. `sdk_port` is where Temporal's
    SDK serves its own metrics, on the loopback interface; they are appended to ours.
    """

    def __init__(self, metrics: Metrics, waiting_for: Callable[[], str], sdk_port: int) -> None:
        self._metrics = metrics
        self._waiting_for = waiting_for
        self._sdk_port = sdk_port
        self._runners: list[web.AppRunner] = []

    async def start(self, health: tuple[str, int], metrics: tuple[str, int]) -> None:
        """Raises OSError when an address is taken."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)])
        app.add_routes([web.get("/metrics", self._serve_metrics)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        for host, port in dict.fromkeys((health, metrics)):
            await web.TCPSite(runner, host, port).start()

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        waiting = self._waiting_for()
        return web.Response(text=f"{waiting or 'ok'}\n", status=503 if waiting else 200)

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        own = generate_latest(self._metrics.registry)
        return web.Response(body=own + await self._sdk_metrics(), headers={"Content-Type": TEXT})

    async def _sdk_metrics(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=SDK_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self._sdk_port}/metrics") as answer,
            ):
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return b""


def free_loopback_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
