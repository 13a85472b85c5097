"""Configuration profiles of a model: from the annotation on its pods to what the kernel is told (gateway 4.6).

The annotation `model.aibrix.ai/config` is JSON. It counts as a whole or not at all: what does not parse, or has no
profiles, is as if the pod had none. The newest pod that has one speaks for the model, so that an update of the
annotation takes effect with the first pod that carries it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from csrc.records import HINTS, ModelProfiles, Profile
from gateway.topology import Endpoint

DEFAULT_PROFILE = "default"
MOST_PROFILES = 64
MOST_REQUESTS = 2**32 - 1

_HINT_NAMES = dict(zip(HINTS, ("promptTokensGte", "promptTokensLt", "maxTokensGte", "maxTokensLt"), strict=True))


def profiles_of(endpoints: Iterable[Endpoint]) -> dict[str, ModelProfiles]:
    """Each model's profiles; models without any are left out."""
    found: dict[str, ModelProfiles] = {}
    for endpoint in sorted(endpoints, key=lambda each: (each.created, each.namespace, each.name), reverse=True):
        parsed = parse(endpoint.config) if endpoint.config and endpoint.model not in found else None
        if parsed is not None:
            found[endpoint.model] = parsed
    return found


@lru_cache(maxsize=1024)
def parse(annotation: str) -> ModelProfiles | None:
    """What an annotation says, or None when it is none."""
    try:
        document = orjson.loads(annotation)
        return _model(document)
    except (ValueError, TypeError):
        return None


def _model(document: Mapping[str, Any]) -> ModelProfiles | None:
    if not isinstance(document, dict):
        return None
    given = document.get("profiles") or {}
    if not isinstance(given, dict) or not 0 < len(given) <= MOST_PROFILES:
        return None
    default = _text(document, "defaultProfile") or DEFAULT_PROFILE
    ordered = sorted(given.items(), key=lambda item: str(item[0]).encode())
    profiles = tuple(_profile(name, body or {}, is_default=name == default) for name, body in ordered)
    return ModelProfiles(_text(document, "lockedRoutingStrategy"), profiles)


def _profile(name: str, body: Any, is_default: bool) -> Profile:
    if not isinstance(body, dict):
        raise TypeError(f"profile {name} is no object")
    rate = _integer(body.get("requestsPerSecond") or 0)
    return Profile(
        name=name,
        strategy=_text(body, "routingStrategy"),
        requests_per_second=min(max(rate, 0), MOST_REQUESTS),
        is_default=is_default,
        hints=_hints(body.get("routingConfig")),
    )


def _hints(config: Any) -> dict[str, int]:
    """The hints for `auto`; none when any of them is no integer."""
    if not isinstance(config, dict):
        return {}
    try:
        return {hint: _integer(config[name]) for hint, name in _HINT_NAMES.items() if config.get(name) is not None}
    except TypeError:
        return {}


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is no string")
    return (value or "").strip()


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 62:
        raise TypeError(f"{value!r} is no integer")
    return value
