"""Whether an updated pod has generated its first token: noted on the pod itself, tried again when it failed.

The mark is written when a try begins and when it ends, so a lost process or history only costs the rest of that try.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from crds import labels
from planning.backoff import wait_after
from planning.flight import time_in
from planning.objects import annotations_of, format_time

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
