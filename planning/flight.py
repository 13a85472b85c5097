"""How far the in-place update of one pod has come: read from the pod alone, so that a lost history loses nothing.

patched ──► container restarts with the new image ──► ready again ──► completed: labels say so, marks are gone
   └── cannot start, or nothing happens, for `DEADLINE` ──► overdue: the pod is replaced
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from crds import labels
from planning.objects import (
    annotations_of,
    condition,
    generation_of,
    is_condition_true,
    labels_of,
    parse_time,
    spec_of,
    status_of,
)

Json = dict[str, Any]

# How long the new image may take to run in every container; loading a model afterwards is not limited.
DEADLINE: Final = timedelta(minutes=10)
POD_NOT_READY: Final = "PodNotReady"
STATUS_MISSING: Final = "ContainerStatusMissing"
CONTAINER_NOT_READY: Final = "ContainerNotReady"
IMAGE_UNCHANGED: Final = "ImageIDUnchanged"
SPEC_NOT_OBSERVED: Final = "SpecNotObserved"


@dataclass(frozen=True, slots=True)
class Flight:
    """An in-place update under way to the template hash `target`.

    `pending` says why it has not come to its end, empty once it has; `noted` is the reason that the pod carries.
    `runs`: every changed container runs the new image. `since` is when the pod was patched.
    """

    target: str
    pending: str = ""
    noted: str = ""
    runs: bool = True
    since: datetime | None = None

    @property
    def overdue_at(self) -> datetime | None:
        """When it counts as failed, unless its containers run by then."""
        return None if self.runs or self.since is None else self.since + DEADLINE


def flight_of(pod: Json) -> Flight | None:
    """None for a pod without an in-place update."""
    noted = annotations_of(pod)
    target = noted.get(labels.IN_PLACE_TARGET_HASH)
    if target is None:
        return None
    return Flight(
        target=target,
        pending=_pending(pod, target),
        noted=noted.get(labels.IN_PLACE_PENDING_REASON, ""),
        runs=_runs(pod),
        since=time_in(noted.get(labels.IN_PLACE_SINCE)),
    )


def _pending(pod: Json, target: str) -> str:
    """Why the pod does not run what `target` stands for yet. The runtime's image names are never compared."""
    before = recorded(pod)
    if not before and labels_of(pod).get(labels.ROLE_TEMPLATE_HASH) == target:
        return ""
    if not containers_ready(pod):
        return POD_NOT_READY
    statuses = _statuses(pod)
    names = [container["name"] for container in spec_of(pod).get("containers") or ()]
    if any(name not in statuses for name in names):
        return STATUS_MISSING
    if not all(statuses[name].get("ready") for name in names):
        return CONTAINER_NOT_READY
    if any(_is_unchanged(entry, statuses.get(name, {})) for name, entry in before.items()):
        return IMAGE_UNCHANGED
    return "" if is_observed(pod) else SPEC_NOT_OBSERVED


def _is_unchanged(entry: Json, status: Json) -> bool:
    """The same image id as before; a restart since proves that the container runs what its spec says all the same."""
    restarts = entry.get("restartCount")
    if isinstance(restarts, int) and int(status.get("restartCount") or 0) > restarts:
        return False
    return bool(entry.get("imageID")) and entry.get("imageID") == status.get("imageID")


def _runs(pod: Json) -> bool:
    statuses = _statuses(pod)
    return is_observed(pod) and all(
        "running" in (statuses.get(name, {}).get("state") or {}) and not _is_unchanged(entry, statuses.get(name, {}))
        for name, entry in recorded(pod).items()
    )


def recorded(pod: Json) -> dict[str, Json]:
    """By container: what its status said before the patch. A mark that cannot be read counts as none."""
    try:
        found = orjson.loads(annotations_of(pod).get(labels.IN_PLACE_STATE, "{}"))
        entries = found.get("lastContainerStatuses") or {}
        return {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
    except (orjson.JSONDecodeError, AttributeError):
        return {}


def state_after(pod: Json, images: Mapping[str, str]) -> str:
    """The mark for a pod whose containers get `images`: what each of them runs at this moment.

    One that goes back to what it still runs, because its node has not acted on an earlier patch, need not restart at
    all: its image id is left out, so nothing is waited for.
    """
    statuses, before = _statuses(pod), recorded(pod)
    live = {container["name"]: container.get("image", "") for container in spec_of(pod).get("containers") or ()}
    entries = dict(before)
    for name, image in images.items():
        status, known = statuses.get(name, {}), before.get(name, {})
        entry = {"imageID": status.get("imageID", ""), "restartCount": int(status.get("restartCount") or 0)}
        same = known.get("restartCount") == entry["restartCount"]
        entry["image"] = known.get("image", live.get(name)) if same else live.get(name)
        entries[name] = {**entry, "imageID": "" if same and entry["image"] == image else entry["imageID"]}
    return orjson.dumps({"lastContainerStatuses": entries}, option=orjson.OPT_SORT_KEYS).decode()


def containers_ready(pod: Json) -> bool:
    """Ready, but for our own gate: that is closed as long as the update is under way."""
    if has_gate(pod) and condition(pod, "ContainersReady"):
        return is_condition_true(pod, "ContainersReady")
    return is_condition_true(pod, labels.READY)


def has_gate(pod: Json) -> bool:
    gates = spec_of(pod).get("readinessGates") or ()
    return any(gate.get("conditionType") == labels.IN_PLACE_READY for gate in gates)


def is_observed(pod: Json) -> bool:
    """Whether the node has seen the pod's spec; taken for granted where it does not say."""
    observed = status_of(pod).get("observedGeneration")
    return observed is None or int(observed) >= generation_of(pod)


def restarts_of(pod: Json) -> int:
    """How often the pod's main containers were restarted."""
    return sum(int(status.get("restartCount") or 0) for status in _statuses(pod).values())


def _statuses(pod: Json) -> dict[str, Json]:
    return {status["name"]: status for status in status_of(pod).get("containerStatuses") or ()}


def time_in(text: str | None) -> datetime | None:
    """The time that an annotation holds; None where it holds none."""
    try:
        return parse_time(text) if text else None
    except ValueError:
        return None
