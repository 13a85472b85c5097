"""Tool calls: a stub that calls the tool which the request insists on, with arguments that fit its schema's types.

A request that leaves the choice to the model gets text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from simulator import fields
from simulator.errors import InvalidParameterError
from simulator.fields import Body
from simulator.responses import ChatDialect, Choice, Json

_EXAMPLES: Mapping[str, object] = {
    "string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None,
}  # fmt: skip


def asked_call(body: Body) -> Json | None:
    """Return the call that a chat insists on, None when text will do. Raises an ApiError for a choice that is none."""
    choice = body.get("tool_choice")
    if choice is None or choice in ("auto", "none"):
        return None
    functions = _functions(body)
    if choice == "required":
        name = next(iter(functions), "")
    else:
        asked = fields.mapping(fields.mapping(choice, "body.tool_choice").get("function"), "body.tool_choice.function")
        name = fields.string(asked.get("name"), "body.tool_choice.function.name")
    if name not in functions:
        raise InvalidParameterError("tool_choice needs a function among the given tools.", "tool_choice")
    arguments = json.dumps(_arguments(functions[name]), separators=(",", ":"))
    function = {"name": name, "arguments": arguments}
    return {"id": f"chatcmpl-tool-{os.urandom(8).hex()}", "type": "function", "function": function}


class ToolDialect(ChatDialect):
    """A chat whose tokens are the arguments of a call instead of content."""

    def __init__(self, call: Json) -> None:
        self._call = call

    @property
    def arguments(self) -> str:
        """What the sequence says."""
        return str(self._call["function"]["arguments"])

    def choice(self, choice: Choice) -> Json:
        found = super().choice(choice)
        function = {**self._call["function"], "arguments": choice.text}
        found["message"] |= {"content": None, "tool_calls": [{**self._call, "function": function}]}
        return found | {"finish_reason": _reason(choice)}

    def opening(self, index: int) -> Json | None:
        function = {**self._call["function"], "arguments": ""}
        delta = {"role": "assistant", "content": None, "tool_calls": [{**self._call, "index": 0, "function": function}]}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(self, index: int, text: str, token_ids: list[int] | None = None) -> Json:
        return super().piece(index, "", token_ids) | {"delta": _fragment(text)}

    def last_piece(self, choice: Choice) -> Json:
        return super().last_piece(choice) | {"delta": _fragment(choice.text), "finish_reason": _reason(choice)}


def _fragment(text: str) -> Json:
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}


def _reason(choice: Choice) -> str | None:
    return "tool_calls" if choice.finish_reason == "stop" else choice.finish_reason


def _functions(body: Body) -> dict[str, Body]:
    """Return the tools' functions by name."""
    given = body.get("tools")
    tools = [] if given is None else fields.array(given, "body.tools")
    found: dict[str, Body] = {}
    for place, tool in enumerate(tools):
        location = f"body.tools.{place}.function"
        function = fields.mapping(fields.mapping(tool, f"body.tools.{place}").get("function"), location)
        found[fields.string(function.get("name"), f"{location}.name")] = function
    return found


def _arguments(function: Body) -> dict[str, object]:
    """Return a value of the right type for each required parameter."""
    parameters = function.get("parameters")
    if not isinstance(parameters, dict) or not isinstance(parameters.get("properties"), dict):
        return {}
    properties, required = parameters["properties"], parameters.get("required")
    wanted = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    return {name: _example(properties.get(name)) for name in wanted}


def _example(schema: object) -> object:
    if not isinstance(schema, dict):
        return "text"
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = schema.get("type")
    return _EXAMPLES.get(kind, "text") if isinstance(kind, str) else "text"
