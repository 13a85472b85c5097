"""Why a pod is not ready, in one sentence a person can act on; and in one word that a metric can count."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from planning.objects import condition, deletion_time, name_of, status_of

Json = dict[str, Any]
LONGEST_REASON: Final = 200
LONGEST_MESSAGE: Final = 300
# What every pod passes through on its way up.
_ORDINARY_WAITS: Final = frozenset({"ContainerCreating", "PodInitializing", ""})
_CLASSES: Final = (
    ("image", re.compile(r"waits: (ErrImage|ImagePull|InvalidImageName|ImageInspect|RegistryUnavailable)")),
    ("configuration", re.compile(r"waits: (CreateContainer|RunContainerError|InvalidConfig)")),
    ("crash", re.compile(r"waits: CrashLoopBackOff|ended with exit code|was ended by signal|has failed")),
    ("scheduling", re.compile(r"is not scheduled")),
    ("leaving", re.compile(r"does not go")),
    ("quota", re.compile(r"quota", re.IGNORECASE)),
    ("name-conflict", re.compile(r"is not ours|already exists|belongs to|NameConflict", re.IGNORECASE)),
    ("refused", re.compile(r"^(create|update|delete|apply|renumber|add|release)-")),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """`stuck`: it will not get better by waiting for a start to end."""

    sentence: str
    stuck: bool


def trouble_of(pod: Json) -> Trouble:
    """What keeps a pod from being ready, with the container's own message where it left one."""
    name = name_of(pod)
    for status in _container_statuses(pod):
        if said := _container_trouble(status):
            return Trouble(f"pod {name}: container {status['name']} {said}", stuck=True)
    found = status_of(pod)
    if found.get("phase") == "Failed":
        return Trouble(f"pod {name} has failed: {_reason(found) or 'no reason given'}", stuck=True)
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return Trouble(f"pod {name} is not scheduled: {_reason(scheduled)}", stuck=True)
    if found.get("phase") == "Running":
        return Trouble(f"pod {name} runs and is not ready yet", stuck=False)
    return Trouble(f"pod {name} is starting", stuck=False)


def _container_trouble(status: Json) -> str:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    if waiting.get("reason", "") not in _ORDINARY_WAITS:
        last = _ending((status.get("lastState") or {}).get("terminated") or {})
        return f"waits: {_reason(waiting)}{f'; its last run {last}' if last else ''}"
    return _ending(state.get("terminated") or {})


def _ending(ended: Json) -> str:
    """How a container ended, when it did not end well."""
    if ended.get("signal"):
        how = f"was ended by signal {ended['signal']}"
    elif ended.get("exitCode"):
        how = f"ended with exit code {ended['exitCode']}"
    else:
        return ""
    reason = ended.get("reason", "")
    why = f" ({reason})" if reason and reason != "Error" else ""
    message = " ".join(str(ended.get("message") or "").split())[-LONGEST_MESSAGE:]
    return f"{how}{why}{f': {message}' if message else ''}"


def worst_of(pods: Iterable[Json]) -> Trouble | None:
    """The first stuck one, else the first that is not ready; None without pods."""
    found = [trouble_of(pod) for pod in pods]
    return next((trouble for trouble in found if trouble.stuck), found[0] if found else None)


def first_of(*found: Trouble | None) -> Trouble | None:
    """The first stuck one, else the first; None without any."""
    known = [trouble for trouble in found if trouble is not None]
    return next((trouble for trouble in known if trouble.stuck), known[0] if known else None)


def leaving_trouble(pod: Json, now: datetime) -> str:
    """What keeps a pod that is being deleted; empty while its grace period lasts."""
    until = deletion_time(pod)
    if until is None or now < until:
        return ""
    finalizers = pod["metadata"].get("finalizers") or ()
    if finalizers:
        return f"pod {name_of(pod)} does not go: finalizer {', '.join(finalizers)} holds it"
    node = (pod.get("spec") or {}).get("nodeName")
    where = f"its node {node} has not confirmed the end" if node else "nothing has removed it"
    return f"pod {name_of(pod)} does not go: {where}"


def blocked_class(sentence: str) -> str:
    """One of a few words for what blocks, `other` when none fits, empty for an empty sentence."""
    if not sentence:
        return ""
    return next((word for word, pattern in _CLASSES if pattern.search(sentence)), "other")


def _container_statuses(pod: Json) -> list[Json]:
    status = status_of(pod)
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _reason(said: Json) -> str:
    reason, message = said.get("reason", ""), said.get("message", "")
    return (f"{reason}: {message}" if message else reason)[:LONGEST_REASON]
