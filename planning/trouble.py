"""Why a pod is not ready, in one sentence a person can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from planning.objects import condition, name_of, status_of

Json = dict[str, Any]
LONGEST_REASON: Final = 200
# What every pod passes through on its way up.
_ORDINARY_WAITS: Final = frozenset({"ContainerCreating", "PodInitializing", ""})


@dataclass(frozen=True, slots=True)
class Trouble:
    """`stuck`: it will not get better by waiting for a start to end."""

    sentence: str
    stuck: bool


def trouble_of(pod: Json) -> Trouble:
    """What keeps a pod from being ready."""
    name = name_of(pod)
    for status in _container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason", "") not in _ORDINARY_WAITS:
            return Trouble(f"pod {name}: container {status['name']} waits: {_reason(waiting)}", stuck=True)
        ended = (status.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            code = ended["exitCode"]
            return Trouble(f"pod {name}: container {status['name']} ended with exit code {code}", stuck=True)
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return Trouble(f"pod {name} is not scheduled: {_reason(scheduled)}", stuck=True)
    if status_of(pod).get("phase") == "Running":
        return Trouble(f"pod {name} runs and is not ready yet", stuck=False)
    return Trouble(f"pod {name} is starting", stuck=False)


def worst_of(pods: Iterable[Json]) -> Trouble | None:
    """The first stuck one, else the first that is not ready; None without pods."""
    found = [trouble_of(pod) for pod in pods]
    return next((trouble for trouble in found if trouble.stuck), found[0] if found else None)


def first_of(*found: Trouble | None) -> Trouble | None:
    """The first stuck one, else the first; None without any."""
    known = [trouble for trouble in found if trouble is not None]
    return next((trouble for trouble in known if trouble.stuck), known[0] if known else None)


def _container_statuses(pod: Json) -> list[Json]:
    status = status_of(pod)
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _reason(said: Json) -> str:
    reason, message = said.get("reason", ""), said.get("message", "")
    return (f"{reason}: {message}" if message else reason)[:LONGEST_REASON]
