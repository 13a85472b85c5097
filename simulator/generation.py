"""Chat and text completions: from a body to sequences in the engine, and from their tokens to the answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from simulator.answers import json_response
from simulator.engine import Engine
from simulator.errors import ContextExceededError, SyntheticError, TransferFailedError
from simulator.fields import Body, parse_body
from simulator.hand_over import HandOver, Identity, read_hand_over, reply_fields
from simulator.reply import Reply
from simulator.requests import CompletionRequest, read_chat, read_completion
from simulator.responses import CHAT, TEXT, Choice, Dialect, Envelope, Json, Usage, whole_reply
from simulator.sequence import Batch, Draft, Sequence
from simulator.service import Service
from simulator.streaming import stream
from simulator.tools import ToolDialect, asked_call
from simulator.wire import Request, Response, Stream


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way: what is asked, in which dialect, and as which half of a pair."""

    asked: CompletionRequest
    dialect: Dialect
    hand_over: HandOver


async def chat_completion(service: Service, request: Request) -> Response | Stream:
    body = parse_body(request.body)
    if service.settings.task == "any" and wants_media(body):
        from simulator.chat_media import media_chat

        return await media_chat(service, body)
    asked = read_chat(body, service.tokenizer)
    return await _generate(service, request, Call(asked, _chat_dialect(body), _hand_over(service, body)))


def _chat_dialect(body: Body) -> Dialect:
    """Return plain chat, or the dialect of the tool call that the request insists on."""
    if body.get("tool_choice") is None:
        return CHAT
    call = asked_call(body)
    return CHAT if call is None else ToolDialect(call)


async def text_completion(service: Service, request: Request) -> Response | Stream:
    body = parse_body(request.body)
    asked = read_completion(body, service.tokenizer)
    return await _generate(service, request, Call(asked, TEXT, _hand_over(service, body)))


IMAGE_MODEL_WORDS = ("image", "edit", "diffusion", "z-image")
IMAGE_FIELDS = ("height", "width", "num_inference_steps")


def wants_media(body: Body) -> bool:
    """Return whether a chat asks for an image or for speech instead of text, as AIBrix's mock understands it."""
    if body.get("stream"):
        return False
    model, modalities = body.get("model"), body.get("modalities")
    named = isinstance(model, str) and any(word in model.lower() for word in IMAGE_MODEL_WORDS)
    spoken = isinstance(modalities, list) and "audio" in modalities
    return named or spoken or any(body.get(field) is not None for field in IMAGE_FIELDS)


def _hand_over(service: Service, body: Body) -> HandOver:
    return read_hand_over(body, service.settings.flavour, service.settings.transfer)


async def _generate(service: Service, request: Request, call: Call) -> Response | Stream:
    asked = call.asked
    check(service, asked)
    engine = service.engine_for(request.headers)
    engine.require_room(len(asked.prompts) * asked.choices)
    await _meet(service, engine, call.hand_over)
    batch = engine.submit(drafts(service, engine, call), streamed=asked.shape.streamed)
    envelope = Envelope(
        identifier=call.dialect.prefix + (request.headers.get("x-request-id") or os.urandom(8).hex()),
        created=int(time.time()),
        model=asked.model,
        fingerprint=service.fingerprint,
    )
    if asked.shape.streamed:
        return stream(batch, asked, call.dialect, envelope)
    try:
        while not batch.finished:
            await batch.progress()
    finally:
        batch.abort()
    reply = _whole(service, engine, call, batch, envelope)
    if call.hand_over.half == "prefill":
        await _hand_out(service, call.hand_over, envelope.identifier, batch, reply)
    return json_response(reply)


def check(service: Service, asked: CompletionRequest) -> None:
    """Raise ModelNotFoundError or ContextExceededError when this engine cannot serve what is asked."""
    service.adapter_of(asked.model)
    limit = service.settings.limits.max_model_tokens
    for prompt in asked.prompts:
        if len(prompt) + (asked.max_tokens or 1) > limit:
            raise ContextExceededError(limit, len(prompt), asked.max_tokens)


def drafts(service: Service, engine: Engine, call: Call) -> Iterator[Draft]:
    """Yield the planned sequences, prompt by prompt; equal seeds and equal order give equal text."""
    asked = call.asked
    number = service.next_request_number()
    identity = f"request {number}" if asked.seed is None else f"seed {asked.seed}"
    adapter = service.adapter_of(asked.model)
    decodes = call.hand_over.half == "decode"
    for place, prompt in enumerate(asked.prompts):
        delay = service.settings.transfer.seconds(len(prompt)) if decodes else 0.0
        if decodes:
            size = len(prompt) * service.settings.transfer.kv_bytes_per_token
            engine.statistics.transfers.count(delay, size, engine.limits.blocks(len(prompt)))
        for choice in range(asked.choices):
            random = Random(f"{service.settings.seed} {identity} {place} {choice}")  # noqa: S311 - text, not secrets
            room = service.settings.limits.max_model_tokens - len(prompt)
            yield Draft(
                prompt=prompt,
                reply=_reply(service, call, prompt, room, random),
                random=random,
                max_tokens=asked.max_tokens,
                adapter=None if adapter is None else adapter.key,
                salt=asked.salt,
                remote_tokens=len(prompt) if decodes else 0,
                delay_seconds=delay,
                choices=asked.choices,
            )


def _reply(service: Service, call: Call, prompt: list[int], room: int, random: Random) -> Reply:
    if isinstance(call.dialect, ToolDialect):
        return service.author.say(call.dialect.arguments, call.asked.wish, room)
    return service.author.plan(prompt, call.asked.model, call.asked.wish, room, random)


async def _meet(service: Service, engine: Engine, hand_over: HandOver) -> None:
    """Refuse a prefill that shall be refused; see that a decode's prefill is there and its transfer succeeds."""
    status = service.failures.settings.prefill_status
    if hand_over.half == "prefill" and status is not None:
        raise SyntheticError(status, "synthetic_error", "Prefills are refused on purpose.")
    if hand_over.half != "decode":
        return
    settings = service.settings.transfer
    if hand_over.claim is not None and settings.strict:
        from simulator.rendezvous import claim_remote

        rooms = service.settings.flavour == "sglang"
        wait = settings.timeout_seconds if rooms else 0.0
        await claim_remote(hand_over.claim, wait, "bootstrap_room" if rooms else "kv_transfer_params")
    if service.failures.transfer_fails():
        engine.statistics.transfers.failed += 1
        raise TransferFailedError


async def _hand_out(service: Service, hand_over: HandOver, identifier: str, batch: Batch, reply: Json) -> None:
    """Offer a finished prefill to its decode and say in the reply how to get it."""
    settings, flavour = service.settings.transfer, service.settings.flavour
    first = batch.sequences[0]
    key = f"room {hand_over.identifier}" if flavour == "sglang" else identifier
    identity = Identity(
        engine=service.engine_id,
        key=key,
        blocks=list(first.blocks),
        prompt=first.draft.prompt,
        first_token=first.draft.reply.tokens[0],
    )
    reply.update(reply_fields(flavour, settings, hand_over, identity))
    service.offers.offer(key)
    if flavour == "sglang" and settings.strict and not await service.offers.claimed(key, settings.timeout_seconds):
        raise SyntheticError(504, "KVTransferError", f"No decode came for room {hand_over.identifier}.")


def _whole(service: Service, engine: Engine, call: Call, batch: Batch, envelope: Envelope) -> Json:
    choices = [_choice(place, sequence, call.asked) for place, sequence in enumerate(batch.sequences)]
    first = batch.sequences[:: call.asked.choices]
    usage = Usage(
        prompt_tokens=sum(map(len, call.asked.prompts)),
        completion_tokens=sum(sequence.visible for sequence in batch.sequences),
        cached_tokens=sum(sequence.cached_tokens or 0 for sequence in first),
    )
    return whole_reply(call.dialect, envelope, choices, usage, timing(service, engine, batch.sequences[0]))


def _choice(place: int, sequence: Sequence, asked: CompletionRequest) -> Choice:
    reply = sequence.draft.reply
    aborted = sequence.finish_reason == "abort"
    return Choice(
        index=place,
        text="".join(reply.pieces[: sequence.visible]),
        finish_reason=sequence.finish_reason,
        stop_reason=None if aborted else reply.stop_reason,
        token_ids=list(reply.tokens[: sequence.visible]) if asked.token_ids else None,
        prompt_token_ids=sequence.draft.prompt if asked.token_ids else None,
    )


def timing(service: Service, engine: Engine, sequence: Sequence) -> Json:
    """Return the `metrics` object that AIBrix's batch client reads from plain replies."""
    admitted = sequence.arrived if sequence.admitted is None else sequence.admitted
    first = sequence.last_token_at if sequence.first_token_at is None else sequence.first_token_at
    return {
        "time_to_first_token_seconds": first - sequence.arrived,
        "time_per_output_token_seconds": (sequence.last_token_at - first) / max(sequence.visible - 1, 1),
        "mock_latency_seconds": sequence.last_token_at - admitted,
        "mock_inflight_at_start": sequence.inflight_at_start,
        "mock_max_inflight": engine.most_inflight,
        "mock_capacity": engine.capacity,
        "mock_overload": max(sequence.inflight_at_start - engine.capacity, 0),
        "mock_request_index": sequence.index,
        "mock_pod": service.settings.pod,
    }
