"""Prefill and decode on different engines: what each flavour's requests must carry, and what its replies do.

    vLLM, shared store   kv_transfer_params both ways; the gateway fills in the prefill engine's address
    vLLM, nixl           the decode carries the whole prefill reply as disagg_prefill_resp
    vLLM, mooncake       nothing: the connector finds the prefill by itself
    SGLang               both halves name one room at the prefill engine, and meet there in any order
    TensorRT-LLM         disaggregated_params with an id; the decode returns the state that the prefill gave out

Names and fields follow vLLM's KV connectors, SGLang's disaggregation and TensorRT-LLM's disaggregated serving. A
decode that does not say where its prefill is, is refused (lenient mode: decoded all the same). In strict mode, which is
how an engine with a KV connector or a role runs, it asks the prefill engine whether it has what is claimed, and each
hand-over serves once.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from simulator.errors import HandOverError, InvalidFieldsError
from simulator.fields import Body
from simulator.settings import Flavour, TransferSettings

LARGEST_ROOM = 2**63 - 1

Half: TypeAlias = Literal["whole", "prefill", "decode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a decode says about its prefill: a key, and the engine that gave it out (None: cannot be asked)."""

    key: str
    host: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Which half of a pair a request is."""

    half: Half = "whole"
    claim: Claim | None = None
    identifier: int | None = None
    """TensorRT-LLM's id, or SGLang's room."""


def read_hand_over(body: Body, flavour: Flavour, settings: TransferSettings) -> HandOver:
    """Return what the body says. Raises HandOverError where something is missing, else InvalidFieldsError."""
    readers = {"sglang": _read_sglang, "trtllm": _read_trtllm}
    found = readers.get(flavour, _read_vllm)(body, settings)
    if found.half == "whole" and settings.demanding and settings.role == "consumer":
        raise HandOverError("This engine only decodes, and the request names no prefill.", _param(flavour))
    return found


def reply_fields(
    flavour: Flavour, settings: TransferSettings, hand_over: HandOver, identity: Identity
) -> dict[str, object]:
    """Return what a prefill's reply carries beside its text."""
    if flavour == "trtllm":
        state = json.dumps({"host": settings.address, "port": settings.port, "key": identity.key}).encode()
        params = {
            "request_type": "context_only",
            "disagg_request_id": hand_over.identifier,
            "first_gen_tokens": [identity.first_token],
            "opaque_state": base64.b64encode(state).decode(),
        }
        return {"disaggregated_params": params, "prompt_token_ids": identity.prompt}
    if flavour == "sglang":
        return {}
    asked = hand_over.half == "prefill"
    host = settings.address if settings.connector == "nixl" or not asked else None
    params = {
        "do_remote_decode": False,
        "do_remote_prefill": True,
        "remote_engine_id": identity.engine,
        "remote_block_ids": identity.blocks,
        "remote_request_id": identity.key,
        "remote_host": host,
        "remote_port": settings.port,
    }
    return {"kv_transfer_params": params}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A finished prefill, as its reply describes it."""

    engine: str
    key: str
    blocks: list[int]
    prompt: list[int]
    first_token: int


def _read_vllm(body: Body, settings: TransferSettings) -> HandOver:
    if settings.connector == "nixl" and body.get("disagg_prefill_resp") is not None:
        reply = _object(body["disagg_prefill_resp"], "disagg_prefill_resp")
        params = reply.get("kv_transfer_params")
        if not isinstance(params, dict):
            return _incomplete(settings, "disagg_prefill_resp holds no kv_transfer_params.", "disagg_prefill_resp")
        return _vllm_decode(params, settings)
    if body.get("kv_transfer_params") is None:
        half: Half = "prefill" if settings.role == "producer" and settings.connector != "mooncake" else "whole"
        return HandOver(half=half)
    params = _object(body["kv_transfer_params"], "kv_transfer_params")
    if params.get("do_remote_decode") is True:
        return HandOver(half="prefill")
    if params.get("do_remote_prefill") is True:
        return _vllm_decode(params, settings)
    return HandOver()


def _vllm_decode(params: Body, settings: TransferSettings) -> HandOver:
    engine, blocks = params.get("remote_engine_id"), params.get("remote_block_ids")
    host, port, key = params.get("remote_host"), params.get("remote_port"), params.get("remote_request_id")
    complete = isinstance(engine, str) and isinstance(blocks, list) and isinstance(host, str) and _is_port(port)
    if not complete:
        lacking = "remote_engine_id, remote_block_ids, remote_host and remote_port must all be set to decode."
        return _incomplete(settings, lacking, "kv_transfer_params")
    name = key if isinstance(key, str) else f"{engine} {blocks}"
    return HandOver(half="decode", claim=Claim(key=name, host=str(host), port=int(str(port))))


def _read_sglang(body: Body, settings: TransferSettings) -> HandOver:
    host, port, room = (body.get(f"bootstrap_{name}") for name in ("host", "port", "room"))
    if host is None and room is None:
        if settings.demanding and settings.role != "both":
            raise HandOverError("Disaggregated request received without bootstrap room id.", "bootstrap_room")
        return HandOver()
    if not isinstance(room, int) or isinstance(room, bool) or not 0 <= room <= LARGEST_ROOM:
        raise InvalidFieldsError("int_type", "body.bootstrap_room", "Input should be a valid 63-bit integer", room)
    if not isinstance(host, str) or not (port is None or _is_port(port)):
        raise InvalidFieldsError("string_type", "body.bootstrap_host", "Input should be a valid host and port", host)
    if settings.role == "producer":
        return HandOver(half="prefill", identifier=room)
    claim = Claim(key=f"room {room}", host=host, port=int(str(port)) if port is not None else 8998)
    return HandOver(half="decode" if settings.role == "consumer" else "whole", claim=claim, identifier=room)


def _read_trtllm(body: Body, settings: TransferSettings) -> HandOver:
    if body.get("disaggregated_params") is None:
        return HandOver()
    params = _object(body["disaggregated_params"], "disaggregated_params")
    kind, number = params.get("request_type"), params.get("disagg_request_id")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        location = "body.disaggregated_params.disagg_request_id"
        raise InvalidFieldsError("int_type", location, "Input should be a valid integer", number)
    if kind == "context_only":
        if number is None and settings.demanding:
            raise HandOverError("disagg_request_id is required for a context_only request.", "disaggregated_params")
        return HandOver(half="prefill", identifier=number)
    if kind != "generation_only":
        return HandOver()
    claim = _opaque_claim(params.get("opaque_state"))
    if number is None or claim is None or not isinstance(params.get("first_gen_tokens"), list):
        lacking = "disagg_request_id, first_gen_tokens and opaque_state of the prefill must be set to decode."
        return _incomplete(settings, lacking, "disaggregated_params")
    return HandOver(half="decode", claim=claim, identifier=number)


def _opaque_claim(state: object) -> Claim | None:
    try:
        value = json.loads(base64.b64decode(str(state), validate=True))
        return Claim(key=str(value["key"]), host=str(value["host"]), port=int(value["port"]))
    except (ValueError, KeyError, TypeError):
        return None


def _incomplete(settings: TransferSettings, message: str, param: str) -> HandOver:
    """Refuse, but in lenient mode decode as if a prefill had been."""
    if settings.demanding:
        raise HandOverError(message, param)
    return HandOver(half="decode")


def _object(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidFieldsError("dict_type", f"body.{name}", "Input should be a valid dictionary", value)
    return value


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def _param(flavour: Flavour) -> str:
    return {"sglang": "bootstrap_room", "trtllm": "disaggregated_params"}.get(flavour, "kv_transfer_params")
