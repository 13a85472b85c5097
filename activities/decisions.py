"""`next_decision`: the long poll behind every object's workflow.

    wait until our own writes are seen ─► plan ─► write status, emit events ─► something to do? return
             ▲                                                                        │ no
             └────────────── a change, `wake_at`, or the resync ◄─────────────────────┘

It returns when the world must change, when the object is gone for certain, or when what a person sees has changed.
Everything else costs no history: a quiet cluster adds nothing, nor does a noisy pod.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.blocked import BlockedClock, BlockedNews
from activities.errors import KubeError, KubeNotFound
from activities.events import EventRecorder
from activities.kube import KubeClient
from activities.messages import NEXT_DECISION, Answer, DecisionRequest
from activities.metrics import Metrics
from activities.polls import Poll, Polls
from activities.status import StatusWriter, same_status
from activities.store import Cache, Store
from activities.wording import STEP_EVENTS
from crds import labels
from planning import news
from planning.objects import parse_time
from planning.planner import Json, Plan, Planner, World
from planning.wire import CloseObject, CloseRollout, Decision, ObjectVersion, Ref, StartRollout, View

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.02
ROLLOUT_SETTLE_SECONDS = 0.1
"""Changes that come within this time of each other are planned for together. In a rollout each decision stands in the
history that people read: RoleSets that become ready one after another take one decision."""
VIEW_STABLE_SECONDS = 5.0
VIEW_SPREAD_SECONDS = 0.1
"""Added to the time above for each object whose view waits: a burst of changes is shown after it, not in its midst."""
STATUS_LEFT_SECONDS = 5.0
"""How long the status may be left to the pass that follows the steps: steps in a row must not hide it for ever."""
YOUNG = timedelta(minutes=1)
"""An object is new for that long: its first decision may come with its workflow's start."""
VIEW_INTERVAL = timedelta(minutes=1)
READ_LIVE_AFTER_SECONDS = 10.0
RESYNC_SECONDS = 600.0
PLANNER_ERROR_SECONDS = 15.0
GONE_RETRY_SECONDS = 2.0
HEARTBEATS_PER_TIMEOUT = 2.5


class PollEnded(ApplicationError):  # noqa: N818 - it ends, nothing went wrong
    """The poll was replaced or the process stops: Temporal starts it again, elsewhere if need be."""

    def __init__(self, why: str) -> None:
        super().__init__(why, type="PollEnded", category=ApplicationErrorCategory.BENIGN)


@dataclass(slots=True)
class Watched:
    """What one poll remembers between passes: the view that waits to become stable, the events of the last pass, and
    how what blocks is counted."""

    blocked: BlockedClock
    view: View | None = None
    view_since: float = 0.0
    events: frozenset[tuple[str, str, str]] = frozenset()


class Decisions:
    """The activity `next_decision` and what it works with. `searchable`: search attributes are registered."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        planners: Mapping[str, Planner],
        recorder: EventRecorder,
        metrics: Metrics,
        polls: Polls,
    ) -> None:
        self._client = client
        self._cache = cache
        self._planners = planners
        self._recorder = recorder
        self._metrics = metrics
        self._polls = polls
        self._status = StatusWriter(client, metrics)
        self._status_left: dict[str, float] = {}
        self._blocked = BlockedNews()
        self._unshown: set[tuple[str, str | None]] = set()
        self.searchable = False

    @activity.defn(name=NEXT_DECISION)
    async def next_decision(self, request: DecisionRequest) -> Answer:
        """Return the next decision about the object; raise PollEnded when another poll takes over."""
        ref = request.ref
        with self._polls.open(ref, request.rollout) as poll, self._metrics.polls.labels(ref.kind).track_inprogress():
            poll.beat_at = time.monotonic() + heartbeat_seconds()
            await self._own_writes_seen(poll, request)
            try:
                decision = await self._until_decided(poll, request)
            finally:
                self._unshown.discard((ref.uid, request.rollout))
        return self._answer(request, decision)

    def opening(self, ref: Ref) -> Answer | None:
        """The first decision about a new object, for the argument of its workflow; None where only a poll may decide.

        New means young and without children: nobody has acted for it, so there are no writes that the cache lacks.
        """
        live, owns = self._live(ref), self._planners[ref.kind].owns
        if live is None or not _is_young(live) or any(self._cache.children(ref.uid, owns).values()):
            return None
        request = DecisionRequest(ref=ref)
        found = self._first(request, live)
        return self._answer(request, found) if found is not None else None

    def needs(self, ref: Ref) -> bool:
        """Whether a poll about the object would act: steps to take, or a status to write."""
        live = self._live(ref)
        plan = self._plan(self._planners[ref.kind], DecisionRequest(ref=ref), live) if live is not None else None
        if plan is None or live is None:
            return False
        acts = plan.decision is not None and bool(plan.decision.steps)
        return acts or (plan.status is not None and not same_status(live.get("status") or {}, plan.status))

    def _first(self, request: DecisionRequest, live: Json) -> Decision | None:
        plan = self._plan(self._planners[request.ref.kind], request, live)
        if plan is None or plan.decision is None or not plan.decision.steps or closes(plan.decision):
            return None
        return self._signed(plan.decision, plan, live)

    def _answer(self, request: DecisionRequest, decision: Decision) -> Answer:
        """The decision as the workflow gets it, with that of the rollout which it starts."""
        self._count(request, decision)
        opening, live = None, self._live(request.ref)
        self._announce(request, live, decision)
        starting = next((step for step in decision.steps if isinstance(step, StartRollout)), None)
        if starting is not None and live is not None:
            child = DecisionRequest(ref=request.ref, rollout=starting.revision)
            found = self._first(child, live)
            opening = self._answer(child, found) if found is not None else None
        kept = {name: getattr(decision, name) for name in Decision.model_fields}
        return Answer(**kept, searchable=self.searchable, opening=opening)

    async def _until_decided(self, poll: Poll, request: DecisionRequest) -> Decision:
        with BlockedClock(self._metrics, request.ref.kind) as blocked:
            watched = Watched(blocked)
            while True:
                poll.changed.clear()
                self._still_ours(poll)
                live = self._live(request.ref)
                if live is None:
                    decision, pause = await self._perhaps_gone(request)
                else:
                    decision, pause = await self._pass(request, live, watched)
                if decision is not None:
                    self._still_ours(poll)
                    return decision
                settle = SETTLE_SECONDS if request.rollout is None else ROLLOUT_SETTLE_SECONDS
                await self._wait(poll, pause, settle, blocked.tick)

    def _still_ours(self, poll: Poll) -> None:
        if poll.over:
            raise PollEnded("the operator stops" if self._polls.closed else "a newer poll took over")

    # --- one pass ---------------------------------------------------------------------------------------------------

    async def _pass(self, request: DecisionRequest, live: Json, watched: Watched) -> tuple[Decision | None, float]:
        """A decision, or None and the seconds after which to look again without a change."""
        planner = self._planners[request.ref.kind]
        plan = self._plan(planner, request, live)
        if plan is None:
            return None, PLANNER_ERROR_SECONDS
        blocked_again = self._tell_blocked(request, live, plan, watched)
        acts = plan.decision is not None and bool(plan.decision.steps)
        written = RESYNC_SECONDS
        if not self._leaves_status(request, plan):
            written = await self._write_status(request, live, plan)
            self._emit(request, live, plan, watched)
        if plan.decision is not None and acts:
            return self._signed(plan.decision, plan, live), 0.0
        view, pause = self._view_change(request, plan, live, watched)
        return view, min(pause, _until(plan), written, blocked_again)

    def _tell_blocked(self, request: DecisionRequest, live: Json, plan: Plan, watched: Watched) -> float:
        """Count and tell what blocks; the seconds after which to look again."""
        watched.blocked.turn(plan.view.blocked)
        tell, again = self._blocked.look(request.ref.uid, plan.view.blocked, time.monotonic())
        if tell:
            self._recorder.record(live, "Warning", labels.EVENT_BLOCKED, plan.view.blocked)
        return again

    def _plan(self, planner: Planner, request: DecisionRequest, live: Json | None) -> Plan | None:
        ref = request.ref
        children = self._cache.children(ref.uid, planner.owns)
        left = self._cache.ownerless(ref.namespace, ref.name, getattr(planner, "adopts", ()))
        world = World(ref=ref, object=live, children=children, now=datetime.now(UTC), ownerless=left)
        try:
            with self._metrics.plan_seconds.labels(ref.kind).time():
                return planner.plan(world, request.memory, request.rollout)
        except Exception:
            self._metrics.planner_errors.labels(ref.kind).inc()
            log.exception("planner-failed object=%s rollout=%s", ref.workflow_id, request.rollout)
            return None

    def _leaves_status(self, request: DecisionRequest, plan: Plan) -> bool:
        """Before short steps the status is left to the pass that follows them, for seconds at most.

        So are the events that tell what it says anew: that pass finds them again, and they are told once.
        """
        if plan.status is None:
            return False
        uid, clock = request.ref.uid, time.monotonic()
        followed = plan.decision is not None and bool(plan.decision.steps) and not closes(plan.decision)
        if followed and clock - self._status_left.setdefault(uid, clock) < STATUS_LEFT_SECONDS:
            return True
        self._status_left.pop(uid, None)
        return False

    async def _write_status(self, request: DecisionRequest, live: Json, plan: Plan) -> float:
        """Returns the seconds after which to look again: soon when it was not written."""
        if plan.status is None:
            return RESYNC_SECONDS
        hurry = plan.decision is not None and closes(plan.decision)
        store = self._store(request.ref)
        return await self._status.write(store, live, plan.status, hurry=hurry) or RESYNC_SECONDS

    def _signed(self, decision: Decision, plan: Plan, live: Json | None) -> Decision:
        """The decision with its fence: the generation it was made for and the moment it was made."""
        generation = live["metadata"].get("generation", 0) if live is not None else 0
        return decision.model_copy(
            update={"view": plan.view, "generation": generation, "decided_at": datetime.now(UTC)}
        )

    def _emit(self, request: DecisionRequest, live: Json, plan: Plan, watched: Watched) -> None:
        """The planner's events, once each; those about steps are left to the activity that carries them out."""
        for event in plan.events:
            if event not in watched.events and event[1] not in STEP_EVENTS:
                self._recorder.record(live, *event)
        watched.events = frozenset(plan.events)
        shown = self._store(request.ref).by_uid(request.ref.uid)
        if shown is not None:
            for event in news.of_status(live.get("status") or {}, shown.get("status") or {}):
                self._recorder.record(live, *event)

    def _announce(self, request: DecisionRequest, live: Json | None, decision: Decision) -> None:
        """The Events that a returned decision is worth."""
        if live is not None:
            now = datetime.now(UTC)
            for event in news.of_decision(decision, request.rollout, request.started_at, now):
                self._recorder.record(live, *event)

    def _view_change(
        self, request: DecisionRequest, plan: Plan, live: Json, watched: Watched
    ) -> tuple[Decision | None, float]:
        """A decision without steps once the new view is stable and the last one is old enough."""
        memory, key = request.memory, (request.ref.uid, request.rollout)
        if shown_part(plan.view) == shown_part(memory.shown):
            watched.view = None
            self._unshown.discard(key)
            return None, RESYNC_SECONDS
        self._unshown.add(key)
        clock = time.monotonic()
        if watched.view is None or shown_part(watched.view) != shown_part(plan.view):
            watched.view, watched.view_since = plan.view, clock
        spread = VIEW_SPREAD_SECONDS * len(self._unshown)
        wait = VIEW_STABLE_SECONDS + spread - (clock - watched.view_since)
        if memory.shown_at is not None:
            wait = max(wait, (memory.shown_at + VIEW_INTERVAL - datetime.now(UTC)).total_seconds())
        if wait > 0:
            return None, wait
        return self._signed(Decision(reason=_view_line(plan.view)), plan, live), 0.0

    # --- the end of an object ---------------------------------------------------------------------------------------

    async def _perhaps_gone(self, request: DecisionRequest) -> tuple[Decision | None, float]:
        """Gone means that a live read answers 404 or another uid; any other answer proves nothing."""
        ref = request.ref
        store = self._store(ref)
        successor = None
        try:
            found = await self._client.get(store.resource, ref.namespace, ref.name)
        except KubeNotFound as error:
            if error.about != ref.name:
                log.warning("gone-unproven object=%s error=%s", ref.workflow_id, error)
                return None, GONE_RETRY_SECONDS
        except KubeError as error:
            log.info("gone-unproven object=%s error=%s", ref.workflow_id, error)
            return None, GONE_RETRY_SECONDS
        else:
            store.put(found)
            if found["metadata"]["uid"] == ref.uid:
                return None, 0.0
            successor = ref.model_copy(update={"uid": found["metadata"]["uid"]})
        return self._closing(request, successor), GONE_RETRY_SECONDS

    def _closing(self, request: DecisionRequest, successor: Ref | None) -> Decision | None:
        plan = self._plan(self._planners[request.ref.kind], request, None)
        if plan is None or plan.decision is None:
            return None
        steps = [
            step.model_copy(update={"successor": successor}) if isinstance(step, CloseObject) else step
            for step in plan.decision.steps
        ]
        self._status_left.pop(request.ref.uid, None)
        self._blocked.forget(request.ref.uid)
        return self._signed(plan.decision.model_copy(update={"steps": steps}), plan, None)

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _own_writes_seen(self, poll: Poll, request: DecisionRequest) -> None:
        """Wait until the cache knows what the last decision wrote; after ten seconds read it live."""
        ends = time.monotonic() + READ_LIVE_AFTER_SECONDS
        while (unseen := self._cache.unseen(request.memory.written)) and time.monotonic() < ends:
            self._still_ours(poll)
            poll.changed.clear()
            await self._wait(poll, 0.5, settle=0.0)
        for version in unseen:
            self._still_ours(poll)
            await self._read_live(request.ref.namespace, version)

    async def _read_live(self, namespace: str, version: ObjectVersion) -> None:
        store = self._cache.stores[version.kind.lower()]
        try:
            store.put(await self._client.get(store.resource, namespace, version.name))
        except KubeNotFound:
            if known := store.by_uid(version.uid):
                store.remove(known)
        except KubeError as error:
            log.info("live-read-failed kind=%s name=%s error=%s", version.kind, version.name, error)

    async def _wait(
        self, poll: Poll, seconds: float, settle: float = SETTLE_SECONDS, beat: Callable[[], None] = lambda: None
    ) -> None:
        """Wait for a change, heartbeating; return at the latest after `seconds`."""
        ends = time.monotonic() + seconds
        while not poll.changed.is_set():
            if time.monotonic() >= poll.beat_at:
                activity.heartbeat()
                poll.beat_at = time.monotonic() + heartbeat_seconds()
                beat()
            left = min(ends, poll.beat_at) - time.monotonic()
            if ends <= time.monotonic():
                return
            try:
                await asyncio.wait_for(poll.changed.wait(), max(left, 0.0))
            except TimeoutError:
                continue
        if settle and not poll.over:
            await asyncio.sleep(settle)

    # --- small things -----------------------------------------------------------------------------------------------

    def _store(self, ref: Ref) -> Store:
        return self._cache.stores[self._planners[ref.kind].resource.key]

    def _live(self, ref: Ref) -> Json | None:
        found = self._store(ref).get(ref.namespace, ref.name)
        return found if found is not None and found["metadata"]["uid"] == ref.uid else None

    def _count(self, request: DecisionRequest, decision: Decision) -> None:
        label = "close" if closes(decision) else "steps" if decision.steps else "view"
        scope = "rollout" if request.rollout else "object"
        self._metrics.decisions.labels(request.ref.kind, scope, label).inc()
        for reason in news.reasons_of(decision):
            self._metrics.decision_reasons.labels(request.ref.kind, reason).inc()
        ending = next((step for step in decision.steps if isinstance(step, CloseRollout)), None)
        if ending is not None and request.started_at is not None:
            seconds = (datetime.now(UTC) - request.started_at).total_seconds()
            self._metrics.rollout_seconds.labels(request.ref.kind, ending.result).observe(seconds)


def _is_young(live: Json) -> bool:
    created = parse_time(live["metadata"]["creationTimestamp"])
    return "deletionTimestamp" not in live["metadata"] and datetime.now(UTC) - created < YOUNG


def closes(decision: Decision) -> bool:
    """True when the asking workflow ends with this decision."""
    return any(isinstance(step, CloseObject | CloseRollout) for step in decision.steps)


def shown_part(view: View) -> tuple[str, str, str]:
    """The part of a view whose change is worth a line in the history."""
    return view.phase, view.revision, view.blocked


def heartbeat_seconds() -> float:
    """How often to heartbeat, spread so that a thousand polls do not beat together."""
    timeout = activity.info().heartbeat_timeout
    seconds = timeout.total_seconds() if timeout else 30.0
    return seconds / HEARTBEATS_PER_TIMEOUT * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load


def _until(plan: Plan) -> float:
    if plan.wake_at is None:
        return RESYNC_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
    return max((plan.wake_at - datetime.now(UTC)).total_seconds(), 0.05)


def _view_line(view: View) -> str:
    blocked = f", blocked: {view.blocked}" if view.blocked else ""
    return f"{view.phase or 'view'} at {view.revision or 'no revision'}{blocked}"
