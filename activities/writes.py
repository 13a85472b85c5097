"""Writes that stay single when their activity runs twice: create by a fixed name, delete by uid, slow start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from activities.errors import KubeAmbiguous, KubeError, KubeExists, KubeNotFound
from activities.fences import Fence, StaleStep, StepRefused
from activities.kube import KubeClient
from activities.store import Cache, controller_of, object_version
from crds import labels
from planning.planner import Json, Resource
from planning.wire import Decision, ObjectVersion, Ref, Target

CREATE_SECONDS = 15.0
PAUSE_SECONDS = 0.5

Item = TypeVar("Item")


@dataclass(slots=True)
class StepContext:
    """What one step works with. `written` grows as writes succeed, also when the step fails later.

    `key` names the decision (run and number) and stands as an annotation on whatever it creates; `first_index` is where
    this step's names start within the decision. `told` are Events (type, reason, message) about what was done.
    """

    client: KubeClient
    cache: Cache
    ref: Ref
    decision: Decision
    fence: Fence
    run_id: str
    number: int
    first_index: int
    made: dict[tuple[str, str], Json] = field(default_factory=dict)
    written: list[ObjectVersion] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.run_id}-{self.number}"

    def wrote(self, obj: Json, resource: Resource) -> None:
        self.written.append(object_version(obj, resource.alias or resource.kind))
        if store := self.cache.stores.get(resource.key):
            store.put_own(obj)

    def deleted(self, target: Target, resource: Resource) -> None:
        kind = resource.alias or resource.kind
        self.written.append(ObjectVersion(kind=kind, name=target.name, uid=target.uid, deleted=True))


async def create(context: StepContext, resource: Resource, body: Json) -> Json:
    """Create `body` exactly once, however often this runs.

    An existing object is success only if it has our controller's uid and this decision's annotation and is not
    terminating. Raises StaleStep for one of ours from another decision or one that keeps terminating, StepRefused for a
    stranger's, KubeAmbiguous when nobody knows: then the activity runs again under the same name.
    """
    body["metadata"].setdefault("annotations", {})[labels.DECISION] = context.key
    ends = time.monotonic() + CREATE_SECONDS
    while True:
        context.fence.in_time()
        live = await _create_once(context, resource, body, ends)
        if live is not None:
            context.wrote(live, resource)
            return live
        await asyncio.sleep(PAUSE_SECONDS)


async def _create_once(context: StepContext, resource: Resource, body: Json, ends: float) -> Json | None:
    """The created or adopted object; None to try again."""
    namespace, name = context.ref.namespace, body["metadata"]["name"]
    late = time.monotonic() >= ends
    try:
        return await context.client.create(resource, namespace, body)
    except KubeAmbiguous:
        if late:
            raise
        return None
    except KubeExists:
        try:
            live = await context.client.get(resource, namespace, name)
        except KubeNotFound:
            return None
    return _adopted(context, resource, live, late)


def _adopted(context: StepContext, resource: Resource, live: Json, late: bool) -> Json | None:
    metadata = live["metadata"]
    what = f"{resource.kind} {metadata['name']}"
    if controller_of(live) != context.ref.uid:
        raise StepRefused("name-conflict", f"{what} exists and belongs to somebody else")
    if "deletionTimestamp" in metadata:
        if late:
            raise StaleStep(f"{what} is still terminating")
        return None
    if (metadata.get("annotations") or {}).get(labels.DECISION) != context.key:
        raise StaleStep(f"{what} exists already, made by another decision")
    return live


async def delete(context: StepContext, resource: Resource, target: Target, grace_seconds: int = 0) -> None:
    """Delete exactly the target, in its version where it names one; one that is gone already is a success."""
    name, version = target.name, target.resource_version
    with suppress(KubeNotFound):
        await context.client.delete(resource, context.ref.namespace, name, target.uid, version, grace_seconds)
    context.deleted(target, resource)


async def slow_start(
    items: Sequence[Item],
    act: Callable[[Item], Awaitable[Any]],
    *,
    first: int = 1,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Run `act` for every item in parallel batches of `first`, twice that, and so on; a failed batch is the last.

    Raises one of the errors; one that leaves the result open comes before all others, so that the caller tries again.
    """
    done, size = 0, first
    while done < len(items):
        before()
        results = await asyncio.gather(*(act(item) for item in items[done : done + size]), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise min(errors, key=_openness)
        done, size = done + size, size * 2


def _openness(error: BaseException) -> int:
    if not isinstance(error, (KubeError, StaleStep, StepRefused)):
        return 0
    return 1 if isinstance(error, KubeAmbiguous) else 2
