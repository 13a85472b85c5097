"""From a request to its handler: routes, bearer auth, errors as JSON, and the count of HTTP requests."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import TypeAlias

from simulator import endpoints, generation
from simulator.errors import InternalError, RouteError, SimulatorError, UnauthorizedError
from simulator.responses import encode
from simulator.service import Service
from simulator.wire import Request, Response, Stream

logger = logging.getLogger("simulator")

Handler: TypeAlias = Callable[[Service, Request], Awaitable[Response | Stream]]

OPEN_PATHS = frozenset({"/health", "/ready", "/version", "/load", "/ping", "/metrics", "/set_metrics"})
"""Paths that need no key even when one is set."""

ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/health": {"GET": endpoints.health},
    "/ready": {"GET": endpoints.ready},
    "/ping": {"GET": endpoints.ping, "POST": endpoints.ping},
    "/version": {"GET": endpoints.version},
    "/load": {"GET": endpoints.load},
    "/metrics": {"GET": endpoints.metrics_page},
    "/set_metrics": {"POST": endpoints.set_metrics},
    "/v1/models": {"GET": endpoints.models},
    "/v1/chat/completions": {"POST": generation.chat_completion},
    "/v1/completions": {"POST": generation.text_completion},
}


class Application:
    """Answers one request; never raises but for cancellation."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> Response | Stream:
        started = monotonic()
        answer = await self._answer(request)
        handler = request.path if request.path in ROUTES else "none"
        method = request.method if handler != "none" or request.method in {"GET", "POST"} else "other"
        self._service.http.count(handler, method, answer.status, monotonic() - started)
        identifier = request.headers.get("x-request-id")
        if identifier is None:
            return answer
        return replace(answer, headers={**answer.headers, "x-request-id": identifier})

    async def _answer(self, request: Request) -> Response | Stream:
        try:
            handler = route(request)
            self._authorize(request)
            return await handler(self._service, request)
        except SimulatorError as error:
            return refusal(error)
        except Exception as error:
            logger.exception("event=handler_failed path=%s error=%s", request.path, type(error).__name__)
            return refusal(InternalError())

    def _authorize(self, request: Request) -> None:
        key = self._service.settings.api_key
        if key is None or request.path in OPEN_PATHS:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), key.encode()):
            raise UnauthorizedError


def route(request: Request) -> Handler:
    """Return the handler of a request. Raises RouteError."""
    methods = ROUTES.get(request.path)
    if methods is None:
        raise RouteError(404, "Not Found")
    handler = methods.get(request.method)
    if handler is None:
        raise RouteError(405, "Method Not Allowed", sorted(methods))
    return handler


def refusal(error: SimulatorError) -> Response:
    return Response(error.status, encode(error.body), {**endpoints.JSON_HEADERS, **error.headers})
