"""The sidecar's HTTP side: probes, metrics, the engine's models, adapters loaded from where the engine sees them.

Fetching an adapter from a store before it is loaded is not built: such a request is answered with 501.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from runtime.engine import Engine, EngineError, InvalidRequestError, UnsupportedError, checked_name
from runtime.settings import RuntimeSettings
from runtime.standard_names import with_standard_names

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCIES: Final = (0.1, 0.2, 0.5, 1, 2, 5)
LABELS: Final = ("method", "endpoint", "status")
LOAD_FIELDS: Final = frozenset(
    {"lora_name", "lora_path", "artifact_url", "credentials", "credentials_secret", "additional_config", "local_dir"}
)
UNLOAD_FIELDS: Final = frozenset({"lora_name", "lora_int_id", "cleanup_local"})


class Sidecar:
    """Answers beside one engine."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self._engine = Engine(settings)
        self._registry = CollectorRegistry()
        info = Gauge("aibrix:info", "the sidecar", ("version", "engine", "engine_version"), registry=self._registry)
        info.labels("brixflow", settings.engine, settings.engine_version).set(1)
        self._requests = Counter("aibrix:api_request", "requests to the sidecar", LABELS, registry=self._registry)
        self._latency = Histogram(
            "aibrix:api_request_latency", "seconds of a request", LABELS, buckets=LATENCIES, registry=self._registry
        )

    def application(self) -> web.Application:
        made = web.Application(middlewares=[self._answered])
        made.add_routes([web.get("/healthz", self._healthz), web.get("/ready", self._ready)])
        made.add_routes([web.get("/metrics", self._metrics), web.get("/metrics/", self._metrics)])
        made.add_routes([web.get("/v1/models", self._models)])
        made.add_routes([web.post("/v1/lora_adapter/load", self._load)])
        made.add_routes([web.post("/v1/lora_adapter/unload", self._unload)])
        made.on_cleanup.append(self._close)
        return made

    async def _close(self, _: web.Application) -> None:
        await self._engine.close()

    @web.middleware
    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every failure as an error object; every request but those for metrics is counted."""
        began = time.monotonic()
        try:
            answer = await handler(request)
        except EngineError as error:
            answer = web.json_response(error.body(), status=error.code)
        resource = request.match_info.route.resource
        endpoint = resource.canonical if resource is not None else "unknown"
        if not endpoint.startswith("/metrics"):
            labels = (request.method, endpoint, str(answer.status))
            self._requests.labels(*labels).inc()
            self._latency.labels(*labels).observe(time.monotonic() - began)
        return answer

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        """The engine has a probe of its own: it is not asked here."""
        ready = bool(self._settings.engine and self._settings.endpoint)
        return web.json_response({"status": "ready" if ready else "not ready"}, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        page = await self._engine.metrics()
        shown = with_standard_names(page, self._settings.engine) if self._settings.renames else page
        body = generate_latest(self._registry) + shown.encode()
        return web.Response(body=body, headers={"Content-Type": TEXT})

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(await self._engine.models(_forwarded(request)))

    async def _load(self, request: web.Request) -> web.Response:
        body = await _fields(request, LOAD_FIELDS)
        path, url = body.get("lora_path"), body.get("artifact_url")
        if (path is None) == (url is None):
            raise InvalidRequestError("give either lora_path or artifact_url", 422)
        name = checked_name(body.get("lora_name"))
        if path is None:
            raise UnsupportedError("artifacts are not fetched by this sidecar: give a lora_path that the engine sees")
        if not isinstance(path, str):
            raise InvalidRequestError("lora_path must be a string", 422)
        await self._engine.load(name, path, _forwarded(request))
        return web.Response(text=f"Success: LoRA adapter '{name}' loaded successfully from '{path}'.")

    async def _unload(self, request: web.Request) -> web.Response:
        body = await _fields(request, UNLOAD_FIELDS)
        name = checked_name(body.get("lora_name"))
        await self._engine.unload(name, _forwarded(request))
        return web.Response(text=f"Success: LoRA adapter '{name}' unloaded successfully.")


async def _fields(request: web.Request, known: frozenset[str]) -> Json:
    """The JSON object of a request. Raises InvalidRequestError for anything else, unknown fields included."""
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InvalidRequestError("the body is no JSON", 422) from None
    if not isinstance(body, dict):
        raise InvalidRequestError("the body is no JSON object", 422)
    if unknown := sorted(body.keys() - known):
        raise InvalidRequestError(f"unknown field: {', '.join(unknown)}", 422)
    return body


def _forwarded(request: web.Request) -> dict[str, str]:
    """An engine with an API key needs the caller's."""
    said = request.headers.get("Authorization")
    return {"Authorization": said} if said else {}
