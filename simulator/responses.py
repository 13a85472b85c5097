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
_PLACE = "\0piece\0"
_QUOTED_LIMIT = 1 << 16
_quoted: dict[str, bytes] = {}


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
    finish_reason: str | None
    stop_reason: str | int | None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


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
            "token_ids": choice.token_ids,
            "routed_experts": None,
        }

    def details(self, usage: Usage) -> Json:
        return {"cached_tokens": usage.cached_tokens, "created_cache_tokens": 0, "multimodal_tokens": None}

    def stream_details(self, usage: Usage) -> Json:
        return {"cached_tokens": usage.cached_tokens, "created_cache_tokens": 0}

    def trailer(self, choice: Choice) -> Json:
        return {"prompt_logprobs": None, "prompt_token_ids": choice.prompt_token_ids, "prompt_text": None}

    def opening(self, index: int) -> Json | None:
        """Return the delta that announces the role, sent before the first token."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(self, index: int, text: str, token_ids: list[int] | None = None) -> Json:
        delta = {"content": text}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, "token_ids": token_ids}

    def last_piece(self, choice: Choice) -> Json:
        return {
            "index": choice.index,
            "delta": {"content": choice.text},
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": choice.token_ids,
        }


class TextDialect:
    """Shapes of /v1/completions."""

    prefix = "cmpl-"
    object_name = "text_completion"
    chunk_name = "text_completion"

    def choice(self, choice: Choice) -> Json:
        return {
            "index": choice.index,
            "text": choice.text,
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": choice.token_ids,
            "prompt_logprobs": None,
            "prompt_token_ids": choice.prompt_token_ids,
            "routed_experts": None,
        }

    def details(self, usage: Usage) -> Json:
        return {"cached_tokens": usage.cached_tokens, "created_cache_tokens": None, "multimodal_tokens": None}

    def stream_details(self, usage: Usage) -> Json:
        return {"cached_tokens": usage.cached_tokens}

    def trailer(self, _choice: Choice) -> Json:
        return {}

    def opening(self, _index: int) -> Json | None:
        """Return nothing: a text stream opens with its first token."""
        return None

    def piece(self, index: int, text: str, token_ids: list[int] | None = None) -> Json:
        return self.last_piece(
            Choice(index=index, text=text, finish_reason=None, stop_reason=None, token_ids=token_ids)
        )

    def last_piece(self, choice: Choice) -> Json:
        return {
            "index": choice.index,
            "text": choice.text,
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "prompt_token_ids": choice.prompt_token_ids,
            "token_ids": choice.token_ids,
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
        **dialect.trailer(choices[0]),
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


def piece_frame(dialect: Dialect, envelope: Envelope, place: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the quoted text in each event of a choice but its last."""
    before, _, after = event(chunk(dialect, envelope, [dialect.piece(place, _PLACE)])).rpartition(encode(_PLACE))
    return before, after


def quoted(text: str) -> bytes:
    """Return `text` as JSON; most pieces come from a small vocabulary and are remembered."""
    data = _quoted.get(text)
    if data is None:
        data = encode(text)
        if len(_quoted) < _QUOTED_LIMIT:
            _quoted[text] = data
    return data
