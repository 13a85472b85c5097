"""Sees to it that every object has its workflow: on arrival, after the first list, and whenever nobody looks after it.

It keeps no memory of what it started and never asks visibility: starting is idempotent (a running workflow is kept).
An object that no poll and no step has touched for a minute is started again; one whose workflow runs all the same, yet
cannot make progress because its task keeps failing, is terminated first. Nothing is lost by that: a fresh workflow
adopts what exists.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.messages import Answer, ObjectState
from activities.metrics import Metrics
from activities.polls import Polls
from activities.store import Cache
from activities.wording import cut_bytes, object_details
from planning.planner import Json, Planner
from planning.wire import Ref
from workflows.object import ObjectWorkflow
from workflows.shown import OBJECT_KIND, OBJECT_NAMESPACE, start_attributes
from workflows.timing import WORKFLOW_TASK_LIFE, WORKFLOWS_QUEUE

log = logging.getLogger(__name__)

STARTS_AT_ONCE = 10
UNTENDED_SECONDS = 60.0
NEW_UNTENDED_SECONDS = 8.0
"""A new object that nobody has looked after for so long took the name of one whose workflow was just about to close."""
LOST_SECONDS = 4.0
"""An object that needs something and has had no poll for so long lost it with the process before this one."""
WAKE_AGAIN_SECONDS = 15.0
SWEEP_SECONDS = 5.0
JAMMED_ATTEMPTS = 5
"""Attempts of one workflow task after which it is taken to fail for ever; they are about two minutes apart in all."""
RETRY_SECONDS = 2.0


class Starter:
    """Starts workflows until cancelled.

    `opening` makes the first decision about a new object, which goes along with the start. `searchable`: search
    attributes may be given; `set_up` registers them anew when a start is refused, and answers whether they may.
    `needs` tells whether an object has something to be done.
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        planners: Mapping[str, Planner],
        polls: Polls,
        metrics: Metrics,
        opening: Callable[[Ref], Answer | None] = lambda _: None,
        set_up: Callable[[], Awaitable[bool]] | None = None,
        needs: Callable[[Ref], bool] = lambda _: False,
    ) -> None:
        self._client = client
        self._cache = cache
        self._planners = planners
        self._polls = polls
        self._metrics = metrics
        self._opening = opening
        self._set_up = set_up
        self._needs = needs
        self._inherited: set[str] = set()
        self._woken: dict[str, float] = {}
        self._queue: asyncio.Queue[Ref] = asyncio.Queue()
        self._queued: set[str] = set()
        self._new: dict[str, float] = {}
        self._began = time.monotonic()
        self.searchable = False

    async def run(self) -> None:
        self._began = time.monotonic()
        for kind in self._planners:
            store = self._cache.stores[kind]
            store.added = self._arrived
            for ref in map(ref_of, store.objects()):
                self._inherited.add(ref.uid)
                self._enqueue(ref)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sweep())
                for _ in range(STARTS_AT_ONCE):
                    tasks.create_task(self._work())
        finally:
            for kind in self._planners:
                self._cache.stores[kind].added = None

    def _arrived(self, obj: Json) -> None:
        ref = ref_of(obj)
        self._new[ref.uid] = time.monotonic()
        self._enqueue(ref)

    def _enqueue(self, ref: Ref) -> None:
        if ref.uid not in self._queued:
            self._queued.add(ref.uid)
            self._queue.put_nowait(ref)

    async def _work(self) -> None:
        while True:
            ref = await self._queue.get()
            try:
                await self._start(ref)
            except (RPCError, RuntimeError) as error:
                self._metrics.starts.labels("failed").inc()
                log.warning("start-failed object=%s error=%s", ref.workflow_id, error)
                await self._prepare_again(error)
                await asyncio.sleep(RETRY_SECONDS)
                self._queue.put_nowait(ref)
            else:
                self._queued.discard(ref.uid)

    async def _prepare_again(self, error: Exception) -> None:
        """A refused start may mean that Temporal has lost its database, and with it the search attributes."""
        if self._set_up is not None and isinstance(error, RPCError) and error.status == RPCStatusCode.INVALID_ARGUMENT:
            self.searchable = await self._set_up()

    async def _start(self, ref: Ref) -> None:
        opening = self._opening(ref)
        pairs = [SearchAttributePair(OBJECT_KIND, ref.kind), SearchAttributePair(OBJECT_NAMESPACE, ref.namespace)]
        named = TypedSearchAttributes(pairs if self.searchable else [])
        await self._client.start_workflow(
            ObjectWorkflow.run,
            ObjectState.of(ref, opening=opening),
            id=ref.workflow_id,
            task_queue=WORKFLOWS_QUEUE,
            task_timeout=WORKFLOW_TASK_LIFE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=start_attributes(ref, opening) if opening is not None else named,
            static_summary=cut_bytes(f"{ref.kind} {ref.namespace}/{ref.name}"),
            static_details=object_details(ref),
            request_eager_start=True,
        )
        self._metrics.starts.labels("asked").inc()

    async def _sweep(self) -> None:
        """Every few seconds: whoever has not been looked after for a minute is started again."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            refs = [ref_of(obj) for kind in self._planners for obj in self._cache.stores[kind].objects()]
            self._polls.keep_only({ref.uid for ref in refs})
            self._start_overlooked(refs)
            await self._wake_lost(refs)
            for ref in refs:
                if self._polls.untended_seconds(ref.uid, self._began) > UNTENDED_SECONDS:
                    await self._rescue(ref)

    async def _wake_lost(self, refs: Sequence[Ref]) -> None:
        """After a takeover: polls of settled objects go unnoticed for a minute, so those in need are woken."""
        clock = time.monotonic()
        self._woken = {uid: at for uid, at in self._woken.items() if clock - at < WAKE_AGAIN_SECONDS}
        if clock - self._began < LOST_SECONDS:
            return
        self._inherited = {uid for uid in self._inherited if not self._polls.was_tended(uid)}
        for ref in refs:
            if ref.uid not in self._inherited or ref.uid in self._woken or not self._needs(ref):
                continue
            self._woken[ref.uid] = clock
            log.info("poll-lost object=%s", ref.workflow_id)
            try:
                await self._client.get_workflow_handle(ref.workflow_id).signal(ObjectWorkflow.look)
            except RPCError as error:
                log.info("not-woken object=%s error=%s", ref.workflow_id, error)

    def _start_overlooked(self, refs: Sequence[Ref]) -> None:
        """Ask again for objects that are new and were never looked after; forget those that were."""
        clock, refs_by_uid = time.monotonic(), {ref.uid: ref for ref in refs}
        for uid, since in list(self._new.items()):
            if uid not in refs_by_uid or self._polls.was_tended(uid):
                del self._new[uid]
            elif clock - since > NEW_UNTENDED_SECONDS:
                self._new[uid] = clock
                self._enqueue(refs_by_uid[uid])

    async def _rescue(self, ref: Ref) -> None:
        log.info("untended object=%s", ref.workflow_id)
        self._polls.touch(ref.uid)
        try:
            await self._end_if_jammed(ref)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                log.warning("rescue-failed object=%s error=%s", ref.workflow_id, error)
        self._enqueue(ref)

    async def _end_if_jammed(self, ref: Ref) -> None:
        """Terminate the object's workflow, or the rollout it waits for, when its task fails again and again."""
        found = await self._client.get_workflow_handle(ref.workflow_id).describe()
        children = [child.workflow_id for child in found.raw_description.pending_children]
        for child in children:
            handle = self._client.get_workflow_handle(child)
            if is_jammed(await handle.describe()):
                log.error("jammed workflow=%s", child)
                await handle.terminate(reason="its task failed again and again: the object's workflow goes on")
        if is_jammed(found):
            log.error("jammed workflow=%s", ref.workflow_id)
            handle = self._client.get_workflow_handle(ref.workflow_id, run_id=found.run_id)
            await handle.terminate(reason="its task failed again and again: a fresh one adopts what exists")


def is_jammed(found: WorkflowExecutionDescription) -> bool:
    """True when the pending workflow task has failed many times and no activity is under way."""
    raw = found.raw_description
    busy = any(
        pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED for pending in raw.pending_activities
    )
    return raw.HasField("pending_workflow_task") and raw.pending_workflow_task.attempt >= JAMMED_ATTEMPTS and not busy


def ref_of(obj: Json) -> Ref:
    metadata = obj["metadata"]
    return Ref(kind=obj["kind"].lower(), namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
