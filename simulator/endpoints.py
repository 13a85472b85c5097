"""The endpoints beside generation: health, models, version, load, metrics and their overrides."""

from __future__ import annotations

from zlib import crc32

from simulator import metrics
from simulator.overrides import OverridesError, parse_overrides
from simulator.responses import ENGINE_VERSION, Json, encode
from simulator.service import Service
from simulator.wire import Request, Response

JSON_HEADERS = {"content-type": "application/json"}


def json_response(body: object, status: int = 200) -> Response:
    return Response(status, encode(body), JSON_HEADERS)


async def health(service: Service, _request: Request) -> Response:
    """Answer 200 with an empty body, or 503 while the process is going away."""
    return Response(503 if service.draining else 200)


async def ready(service: Service, _request: Request) -> Response:
    if service.draining:
        return json_response({"status": "draining"}, 503)
    return json_response({"status": "ready"})


async def ping(_service: Service, _request: Request) -> Response:
    return Response(200)


async def version(_service: Service, _request: Request) -> Response:
    return json_response({"version": ENGINE_VERSION})


async def load(service: Service, _request: Request) -> Response:
    """Answer how many sequences are in the engine."""
    measured = service.engine.running + service.engine.waiting
    return json_response({"server_load": int(service.overrides.number("server_load", measured))})


async def models(service: Service, _request: Request) -> Response:
    """List the served names. The AIBrix mock's two fixed ids are left out: requests to them are unknown here."""
    return json_response({"object": "list", "data": [_model(service, name) for name in service.settings.served_names]})


async def metrics_page(service: Service, _request: Request) -> Response:
    body = metrics.page(service.engine, service.overrides, service.http, service.settings.served_names[0])
    return Response(200, body, {"content-type": metrics.CONTENT_TYPE})


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
        "permission": [_permission(service, name)],
    }


def _permission(service: Service, name: str) -> Json:
    allowed = {"allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True}
    more = {"allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False}
    return {
        "id": f"modelperm-{crc32(name.encode('utf-8', 'surrogatepass')):016x}",
        "object": "model_permission",
        "created": service.started,
        **allowed,
        **more,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
