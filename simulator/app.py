"""From a request to its handler: routes, bearer auth, failures on purpose, errors as JSON, the count of requests."""

from __future__ import annotations

import hmac
import logging
import re
from dataclasses import replace
from time import monotonic

from simulator.answers import JSON_HEADERS
from simulator.errors import InternalError, RouteError, SimulatorError, UnauthorizedError
from simulator.failure_control import asked_error, broken
from simulator.responses import encode
from simulator.routes import OPEN_PATHS, WORK_PATHS, Handler, handler, routes
from simulator.service import Service
from simulator.wire import Cut, Request, Response, Stream

logger = logging.getLogger("simulator")

_UNCOUNTED = re.compile("/metrics|/health|/load|/ping|/version|/server_info")
"""Paths that the HTTP counters leave out because probes ask for them all the time. The real engine looks for these
anywhere in a path, so that `/v1/load_lora_adapter` is left out too."""
KNOWN_METHODS = frozenset({"GET", "POST"})


class Application:
    """Answers one request; never raises but for cancellation and an answer that shall be cut."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._routes = routes(service.settings)
        self._handlers: dict[tuple[str, str], Handler] = {}

    async def __call__(self, request: Request) -> Response | Stream:
        started = monotonic()
        answer = await self._answer(request)
        if not _UNCOUNTED.search(request.path):
            self._count(request, answer, monotonic() - started)
        identifier = request.headers.get("x-request-id")
        if identifier is None:
            return answer
        return replace(answer, headers={**answer.headers, "x-request-id": identifier})

    def _count(self, request: Request, answer: Response | Stream, seconds: float) -> None:
        name = request.path if request.method in self._routes.get(request.path, ()) else "none"
        method = request.method if name != "none" or request.method in KNOWN_METHODS else "other"
        sent = len(answer.body) if isinstance(answer, Response) else 0
        self._service.http.count(name, method, answer.status, seconds, len(request.body), sent)

    async def _answer(self, request: Request) -> Response | Stream:
        try:
            chosen = self._handler(request)
            self._authorize(request)
            if (error := asked_error(request)) is not None:
                return refusal(error)
            if request.path not in WORK_PATHS:
                return await chosen(self._service, request)
            breaks = await self._service.failures.before()
            answer = await chosen(self._service, request)
            return answer if breaks is None else broken(answer, breaks)
        except SimulatorError as error:
            return refusal(error)
        except Cut:
            raise
        except Exception as error:
            logger.exception("event=handler_failed path=%s error=%s", request.path, type(error).__name__)
            return refusal(InternalError())

    def _handler(self, request: Request) -> Handler:
        """Return the handler of a request. Raises RouteError."""
        known = self._handlers.get((request.path, request.method))
        if known is not None:
            return known
        methods = self._routes.get(request.path)
        if methods is None:
            raise RouteError(404, "Not Found")
        if request.method not in methods:
            raise RouteError(405, "Method Not Allowed", sorted(methods))
        found = self._handlers[request.path, request.method] = handler(methods[request.method])
        return found

    def _authorize(self, request: Request) -> None:
        key = self._service.settings.api_key
        if key is None or request.path in OPEN_PATHS:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), key.encode()):
            raise UnauthorizedError


def refusal(error: SimulatorError) -> Response:
    return Response(error.status, encode(error.body), {**JSON_HEADERS, **error.headers})
