"""What a chat or a text completion asks for, checked: one frozen type for both."""

from __future__ import annotations

from dataclasses import dataclass

from simulator import fields
from simulator.errors import InvalidFieldsError, InvalidParameterError
from simulator.fields import Body
from simulator.reply import Wish
from simulator.tokens import LARGEST_TOKEN_ID, Message, Tokenizer, render_chat

MOST_CHOICES = 128
MOST_PROMPTS = 1024
MOST_STOP_STRINGS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamShape:
    """How a reply is sent."""

    streamed: bool
    include_usage: bool
    usage_in_every_chunk: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """One call; `prompts` are token ids, one list per prompt (a chat has one)."""

    model: str
    prompts: tuple[list[int], ...]
    choices: int
    wish: Wish
    seed: int | None
    shape: StreamShape
    salt: str | None
    token_ids: bool
    """Whether the reply names its tokens beside their text."""

    @property
    def max_tokens(self) -> int | None:
        return self.wish.max_tokens


def read_chat(body: Body, tokenizer: Tokenizer) -> CompletionRequest:
    """Return the request in a chat body. Raises InvalidFieldsError or InvalidParameterError."""
    messages = fields.array(fields.required(body, "messages"), "body.messages")
    if not messages:
        raise InvalidParameterError("messages must not be empty", "messages")
    conversation = [read_message(value, f"body.messages.{index}") for index, value in enumerate(messages)]
    limit = fields.integer(body, "max_completion_tokens")
    given = body.get("prompt_token_ids")
    if given is None:
        prompt = tokenizer.encode(render_chat(conversation))
    else:
        prompt = read_tokens(fields.array(given, "body.prompt_token_ids"), "body.prompt_token_ids")
        if not prompt:
            raise InvalidParameterError("prompt_token_ids must not be empty", "prompt_token_ids")
    return _request(body, "messages", (prompt,), limit)


def read_completion(body: Body, tokenizer: Tokenizer) -> CompletionRequest:
    """Return the request in a text completion body. Raises InvalidFieldsError or InvalidParameterError."""
    prompts = _prompts(fields.required(body, "prompt"), tokenizer)
    if not prompts or len(prompts) > MOST_PROMPTS or not all(prompts):
        raise InvalidParameterError(f"prompt must hold 1 to {MOST_PROMPTS} prompts, none of them empty", "prompt")
    return _request(body, "prompt", prompts, None)


def _request(body: Body, source: str, prompts: tuple[list[int], ...], limit: int | None) -> CompletionRequest:
    shape = _shape(body)
    _check_sampling(body)
    max_tokens = fields.integer(body, "max_tokens")
    choices = fields.integer(body, "n")
    return CompletionRequest(
        model=_model(body, source),
        prompts=prompts,
        choices=_between("n", 1 if choices is None else choices, 1, MOST_CHOICES),
        wish=_wish(body, _positive("max_completion_tokens", limit) or _positive("max_tokens", max_tokens)),
        seed=fields.integer(body, "seed"),
        shape=shape,
        salt=_salt(body),
        token_ids=fields.boolean(body, "return_token_ids"),
    )


def _wish(body: Body, max_tokens: int | None) -> Wish:
    min_tokens = fields.integer(body, "min_tokens") or 0
    if min_tokens < 0:
        raise InvalidParameterError(f"min_tokens must be greater than or equal to 0, got {min_tokens}.", "min_tokens")
    if max_tokens is not None and min_tokens > max_tokens:
        message = f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}."
        raise InvalidParameterError(message, "min_tokens")
    ignore_eos = fields.boolean(body, "ignore_eos")
    return Wish(max_tokens=max_tokens, min_tokens=min_tokens, ignore_eos=ignore_eos, stop=_stop(body.get("stop")))


def _salt(body: Body) -> str | None:
    salt = body.get("cache_salt")
    if salt is None:
        return None
    if not isinstance(salt, str) or not salt:
        raise InvalidParameterError("Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt")
    return salt


def _model(body: Body, source: str) -> str:
    model = body.get("model")
    if model is None or model == "":
        raise InvalidParameterError(f"'{source}' and 'model' are required parameters", "model")
    return fields.string(model, "body.model")


def _shape(body: Body) -> StreamShape:
    streamed = fields.boolean(body, "stream")
    given = body.get("stream_options")
    options = {} if given is None else fields.mapping(given, "body.stream_options")
    if given is not None and not streamed:
        raise InvalidParameterError("Stream options can only be defined when `stream=True`.", "stream_options")
    include = fields.boolean(options, "include_usage")
    every = include and fields.boolean(options, "continuous_usage_stats")
    return StreamShape(streamed=streamed, include_usage=include, usage_in_every_chunk=every)


def _check_sampling(body: Body) -> None:
    temperature = fields.number(body, "temperature")
    if temperature is not None and not temperature >= 0:
        message = f"temperature must be non-negative, got {temperature}."
        raise InvalidParameterError(message, "temperature", temperature)
    top_p = fields.number(body, "top_p")
    if top_p is not None and not 0 < top_p <= 1:
        raise InvalidParameterError(f"top_p must be in (0, 1], got {top_p}.", "top_p", top_p)


def _positive(name: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise InvalidParameterError(f"{name} must be at least 1, got {value}.", name, value)
    return value


def _between(name: str, value: int, least: int, most: int) -> int:
    if value < least:
        raise InvalidParameterError(f"{name} must be at least {least}, got {value}.", name, value)
    if value > most:
        raise InvalidParameterError(f"{name} must be at most {most}, got {value}.", name, value)
    return value


def _stop(value: object) -> tuple[str, ...]:
    """Return the stop strings, empty ones left out."""
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else fields.array(value, "body.stop")
    if len(given) > MOST_STOP_STRINGS:
        raise InvalidParameterError(f"stop takes at most {MOST_STOP_STRINGS} strings", "stop", len(given))
    strings = [fields.string(item, f"body.stop.{index}") for index, item in enumerate(given)]
    return tuple(text for text in strings if text)


def read_message(value: object, location: str) -> Message:
    """Return one entry of `messages`. Raises InvalidFieldsError."""
    message = fields.mapping(value, location)
    if "role" not in message:
        raise InvalidFieldsError("missing", f"{location}.role", "Field required", message)
    role = fields.string(message["role"], f"{location}.role")
    return Message(role, _content(message.get("content"), f"{location}.content"))


def _content(value: object, location: str) -> str:
    """Return a message's text: a string as it is, parts joined, other media as one token each."""
    if value is None or isinstance(value, str):
        return value or ""
    parts = fields.array(value, location)
    return "\n".join(_part(part, f"{location}.{index}") for index, part in enumerate(parts))


def _part(value: object, location: str) -> str:
    if isinstance(value, str):
        return value
    part = fields.mapping(value, location)
    kind = fields.string(part.get("type", "text"), f"{location}.type")
    return fields.string(part.get("text"), f"{location}.text") if kind == "text" else "<|media|>"


def _prompts(value: object, tokenizer: Tokenizer) -> tuple[list[int], ...]:
    """Return token ids per prompt, from a string, strings, ids, or lists of ids."""
    if isinstance(value, str):
        return (tokenizer.encode(value),)
    items = fields.array(value, "body.prompt")
    if items and _is_token(items[0]):
        return (read_tokens(items, "body.prompt"),)
    return tuple(_prompt(item, f"body.prompt.{index}", tokenizer) for index, item in enumerate(items))


def _prompt(value: object, location: str, tokenizer: Tokenizer) -> list[int]:
    if isinstance(value, list):
        return read_tokens(value, location)
    return tokenizer.encode(fields.string(value, location))


def read_tokens(values: list[object], location: str) -> list[int]:
    """Return a list of unsigned 32-bit token ids. Raises InvalidFieldsError."""
    tokens = [value for value in values if isinstance(value, int) and _is_token(value)]
    if len(tokens) != len(values):
        raise InvalidFieldsError("int_type", location, "Input should be a list of token ids", values)
    return tokens


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_TOKEN_ID
