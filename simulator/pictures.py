"""Images and videos: one small picture in every form that clients expect."""

from __future__ import annotations

import base64
import os
import time
from urllib.parse import quote

from simulator import fields
from simulator.answers import json_response
from simulator.errors import InvalidParameterError
from simulator.fields import Body, parse_body
from simulator.multipart import read_form, required_text
from simulator.service import Service
from simulator.wire import Request, Response

MOST_IMAGES = 10
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""
PIXEL_URI = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"


async def images(service: Service, request: Request) -> Response:
    body = parse_body(request.body)
    prompt = _prompt(service, body)
    number = fields.integer(body, "n")
    if number is not None and not 1 <= number <= MOST_IMAGES:
        raise InvalidParameterError(f"n must be 1 to {MOST_IMAGES}.", "n", number)
    form = body.get("response_format") or "url"
    if form not in ("url", "b64_json"):
        raise InvalidParameterError("response_format must be url or b64_json.", "response_format", form)
    content = {"url": PIXEL_URI} if form == "url" else {"b64_json": base64.b64encode(PIXEL).decode()}
    data = [{**content, "revised_prompt": prompt} for _ in range(number or 1)]
    return json_response({"created": int(time.time()), "data": data})


async def video(service: Service, request: Request) -> Response:
    body = parse_body(request.body)
    prompt = _prompt(service, body)
    made = {
        "url": f"https://simulated.invalid/{quote(service.settings.pod)}/{os.urandom(4).hex()}.mp4", "duration": 5,
        "fps": 24, "size": "1280x720", "revised_prompt": prompt,
    }  # fmt: skip
    created = int(time.time())
    model = body.get("model") or service.settings.served_names[0]
    return json_response(
        {"id": f"video-{created}", "object": "video.generation", "created": created, "model": model, "data": [made]}
    )


async def videos(_service: Service, request: Request) -> Response:
    prompt = required_text(read_form(request), "prompt")
    return json_response({"data": [{"b64_json": base64.b64encode(b"\0" * 32).decode(), "revised_prompt": prompt}]})


def _prompt(service: Service, body: Body) -> str:
    prompt = fields.string(fields.required(body, "prompt"), "body.prompt")
    if not prompt:
        raise InvalidParameterError("prompt must not be empty", "prompt")
    if body.get("model") is not None:
        service.adapter_of(fields.string(body["model"], "body.model"))
    return prompt
