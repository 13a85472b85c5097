"""Warm pods: which models are bound to one, and the policy of its pool. Both are JSON in annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from crds import labels

BINDING_PREFIX: Final = "modelclaim.aibrix.ai/"
KV_FIRST: Final = "kv-first"
_ALLOWED: Final = {
    "": {"reclaim", "lifecycle"},
    "reclaim": {"mode", "capacityBytes", "guaranteedFloorPercent"},
    "lifecycle": {"sleepAfterSeconds"},
}


class State(Enum):
    ACTIVE = "active"
    ACTIVATING = "activating"
    SLEEPING = "sleeping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Binding:
    """One model on a warm pod; without a port it is known and not yet routed to."""

    claim: str
    model: str
    port: int
    state: State


def bindings(annotations: Mapping[str, str]) -> list[Binding]:
    """What the pod's annotations bind to it, by claim; an entry that cannot be is left out."""
    found = []
    for key, value in sorted(annotations.items()):
        if key.startswith(BINDING_PREFIX) and (binding := _binding(key.removeprefix(BINDING_PREFIX), value)):
            found.append(binding)
    return found


def _binding(claim: str, text: str) -> Binding | None:
    entry = _parsed(text)
    if not isinstance(entry, dict):
        return None
    model, port = entry.get("model"), entry.get("port", 0)
    if not model or not isinstance(model, str) or not _is_int(port) or not 0 <= port <= 65535:
        return None
    named = entry.get("state") or (State.ACTIVE if port else State.ACTIVATING).value
    if named not in {state.value for state in State}:
        return None
    state = State(named)
    return Binding(claim, model, port, state) if (state is State.ACTIVE) == (port > 0) else None


class PolicyFault(Enum):
    """Why a pool's policy is not taken."""

    INVALID_JSON = "invalid_json"
    UNKNOWN_FIELD = "unknown_field"
    UNSUPPORTED_MODE = "unsupported_mode"
    INVALID_CAPACITY = "invalid_capacity"
    INVALID_FLOOR = "invalid_floor"
    INVALID_SLEEP_WINDOW = "invalid_sleep_window"


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """None means that the annotation says nothing."""

    mode: str = KV_FIRST
    capacity_bytes: int | None = None
    floor_percent: int | None = None
    sleep_after_seconds: int | None = None


def pool_policy(annotations: Mapping[str, str]) -> PoolPolicy | PolicyFault | None:
    """The policy, what is wrong with it, or None when there is none."""
    text = annotations.get(labels.POOL_POLICY)
    if text is None:
        return None
    whole = _parsed(text)
    if not isinstance(whole, dict):
        return PolicyFault.INVALID_JSON
    reclaim, lifecycle = whole.get("reclaim", {}), whole.get("lifecycle", {})
    if not isinstance(reclaim, dict) or not isinstance(lifecycle, dict):
        return PolicyFault.INVALID_JSON
    if any(set(part) - _ALLOWED[name] for name, part in (("", whole), ("reclaim", reclaim), ("lifecycle", lifecycle))):
        return PolicyFault.UNKNOWN_FIELD
    policy = PoolPolicy(
        reclaim.get("mode") or KV_FIRST, reclaim.get("capacityBytes"), reclaim.get("guaranteedFloorPercent"),
        lifecycle.get("sleepAfterSeconds"),
    )  # fmt: skip
    return _fault(policy) or policy


def _fault(policy: PoolPolicy) -> PolicyFault | None:
    if policy.mode != KV_FIRST:
        return PolicyFault.UNSUPPORTED_MODE
    if policy.capacity_bytes is not None and not (_is_int(policy.capacity_bytes) and policy.capacity_bytes > 0):
        return PolicyFault.INVALID_CAPACITY
    if policy.floor_percent is not None and not (_is_int(policy.floor_percent) and 0 <= policy.floor_percent <= 100):
        return PolicyFault.INVALID_FLOOR
    sleep = policy.sleep_after_seconds
    return PolicyFault.INVALID_SLEEP_WINDOW if sleep is not None and not (_is_int(sleep) and sleep > 0) else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
