"""How far a rollout is, for `rollout status`: read from the object and its pods, so that no operator is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from crds import labels
from planning.fleet import desired_replicas as desired_rolesets
from planning.objects import (
    condition,
    is_condition_true,
    is_deleting,
    labels_of,
    name_of,
    observes_its_generation,
    spec_of,
    status_of,
)
from planning.render import desired_replicas, live_replicas
from planning.trouble import trouble_of
from planning.view import counted
from planning.wire import Wire

Json = dict[str, Any]


class Count(Wire):
    """A role, or the RoleSets: how many are wanted, ready, and both ready and up to date."""

    name: str
    desired: int = 0
    ready: int = 0
    updated: int = 0
    blocked: str = ""


class Progress(Wire):
    """`done`: rolled out and ready; `failed`: out of time, `verdict` says why. `message` is the line for people."""

    object: str
    revision: str = ""
    done: bool = False
    failed: bool = False
    paused: bool = False
    message: str = ""
    blocked: str = ""
    verdict: str = ""
    rolesets: Count | None = None
    roles: list[Count] = Field(default_factory=list)


def progress(live: Json, pods: Iterable[Json] = ()) -> Progress:
    """Of a StormService, RoleSet or PodSet, with those of its pods that exist."""
    blocked = _blocked_roles(pods)
    match live["kind"]:
        case "StormService":
            return _of_storm(live, blocked)
        case "RoleSet":
            return _of_roleset(live, blocked)
    return _of_podset(live, blocked)


def _blocked_roles(pods: Iterable[Json]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pod in pods:
        if is_deleting(pod) or is_condition_true(pod, labels.READY):
            continue
        trouble = trouble_of(pod)
        if trouble.stuck:
            found.setdefault(labels_of(pod).get(labels.ROLE_NAME, ""), trouble.sentence)
    return found


def _first(blocked: dict[str, str], live: Json) -> str:
    """A pod's trouble, else what the object's own conditions say."""
    for said in blocked.values():
        return said
    failure = condition(live, labels.REPLICA_FAILURE)
    return str(failure.get("message", "")) if failure.get("status") == "True" else ""


def _roles(live: Json, wanted: dict[str, int], blocked: dict[str, str], key: str) -> list[Count]:
    shown = {role.get("name"): role for role in status_of(live).get(key) or ()}
    return [
        Count(
            name=name,
            desired=count,
            ready=int(shown.get(name, {}).get("readyReplicas") or 0),
            updated=int(shown.get(name, {}).get("updatedReadyReplicas") or 0),
            blocked=blocked.get(name, ""),
        )
        for name, count in wanted.items()
    ]


def _of_storm(live: Json, blocked: dict[str, str]) -> Progress:
    status, target = status_of(live), desired_rolesets(live)
    update = str(status.get("updateRevision") or "")
    rolesets = Count(
        name="RoleSets",
        desired=target,
        ready=int(status.get("readyReplicas") or 0),
        updated=int(status.get("updatedReadyReplicas") or 0),
    )
    seen = bool(status) and observes_its_generation(live)
    completed = bool(update) and status.get("completedRevision") == update
    reason = condition(live, labels.PROGRESSING).get("reason")
    failed = reason == labels.REASON_DEADLINE or (bool(update) and status.get("failedRevision") == update)
    found = Progress(
        object=f"stormservice/{name_of(live)}",
        revision=update,
        done=seen and completed and not failed and is_condition_true(live, labels.READY),
        failed=seen and failed,
        paused=bool(spec_of(live).get("paused")) and not completed,
        blocked=_first(blocked, live),
        verdict=str(condition(live, labels.PROGRESSING).get("message", "")) if reason == labels.REASON_DEADLINE else "",
        rolesets=rolesets,
        roles=_roles(live, {name: n * target for name, n in live_replicas(live).items()}, blocked, "roleStatuses"),
    )
    return found.model_copy(update={"message": _message(found, rolesets, "RoleSet", seen=seen)})


def _message(found: Progress, count: Count, noun: str, *, seen: bool) -> str:
    name = found.object
    if not seen:
        return f"{name}: waiting for the operator to observe the newest spec"
    if found.done:
        return f"{name} successfully rolled out"
    done = f"{count.updated} of {counted(count.desired, noun)} updated and ready"
    told = not found.blocked or found.blocked in found.verdict
    blocked = "" if told else f"; blocked: {found.blocked}"
    if found.failed:
        return f"{name} exceeded its progress deadline: {found.verdict or done}{blocked}"
    if found.paused:
        return f"{name} is paused: {done}; resume it with `brixflow rollout resume {name}`"
    return f"{name}: {done}{blocked}"


def _of_roleset(live: Json, blocked: dict[str, str]) -> Progress:
    wanted = {role["name"]: desired_replicas(role) for role in spec_of(live).get("roles") or ()}
    roles = _roles(live, wanted, blocked, "roles")
    seen = bool(status_of(live)) and observes_its_generation(live)
    updated = all(role.updated >= role.desired for role in roles)
    found = Progress(
        object=f"roleset/{name_of(live)}",
        done=seen and updated and is_condition_true(live, labels.READY),
        blocked=_first(blocked, live),
        roles=roles,
    )
    return found.model_copy(update={"message": _message(found, _total(roles), "pod", seen=seen)})


def _total(roles: Sequence[Count]) -> Count:
    return Count(name="", desired=sum(r.desired for r in roles), updated=sum(min(r.updated, r.desired) for r in roles))


def _of_podset(live: Json, blocked: dict[str, str]) -> Progress:
    status, size = status_of(live), int(spec_of(live).get("podGroupSize") or 0)
    ready = int(status.get("readyPods") or 0)
    seen = bool(status) and observes_its_generation(live)
    role = Count(name="pods", desired=size, ready=ready, updated=ready, blocked=next(iter(blocked.values()), ""))
    found = Progress(
        object=f"podset/{name_of(live)}",
        done=seen and ready >= size and status.get("phase") in (None, "Ready"),
        blocked=role.blocked,
        roles=[role],
    )
    return found.model_copy(update={"message": _message(found, role, "pod", seen=seen)})
