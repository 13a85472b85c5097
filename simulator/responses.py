"""The JSON that answers a completion, plain and in chunks, in the key order of vLLM.

Two dialects, chat and text, differ in object names, in where the text sits and in a few null fields.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

ENGINE_VERSION = "0.32.0"

Json: TypeAlias = dict[str, Any]

_text = json.JSONEncoder(separators=(",", ":")).encode

STREAM_END = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def counts(self) -> Json:
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What every chunk and reply of one request shares."""

    identifier: str
    created: int
    model: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One finished sequence."""

    index: int
    text: str
    finish_reason: str
    stop_reason: str | None


class ChatDialect:
    """Shapes of /v1/chat/completions."""

    prefix = "chatcmpl-"
    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    def choice(self, choice: Choice) -> Json:
        nulls = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
        return {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, **nulls},
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": None,
            "routed_experts": None,
        }

    def details(self, usage: Usage) -> Json:
        return {"cached_tokens": usage.cached_tokens, "created_cache_tokens": 0, "multimodal_tokens": None}

    def stream_details(self, usage: Usage) -> Json:
        return {"cached_tokens": usage.cached_tokens, "created_cache_tokens": 0}

    def trailer(self) -> Json:
        return dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "prompt_text"))

    def opening(self, index: int) -> Json | None:
        """Return the delta that announces the role, sent before the first token."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(self, index: int, text: str) -> Json:
        delta = {"content": text}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, "token_ids": None}

    def last_piece(self, choice: Choice) -> Json:
        return {
            "index": choice.index,
            "delta": {"content": choice.text},
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": None,
        }


class TextDialect:
    """Shapes of /v1/completions."""

    prefix = "cmpl-"
    object_name = "text_completion"
    chunk_name = "text_completion"

    def choice(self, choice: Choice) -> Json:
        nulls = dict.fromkeys(("token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts"))
        return {
            "index": choice.index,
            "text": choice.text,
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            **nulls,
        }

    def details(self, usage: Usage) -> Json:
        return {"cached_tokens": usage.cached_tokens, "created_cache_tokens": None, "multimodal_tokens": None}

    def stream_details(self, usage: Usage) -> Json:
        return {"cached_tokens": usage.cached_tokens}

    def trailer(self) -> Json:
        return {}

    def opening(self, _index: int) -> Json | None:
        """Return nothing: a text stream opens with its first token."""
        return None

    def piece(self, index: int, text: str) -> Json:
        return self._piece(index, text, None, None)

    def last_piece(self, choice: Choice) -> Json:
        return self._piece(choice.index, choice.text, choice.finish_reason, choice.stop_reason)

    def _piece(self, index: int, text: str, finish_reason: str | None, stop_reason: str | None) -> Json:
        return {
            "index": index,
            "text": text,
            "logprobs": None,
            "finish_reason": finish_reason,
            "stop_reason": stop_reason,
            "prompt_token_ids": None,
            "token_ids": None,
        }


Dialect: TypeAlias = ChatDialect | TextDialect

CHAT = ChatDialect()
TEXT = TextDialect()


def whole_reply(dialect: Dialect, envelope: Envelope, choices: list[Choice], usage: Usage, metrics: Json) -> Json:
    """Return the body of a plain reply."""
    details = {"prompt_tokens_details": dialect.details(usage), "completion_tokens_details": None}
    return {
        "id": envelope.identifier,
        "object": dialect.object_name,
        "created": envelope.created,
        "model": envelope.model,
        "choices": [dialect.choice(choice) for choice in choices],
        "service_tier": None,
        "system_fingerprint": envelope.fingerprint,
        "usage": {**usage.counts(), **details},
        **dialect.trailer(),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": metrics,
    }


def chunk(dialect: Dialect, envelope: Envelope, choices: list[Json]) -> Json:
    """Return one chunk of a stream."""
    return {
        "id": envelope.identifier,
        "object": dialect.chunk_name,
        "created": envelope.created,
        "model": envelope.model,
        "choices": choices,
    }


def opening_chunk(dialect: Dialect, envelope: Envelope, place: int) -> Json | None:
    """Return the chunk that comes before a sequence's first token, or None where the dialect has none."""
    opening = dialect.opening(place)
    if opening is None:
        return None
    return {**chunk(dialect, envelope, [opening]), "prompt_token_ids": None, "prompt_text": None}


def usage_chunk(dialect: Dialect, envelope: Envelope, usage: Usage) -> Json:
    """Return the chunk without choices that ends a stream whose client asked for usage."""
    counts = {**usage.counts(), "prompt_tokens_details": dialect.stream_details(usage)}
    return {**chunk(dialect, envelope, []), "usage": counts, "system_fingerprint": envelope.fingerprint}


def encode(data: object) -> bytes:
    """Return compact JSON, all ASCII, so that even a lone surrogate of a request can be quoted back."""
    return _text(data).encode("ascii")


def event(data: Json) -> bytes:
    """Return one server-sent event."""
    return b"data: %b\n\n" % encode(data)
