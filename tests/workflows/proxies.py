"""What stands between an operator and its servers in the tests of faults: proxies that count, hold back and cut.

    operator ──HTTP──► ApiProxy ──HTTPS, as its account──► API server
    operator ──gRPC──► TemporalProxy ──gRPC──► Temporal

Each counts the points at which a process may die: API writes, and reports to Temporal. At the chosen point, before the
call is passed on or after it was answered, `strike` is called; the operator gets no answer unless it returns False.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import yaml
from aiohttp import web

from activities.credentials import Credentials

REPORTS = ("RespondWorkflowTaskCompleted", "RespondActivityTaskCompleted", "StartWorkflowExecution")
UNCOUNTED = ("/leases", "/events")
HOP_HEADERS = frozenset({"connection", "transfer-encoding", "content-length", "host", "keep-alive", "authorization"})
OUTAGE_SECONDS = 30.0


@dataclass
class Points:
    """Counts points; at number `at` (from 1) of this count it strikes once, `after` the call or before it."""

    strike: Callable[[], bool | None] = lambda: None
    at: int = 0
    after: bool = False
    passed: int = 0
    log: list[str] = field(default_factory=list)
    struck: asyncio.Event = field(default_factory=asyncio.Event)

    def aim(self, at: int, *, after: bool, strike: Callable[[], bool | None]) -> None:
        self.at, self.after, self.strike, self.passed = at, after, strike, 0
        self.struck.clear()
        self.log.clear()

    def count(self, what: str) -> int:
        self.passed += 1
        self.log.append(what)
        return self.passed

    def hits(self, number: int, *, after: bool) -> bool:
        """True when this is the point and the operator gets no answer."""
        if number != self.at or after != self.after or self.struck.is_set():
            return False
        self.struck.set()
        return self.strike() is not False


class ApiProxy:
    """A reverse proxy of the API server. `away`: nothing is answered; `expired`: watches are answered by 410."""

    def __init__(self, kubeconfig: Path, points: Points) -> None:
        self.points = points
        self.away = False
        self.expired = False
        self.requests = 0
        self.relisted = 0
        self._credentials = Credentials(str(kubeconfig))
        self._watches: set[web.StreamResponse] = set()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.port = 0

    async def start(self) -> None:
        access = await self._credentials.access()
        connector = aiohttp.TCPConnector(ssl=access.tls if access.tls is not None else True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def kubeconfig(self, path: Path) -> Path:
        """One that leads here, without credentials: the proxy has them."""
        cluster = {"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}
        found = {"clusters": [cluster], "contexts": [context], "users": [{"name": "proxy", "user": {}}]}
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "proxy", **found}))
        return path

    def cut(self) -> None:
        """Break every watch in the midst of its stream."""
        for response in list(self._watches):
            if response._req is not None and response._req.transport is not None:
                response._req.transport.abort()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.away:
            return self._dropped(request)
        watching = "watch" in request.query
        if watching and self.expired:
            return web.json_response({"kind": "Status", "code": 410, "reason": "Expired"}, status=410)
        self.relisted += request.method == "GET" and not watching and request.query.get("limit") == "500"
        counted = request.method != "GET" and not request.path.endswith(UNCOUNTED) and "/leases/" not in request.path
        number = self.points.count(f"{request.method} {request.path}") if counted else 0
        if counted and self.points.hits(number, after=False):
            return self._dropped(request)
        return await self._passed_on(request, number, watching=watching)

    async def _passed_on(self, request: web.Request, number: int, *, watching: bool) -> web.StreamResponse:
        assert self._session is not None
        access = await self._credentials.access()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_HEADERS}
        call = self._session.request(
            request.method,
            access.server + request.path_qs,
            data=await request.read(),
            headers=headers | access.headers,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        async with call as answer:
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in HOP_HEADERS}
            if watching and answer.status < 300:
                return await self._streamed(request, answer, kept)
            body = await answer.read()
            if number and self.points.hits(number, after=True):
                return self._dropped(request)
            return web.Response(status=answer.status, body=body, headers=kept)

    async def _streamed(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        self._watches.add(response)
        try:
            with suppress(ConnectionError, aiohttp.ClientError):
                async for chunk in answer.content.iter_any():
                    if self.away:
                        break
                    await response.write(chunk)
        finally:
            self._watches.discard(response)
        return response

    def _dropped(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)


class TemporalProxy(grpc.GenericRpcHandler):
    """Hands every call on as bytes. `away`: calls fail as when nobody listens; so they do once `cut_after` was passed.

    `cut_after`: a part of the request of a report, say a step's name within a recorded decision.
    """

    def __init__(self, address: str, points: Points) -> None:
        self.points = points
        self.away = False
        self.cut_after = b""
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", 2**26)])
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", 2**26)])
        self._server.add_generic_rpc_handlers((self,))
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0.2)
        await self._channel.close()

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        method: str = handler_call_details.method

        async def behave(request: bytes, context: Any) -> bytes:
            return await self._pass_on(method, request, context)

        return grpc.unary_unary_rpc_method_handler(behave)

    async def _pass_on(self, method: str, request: bytes, context: Any) -> bytes:
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        number = self.points.count(method.rpartition("/")[2]) if method.endswith(REPORTS) else 0
        if number and self.points.hits(number, after=False):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the caller is dead")
        call = self._channel.unary_unary(method)
        metadata = tuple(pair for pair in context.invocation_metadata() if not pair[0].startswith(("grpc-", ":")))
        try:
            answer: bytes = await call(request, metadata=metadata, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            context.set_trailing_metadata(error.trailing_metadata())
            await context.abort(error.code(), error.details() or "")
        if number and self.points.hits(number, after=True):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the caller is dead")
        if number and self.cut_after and self.cut_after in request:
            self.away, self.cut_after = True, b""
        return answer
