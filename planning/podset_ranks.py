"""The pods of one PodSet as its rules see them, each with its place in the group: a rank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from crds import labels
from planning.flight import has_gate
from planning.objects import (
    annotations_of,
    condition,
    in_order,
    is_condition_true,
    is_deleting,
    labels_of,
    name_of,
    parse_time,
    spec_of,
    status_of,
    uid_of,
)
from planning.wire import Target

Json = dict[str, Any]

# A group that fails for the first time starts again at once; from then on each failure doubles the wait.
FIRST_PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Rank:
    """One pod. `ended`: it will never run again; `restarted`: a container of it has ended at least once.

    `failures` counts how often pods of the group had been replaced after a failure when this one was made.
    """

    pod: Json
    index: int | None
    ready: bool
    leaving: bool
    ended: bool
    restarted: bool
    failures: int

    @property
    def name(self) -> str:
        return name_of(self.pod)

    @property
    def target(self) -> Target:
        return Target(name=self.name, uid=uid_of(self.pod))

    @property
    def exact(self) -> Target:
        """A target that a write in between makes stale."""
        version = str(self.pod["metadata"].get("resourceVersion") or "")
        return Target(name=self.name, uid=uid_of(self.pod), resource_version=version)

    @property
    def waits_for_gate(self) -> bool:
        return has_gate(self.pod) and not is_condition_true(self.pod, labels.IN_PLACE_READY)

    @property
    def grace_seconds(self) -> int:
        return int(spec_of(self.pod).get("terminationGracePeriodSeconds", 30))

    def may_be_replaced_at(self) -> datetime:
        """Once it has lived as long as a group has to that failed so often."""
        created = parse_time(self.pod["metadata"]["creationTimestamp"])
        return created + pause_after(self.failures)


def pause_after(failures: int) -> timedelta:
    """0, 10 s, 20 s, 40 s … 5 min: the least life of a pod made after so many failures."""
    return min(FIRST_PAUSE * (1 << min(failures - 1, 16)), LONGEST_PAUSE) if failures else timedelta()


@dataclass(frozen=True)
class Group:
    """All pods of a PodSet, oldest first."""

    size: int
    ranks: Sequence[Rank]
    restart_asked: bool
    active: Sequence[Rank] = field(init=False)
    ended: Sequence[Rank] = field(init=False)
    staying: Sequence[Rank] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "active", [rank for rank in self.ranks if not rank.ended])
        object.__setattr__(self, "ended", [rank for rank in self.ranks if rank.ended and not rank.leaving])
        object.__setattr__(self, "staying", [rank for rank in self.active if not rank.leaving])

    @property
    def ready(self) -> int:
        return sum(rank.ready for rank in self.staying)

    @property
    def missing(self) -> list[int]:
        """Indexes that no pod holds: one that still leaves keeps the name."""
        held = {rank.index for rank in self.ranks}
        return [index for index in range(self.size) if index not in held]

    @property
    def surplus(self) -> list[Rank]:
        """Pods without a place of their own: no index first, then the highest, then the younger of two."""
        found, held = [], set()
        for rank in self.staying:
            if rank.index is None or rank.index >= self.size or rank.index in held:
                found.append(rank)
            else:
                held.add(rank.index)
        return sorted(found, key=lambda rank: -self.size * 1000 if rank.index is None else -rank.index)


def observe(podset: Json, pods: Iterable[Json]) -> Group:
    """The PodSet's group; `restart_asked`: somebody wants pods that are younger than some of these."""
    asked = ((spec_of(podset).get("template") or {}).get("metadata") or {}).get("annotations") or {}
    wanted = asked.get(labels.RESTARTED_AT)
    ordered = in_order(pods)
    stale = wanted is not None and any(
        annotations_of(pod).get(labels.RESTARTED_AT) != wanted for pod in ordered if not is_deleting(pod)
    )
    return Group(int(spec_of(podset)["podGroupSize"]), [_rank(pod) for pod in ordered], stale)


def failed_ranks(podset: Json, group: Group, *, recreates: bool) -> list[Rank]:
    """Pods that have ended, and where the group lives as one those that have restarted.

    A group that came up in spite of a restart is well: only what restarts after it was ready has failed.
    """
    ready = condition(podset, labels.READY)
    is_whole = group.ready == group.size
    ready_at = parse_time(ready["lastTransitionTime"]) if ready.get("status") == "True" else None

    def has_failed(rank: Rank) -> bool:
        if rank.ended:
            return True
        if not recreates or not rank.restarted:
            return False
        if not is_whole:
            return True
        last = _last_end(rank.pod)
        return ready_at is not None and (last is None or last > ready_at)

    return [rank for rank in group.ranks if not rank.leaving and has_failed(rank)]


def _last_end(pod: Json) -> datetime | None:
    """When a container of the pod ended last, as far as the pod tells."""
    states = [each.get("lastState") or {} for each in status_of(pod).get("containerStatuses") or ()]
    ends = [(state.get("terminated") or {}).get("finishedAt") for state in states]
    return max((parse_time(end) for end in ends if end), default=None)


def _rank(pod: Json) -> Rank:
    status = status_of(pod)
    leaving = is_deleting(pod)
    ended = status.get("phase") in ("Succeeded", "Failed")
    return Rank(
        pod=pod,
        index=_number(labels_of(pod).get(labels.POD_GROUP_INDEX)),
        ready=not ended and not leaving and is_condition_true(pod, labels.READY),
        leaving=leaving,
        ended=ended,
        restarted=any(each.get("restartCount") for each in status.get("containerStatuses") or ()),
        failures=_number(annotations_of(pod).get(labels.GROUP_RESTARTS)) or 0,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
