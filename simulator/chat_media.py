"""Chats that are answered with an image or with speech, as AIBrix's mock does for such models and fields."""

from __future__ import annotations

import os
import time

from simulator.answers import json_response
from simulator.audio import spoken_reply
from simulator.fields import Body
from simulator.pictures import PIXEL_URI
from simulator.requests import read_chat
from simulator.responses import CHAT, Choice, Envelope, Usage, whole_reply
from simulator.service import Service
from simulator.wire import Response

SENTENCE = "This is speech of a simulated engine."


async def media_chat(service: Service, body: Body) -> Response:
    """Answer one image without output tokens, or one sentence with its sound."""
    asked = read_chat(body, service.tokenizer)
    service.adapter_of(asked.model)
    modalities = body.get("modalities")
    speaks = isinstance(modalities, list) and "audio" in modalities
    tokens = len(service.tokenizer.encode(SENTENCE)) if speaks else 0
    envelope = Envelope(
        identifier=CHAT.prefix + os.urandom(8).hex(),
        created=int(time.time()),
        model=asked.model,
        fingerprint=service.fingerprint,
    )
    choice = Choice(index=0, text=SENTENCE if speaks else "", finish_reason="stop", stop_reason=None)
    reply = whole_reply(CHAT, envelope, [choice], Usage(len(asked.prompts[0]), tokens), {})
    message = reply["choices"][0]["message"]
    if speaks:
        message["audio"] = spoken_reply(SENTENCE)
    else:
        message["content"] = [{"type": "image_url", "image_url": {"url": PIXEL_URI}}]
    return json_response(reply)
