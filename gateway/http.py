"""The gateway's HTTP side: health, metrics and the list of models. No request of a model passes here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from gateway.metrics import GatewayMetrics, Snapshot

OWNER = "aibrix"
JSON = "application/json"


class View(Protocol):
    """What the HTTP side shows."""

    def snapshot(self) -> Snapshot:
        """Counters and pods at this moment."""

    def models(self) -> Iterable[str] | None:
        """Names of all known models, None before the first list."""

    async def engines(self) -> str:
        """What engines say of themselves, as Prometheus text."""

    async def waits_for(self) -> str:
        """What is missing until requests can be served; empty when nothing is."""


def application(view: View, gateway_pod: str) -> web.Application:
    """The HTTP application over `view`."""
    registry = CollectorRegistry()
    registry.register(GatewayMetrics(gateway_pod, view.snapshot))
    ProcessCollector(registry=registry)

    async def healthz(_request: web.Request) -> web.Response:
        missing = await view.waits_for()
        return _json({"status": "waiting", "for": missing}, 503) if missing else _json({"status": "ok"})

    async def metrics(_request: web.Request) -> web.Response:
        body = generate_latest(registry) + (await view.engines()).encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def models(_request: web.Request) -> web.Response:
        names = view.models()
        if names is None:
            return _unavailable()
        return _json({"object": "list", "data": [_model(name) for name in sorted(names)]})

    async def model(request: web.Request) -> web.Response:
        names = view.models()
        if names is None:
            return _unavailable()
        name = request.match_info["name"]
        return _json(_model(name)) if name in names else _unknown(name)

    made = web.Application(middlewares=[_openai_errors])
    made.router.add_get("/healthz", healthz)
    made.router.add_get("/readyz", healthz)
    made.router.add_get("/metrics", metrics)
    made.router.add_get("/v1/models", models)
    made.router.add_get("/v1/models/{name:.+}", model)
    return made


@web.middleware
async def _openai_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as refused:
        return _json({"error": "method not allowed"}, 405, {"Allow": ", ".join(sorted(refused.allowed_methods))})
    except web.HTTPNotFound:
        return _error(404, "unknown request path", "invalid_request_error", None, None)


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}


def _unknown(name: str) -> web.Response:
    return _error(404, f"model {name} does not exist", "invalid_request_error", "model_not_found", "model")


def _unavailable() -> web.Response:
    return _error(503, "the models are not known yet", "overloaded_error", "service_unavailable", None)


def _error(status: int, message: str, kind: str, code: str | None, param: str | None) -> web.Response:
    return _json({"error": {"message": message, "type": kind, "code": code, "param": param}}, status)


def _json(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type=JSON, headers=headers)
