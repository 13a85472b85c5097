"""The endpoints that every engine is asked for all the time: health, models, version, load, metrics and their pins."""

from __future__ import annotations

from zlib import crc32

from simulator import metrics
from simulator.adapters import Adapter
from simulator.answers import json_response
from simulator.overrides import OverridesError, parse_overrides
from simulator.responses import ENGINE_VERSION, Json
from simulator.service import Service
from simulator.wire import Request, Response


async def health(service: Service, _request: Request) -> Response:
    """Answer 200 with an empty body, or 503 while the process comes up or goes away; a sleeping engine is healthy."""
    return Response(503 if service.draining or service.starting else 200)


async def ready(service: Service, _request: Request) -> Response:
    if service.draining:
        return json_response({"status": "draining"}, 503)
    if service.starting:
        return json_response({"status": "starting"}, 503)
    return json_response({"status": "ready"})


async def ping(_service: Service, _request: Request) -> Response:
    return Response(200)


async def version(_service: Service, _request: Request) -> Response:
    return json_response({"version": ENGINE_VERSION})


async def load(service: Service, _request: Request) -> Response:
    """Answer how many sequences are in the engine."""
    measured = service.running + service.waiting
    return json_response({"server_load": int(service.overrides.number("server_load", measured))})


async def models(service: Service, _request: Request) -> Response:
    """List the served names and the loaded adapters. The AIBrix mock's two fixed ids are left out: they are unknown."""
    base = [_model(service, name) for name in service.settings.served_names]
    return json_response({"object": "list", "data": [*base, *(_adapter(service, found) for found in service.adapters)]})


async def model_info(service: Service, _request: Request) -> Response:
    settings = service.settings
    return json_response({"model_path": settings.model, "tokenizer_path": settings.model, "is_generation": True})


async def metrics_page(service: Service, _request: Request) -> Response:
    return Response(200, metrics.page(service), {"content-type": metrics.CONTENT_TYPE})


async def set_metrics(service: Service, request: Request) -> Response:
    """Pin or release metric values."""
    try:
        values = parse_overrides(request.body.decode("utf-8", "replace"))
        ignored = service.overrides.update(values)
    except OverridesError as error:
        return json_response({"status": "error", "message": str(error)}, 400)
    if not values:
        return json_response({"status": "error", "message": "no values given"}, 400)
    return json_response({"status": "success", "updated": sorted(values.keys() - set(ignored)), "ignored": ignored})


def _model(service: Service, name: str) -> Json:
    return {
        "id": name,
        "object": "model",
        "created": service.started,
        "owned_by": "vllm",
        "root": service.settings.model,
        "parent": None,
        "max_model_len": service.settings.limits.max_model_tokens,
        "permission": [_permission(service.started, name)],
    }


def _adapter(service: Service, adapter: Adapter) -> Json:
    return {
        "id": adapter.key.name,
        "object": "model",
        "created": adapter.loaded,
        "owned_by": "vllm",
        "root": adapter.path,
        "parent": service.settings.served_names[0],
        "max_model_len": None,
        "permission": [_permission(adapter.loaded, adapter.key.name)],
    }


def _permission(created: int, name: str) -> Json:
    allowed = {"allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True}
    more = {"allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False}
    return {
        "id": f"modelperm-{crc32(name.encode('utf-8', 'surrogatepass')):016x}",
        "object": "model_permission",
        "created": created,
        **allowed,
        **more,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
