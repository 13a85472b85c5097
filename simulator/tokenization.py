"""/tokenize and /detokenize: the ids are those of the block hashes and the KV events."""

from __future__ import annotations

from simulator import fields
from simulator.answers import json_response
from simulator.errors import InvalidParameterError
from simulator.fields import Body, parse_body
from simulator.requests import read_message, read_tokens
from simulator.service import Service
from simulator.tokens import render_chat
from simulator.wire import Request, Response


async def tokenize(service: Service, request: Request) -> Response:
    """Answer the ids of a prompt, or of a conversation in the simulator's chat template."""
    body = parse_body(request.body)
    _check_model(service, body)
    tokens = service.tokenizer.encode(_text(body))
    named = fields.boolean(body, "return_token_strs")
    strings = [service.tokenizer.decode((token,)) for token in tokens] if named else None
    limit = service.settings.limits.max_model_tokens
    return json_response({"count": len(tokens), "max_model_len": limit, "tokens": tokens, "token_strs": strings})


async def detokenize(service: Service, request: Request) -> Response:
    body = parse_body(request.body)
    _check_model(service, body)
    tokens = read_tokens(fields.array(fields.required(body, "tokens"), "body.tokens"), "body.tokens")
    return json_response({"prompt": service.tokenizer.decode(tokens)})


def _text(body: Body) -> str:
    fields.boolean(body, "add_special_tokens")
    if body.get("messages") is None:
        return fields.string(fields.required(body, "prompt"), "body.prompt")
    messages = fields.array(body["messages"], "body.messages")
    if not messages:
        raise InvalidParameterError("messages must not be empty", "messages")
    conversation = [read_message(value, f"body.messages.{index}") for index, value in enumerate(messages)]
    follows = body.get("add_generation_prompt") is None or fields.boolean(body, "add_generation_prompt")
    return render_chat(conversation, answer_follows=follows)


def _check_model(service: Service, body: Body) -> None:
    model = body.get("model")
    if model is not None:
        service.adapter_of(fields.string(model, "body.model"))
