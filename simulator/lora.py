"""Loading and unloading adapters over HTTP."""

from __future__ import annotations

import asyncio

from simulator import fields
from simulator.answers import json_response
from simulator.errors import InvalidUserInputError
from simulator.fields import Body, parse_body
from simulator.service import Service
from simulator.wire import Request, Response


async def load(service: Service, request: Request) -> Response:
    """Load an adapter, which takes the set time; the reply comes when it can be named as a model."""
    body = parse_body(request.body)
    name, path = _name(service, body, "lora_name"), _name(service, body, "lora_path")
    seconds = service.settings.engine.lora.load_seconds / service.settings.engine.scale.speedup
    if seconds:
        await asyncio.sleep(seconds)
    service.adapters.load(
        name, path, pinned=fields.boolean(body, "pinned"), in_place=fields.boolean(body, "load_inplace")
    )
    return _success(service, f"Success: LoRA adapter '{name}' added successfully.")


async def unload(service: Service, request: Request) -> Response:
    name = _name(service, parse_body(request.body), "lora_name")
    service.adapters.unload(name)
    return _success(service, f"Success: LoRA adapter '{name}' removed successfully.")


def _name(service: Service, body: Body, field: str) -> str:
    """Return a required text; in the mock form a missing one is an error of the same kind as an empty one."""
    if service.settings.lora_mock_replies and not isinstance(body.get(field), str):
        raise InvalidUserInputError(f"'{field}' must be provided.")
    return fields.string(fields.required(body, field), f"body.{field}")


def _success(service: Service, text: str) -> Response:
    if service.settings.lora_mock_replies:
        return json_response({"status": "success", "message": text})
    return Response(200, text.encode("utf-8", "backslashreplace"))
