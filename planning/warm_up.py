"""Whether an updated pod has generated its first token: noted on the pod itself, tried again when it failed.

The mark is written when a try begins and when it ends, so a lost process or history only costs the rest of that try.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from crds import labels
from planning import topology
from planning.backoff import wait_after
from planning.flight import time_in
from planning.objects import annotations_of, format_time, labels_of, spec_of
from planning.view import model_of

Json = dict[str, Any]
DEFAULT_TIMEOUT_SECONDS: Final = 60
# A try that has left no result so long after its timeout is taken as lost.
MARGIN: Final = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Warmth:
    """`done`: nothing is left to do; else `tries` were made, the last said `message`, the next begins at `next_at`."""

    done: bool = True
    tries: int = 0
    message: str = ""
    next_at: datetime | None = None


def timeout_of(warm_up: Json) -> timedelta:
    return timedelta(seconds=int(warm_up.get("timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS))


def warmth_of(pod: Json, template_hash: str, warm_up: Json | None) -> Warmth:
    """What the pod's mark says about `template_hash`; another template's mark counts as none."""
    if warm_up is None:
        return Warmth()
    mark = _mark(pod)
    if mark.get("hash") != template_hash:
        return Warmth(done=False)
    if mark.get("state") == "done":
        return Warmth()
    tries, at = int(mark.get("tries") or 0), time_in(str(mark.get("at") or ""))
    pause = timeout_of(warm_up) + MARGIN if mark.get("state") == "running" else wait_after(max(1, tries))
    message = str(mark.get("message") or "")
    return Warmth(done=False, tries=tries, message=message, next_at=at + pause if at is not None else None)


def asked_of(owner: Json, role: str, template_hash: str) -> tuple[Json, str] | None:
    """What pods of `owner` (a RoleSet, or a PodSet of one) have to generate and with which model.

    None when that is no longer asked for, or of another template.
    """
    if owner["kind"] == "PodSet":
        found = group_warm_up(owner)
        is_same = labels_of(owner).get(labels.ROLE_TEMPLATE_HASH) == template_hash
        return (found, model_of([spec_of(owner)])) if found is not None and is_same else None
    spec = next((each for each in spec_of(owner).get("roles") or () if each["name"] == role), None)
    if spec is None or spec.get("warmUp") is None or topology.role_hash(owner, spec) != template_hash:
        return None
    return spec["warmUp"], model_of([spec])


def group_warm_up(podset: Json) -> Json | None:
    """The warm-up that a PodSet's role asks for: its first pod answers for the group."""
    try:
        found = orjson.loads(annotations_of(podset).get(labels.GROUP_WARM_UP, "null"))
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _mark(pod: Json) -> Json:
    try:
        found = orjson.loads(annotations_of(pod).get(labels.WARM_UP, "{}"))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def mark(state: str, template_hash: str, tries: int, now: datetime, message: str = "") -> str:
    """The annotation's value: `state` is running, failed or done."""
    found = {"state": state, "hash": template_hash, "tries": tries, "at": format_time(now)}
    return orjson.dumps(found | ({"message": message[:200]} if message else {})).decode()


def request_of(warm_up: Json, model: str) -> Json:
    """The body that has the engine generate."""
    found = {"prompt": warm_up.get("prompt", "Hello"), "max_tokens": int(warm_up.get("maxTokens") or 1)}
    if (warm_up.get("path") or "").endswith("/chat/completions"):
        found["messages"] = [{"role": "user", "content": found.pop("prompt")}]
    name = warm_up.get("model") or model
    return {**({"model": name} if name else {}), **found, "stream": False}
