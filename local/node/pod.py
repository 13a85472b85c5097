"""One pod's loop: look, decide, act, publish, sleep until something changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import aiohttp

from local.node.api import ApiError, ConflictError, NotFoundError
from local.node.container import termination_message
from local.node.context import NodeContext
from local.node.files import Json
from local.node.lifecycle import Delay, Plan, Situation, Start, Step, Stop, decide
from local.node.pod_state import PodState
from local.node.publisher import StatusPublisher
from local.node.records import ContainerRecord, Running, Terminated, Waiting
from local.node.runner import ContainerRunner, Deadline
from local.node.sandbox import close_sandbox, fill_volume, open_sandbox, set_up_volumes
from local.node.shim import ProcessEvent, Shim, ShimError, find_shim, read_events
from local.node.status import PodView, parse_timestamp, pod_status
from local.node.volumes import VolumeError, has_content

log = logging.getLogger(__name__)

SHOW_FIRST_REASON_SECONDS = 2.0
RETRY_SECONDS = 2.0
RECONNECT_SECONDS = 0.05
API_ERRORS = (ApiError, aiohttp.ClientError, TimeoutError, OSError)


class PodWorker:
    """Runs one pod from its binding to the end of its object."""

    def __init__(self, state: PodState, context: NodeContext) -> None:
        self.state = state
        self.context = context
        self.gone = False  # the object is no longer in the API
        self.runner = ContainerRunner(state, context, self.wake)
        self._wake = asyncio.Event()
        self._events: asyncio.Task[None] | None = None
        self._publisher = StatusPublisher(context.api, state)
        self._deadline = float("inf")

    # ---- what others tell ----------------------------------------------------------------------

    def wake(self) -> None:
        """Asks the loop to look again."""
        self._wake.set()

    def update(self, pod: Json) -> None:
        """The object changed."""
        moved = pod["metadata"].get("labels") != self.state.pod["metadata"].get("labels")
        moved = moved or pod["metadata"].get("annotations") != self.state.pod["metadata"].get("annotations")
        if int(pod["metadata"]["resourceVersion"]) < int(self.state.pod["metadata"]["resourceVersion"]):
            pod["status"] = self.state.pod["status"]  # an answer to our own write was newer
        self.state.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            grace = pod["metadata"].get("deletionGracePeriodSeconds", 0)
            asked_for = parse_timestamp(pod["metadata"]["deletionTimestamp"])  # cut to whole seconds
            self._deadline = min(self._deadline, time.time() + grace, asked_for + 1)
        if moved and self.state.has_sandbox:
            self.runner.begin("downward volumes", self.refresh_volumes(labels_changed=True))
        self.wake()

    def vanish(self) -> None:
        """The object is gone: end the pod without further ado."""
        self.gone = True
        self._deadline = min(self._deadline, time.time() + 2)
        self.wake()

    # ---- the loop ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the pod is gone, or cancelled: then the containers run on."""
        try:
            await self._recover()
            while not self._must_end():
                delay = await self._guarded_step()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._wake.wait()
                self._wake.clear()
            await self._end()
        finally:
            await self._let_go()

    async def _guarded_step(self) -> float | None:
        try:
            return await self._step()
        except API_ERRORS as error:
            log.warning("pod_step_failed pod=%s error=%r", self.state.title, error)
        except (ShimError, VolumeError) as error:
            log.warning("pod_step_failed pod=%s error=%s", self.state.title, error)
            reason = "FailedMount" if isinstance(error, VolumeError) else "FailedCreatePodSandBox"
            self.runner.event("Warning", reason, str(error))
        except Exception:
            log.exception("pod_step_failed pod=%s", self.state.title)
        self.publish()
        return RETRY_SECONDS

    def _must_end(self) -> bool:
        return self.gone or bool(self.state.pod["metadata"].get("deletionTimestamp"))

    async def _step(self) -> float | None:
        state = self.state
        if state.finished and not self.runner.busy:
            await self._close()
            self.publish()
            return None
        plan = self._decide()
        needs_sandbox = not plan.finished and not state.has_sandbox
        if needs_sandbox:
            self.publish()
            await self._open()
            plan = self._decide()
        if not state.volumes_ready and not plan.finished:
            await set_up_volumes(state, self.context)
        state.initialized, state.failed = plan.initialized, plan.failed
        if plan.finished and not self.runner.busy:
            await self._finish()
        delay = self._carry_out(plan.steps)
        self.publish()
        return delay

    def _decide(self) -> Plan:
        situation = Situation(self.state.spec, self.state.records, self.state.sandbox, time.time(), self.runner.busy)
        return decide(situation)

    def _carry_out(self, steps: list[Step]) -> float | None:
        wake_at = float("inf")
        for step in steps:
            record = self.state.records[step.name]
            if isinstance(step, Start):
                self.runner.begin(step.name, self.runner.start(record))
            elif isinstance(step, Stop):
                self.runner.begin(step.name, self.runner.stop(record, self.runner.grace(), step.message))
            else:
                wake_at = min(wake_at, self._show_delay(record, step))
        return None if wake_at == float("inf") else max(0.0, wake_at - time.time())

    def _show_delay(self, record: ContainerRecord, step: Delay) -> float:
        """Shows why the container waits; the first reason of a failed start stays visible for a moment."""
        fresh_until = record.blocked.since + SHOW_FIRST_REASON_SECONDS if record.blocked else 0.0
        if fresh_until > time.time():
            return min(fresh_until, step.until)
        shown = Waiting(step.reason, step.message)
        if record.state != shown:
            if isinstance(record.state, Terminated):
                record.last = record.state
                shown = Waiting(step.reason, f"{step.message} pod={self._long_name()}")
            if not isinstance(record.state, Waiting) or record.state.reason != step.reason:
                self.runner.event("Warning", "BackOff", _sentence(shown.message), record.name)
                record.state = shown
                self.state.save()
        return step.until

    def _long_name(self) -> str:
        metadata = self.state.pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"

    # ---- sandbox -------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Takes up a pod whose shim still lives, or notes that its processes are gone."""
        state = self.state
        state.has_sandbox = find_shim(state.directory) is not None
        if state.has_sandbox:
            await self._follow()
            for record in state.records.values():
                self._settle(record)
        else:
            self._lose_sandbox()

    def _settle(self, record: ContainerRecord) -> None:
        """After the events are replayed: an attempt that the shim never saw did not happen."""
        if record.launching:
            record.attempt -= 1
            record.launching = False
        elif record.is_running:
            self.runner.resume(record)

    async def _open(self) -> None:
        await open_sandbox(self.state, self.context)
        await self._follow()

    async def _follow(self) -> None:
        """Follows the shim's events; returns once those of the past are accounted for."""
        caught_up = asyncio.Event()
        self._events = asyncio.create_task(self._follow_events(caught_up))
        await caught_up.wait()

    async def _follow_events(self, caught_up: asyncio.Event) -> None:
        while find_shim(self.state.directory):
            with contextlib.suppress(ShimError):
                async for event in Shim(self.state.directory).events():
                    if event is None:
                        caught_up.set()
                    else:
                        self._on_event(event)
            await asyncio.sleep(RECONNECT_SECONDS)
        caught_up.set()
        self._lose_sandbox()
        self.wake()

    def _on_event(self, event: ProcessEvent) -> None:
        record = self.state.records.get(event.container)
        if event.sequence <= self.state.sequence:
            return
        self.state.sequence = event.sequence
        if record and record.attempt == event.attempt:
            if event.kind == "start":
                self.runner.on_running(record, event.at)
            else:
                self._on_exit(record, event)
        self.state.save()
        self.runner.changed.set()
        self.wake()

    def _on_exit(self, record: ContainerRecord, event: ProcessEvent) -> None:
        self.runner.forget_probes(record.name)
        started_at = record.state.started_at if isinstance(record.state, Running) else event.at
        message = termination_message(self.state, record, event.exit_code)
        reason = "Error" if event.exit_code else "Completed"
        record.state = Terminated(event.exit_code, reason, started_at, event.at, record.container_id, message)
        record.ready = record.started = False
        fields = (self.state.title, record.name, record.attempt, event.exit_code)
        log.info("container_ended pod=%s container=%s attempt=%d exit=%d", *fields)

    def _lose_sandbox(self) -> None:
        """The shim is gone, and with it all processes: after a restart of the machine, or by a kill."""
        for event in read_events(self.state.directory):
            self._on_event(event)
        self.state.has_sandbox = False
        never = self.state.spec.get("restartPolicy") == "Never"
        for record in self.state.records.values():
            self.runner.forget_probes(record.name)
            if isinstance(record.state, Running):
                code, reason = (137, "ContainerStatusUnknown") if never else (255, "Unknown")
                record.state = Terminated(code, reason, record.state.started_at, time.time(), record.container_id)
            elif record.launching:
                record.attempt -= 1
            record.launching = record.ready = record.started = False
        if not self.state.ending:
            self.state.save()

    async def _finish(self) -> None:
        """All containers have run to their end; sidecars follow."""
        self.state.finished = True
        self.state.save()
        await self._close()

    async def _close(self) -> None:
        limit = time.time() + self.runner.grace()
        await self._stop_all(self.runner.grace(), lambda: min(limit, self._deadline))
        if self._events:
            self._events.cancel()
        await close_sandbox(self.state, self.context)

    # ---- volumes -------------------------------------------------------------------------------

    async def refresh_volumes(self, labels_changed: bool = False) -> None:
        """Looks at the volumes with content again; raises nothing."""
        if not (self.state.has_sandbox and self.state.volumes_ready):
            return
        for volume in self.state.spec.get("volumes", ()):
            if has_content(volume) and (_is_live(volume, labels_changed) or self._token_is_due(volume)):
                with contextlib.suppress(VolumeError, *API_ERRORS):
                    await fill_volume(self.state, self.context, volume)

    def _token_is_due(self, volume: Json) -> bool:
        return self.state.tokens_until.get(volume["name"], 0.0) < time.time()

    # ---- the end -------------------------------------------------------------------------------

    async def _end(self) -> None:
        state = self.state
        log.info("pod_ends pod=%s vanished=%s", state.title, self.gone)
        state.ending = True
        state.save()
        self.publish()
        await self.runner.close()
        await self._stop_all(max(0.0, self._deadline - time.time()), lambda: self._deadline)
        if self._events:
            self._events.cancel()
        await close_sandbox(state, self.context)
        if not self.gone:
            await self._publisher.final(self._status)
            await self._delete_object()
        await asyncio.to_thread(state.remove)

    async def _stop_all(self, grace: float, deadline: Deadline) -> None:
        """Main containers together, then sidecars from the last to the first."""
        running = [record for record in self.state.records.values() if record.is_running]
        first = [record for record in running if record.kind != "sidecar"]
        await asyncio.gather(*(self.runner.stop(record, grace, "", deadline) for record in first))
        for record in reversed([record for record in running if record.kind == "sidecar"]):
            await self.runner.stop(record, grace, "", deadline)

    async def _delete_object(self) -> None:
        metadata = self.state.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        while not self.gone:
            try:
                await self.context.api.request("DELETE", path, body)
            except (NotFoundError, ConflictError):
                return
            except API_ERRORS as error:
                log.warning("pod_delete_failed pod=%s error=%r", self.state.title, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _let_go(self) -> None:
        if self._events:
            self._events.cancel()
        await self.runner.close()
        await self._publisher.close()

    # ---- status --------------------------------------------------------------------------------

    def publish(self) -> None:
        """Sends the status if it differs from what was sent last."""
        self._publisher.offer(self._status)

    def _status(self) -> Json:
        state = self.state
        view = PodView(
            pod=state.pod,
            records=state.records,
            host_address=self.context.facts.address,
            address=state.address,
            started_at=state.started_at,
            has_sandbox=state.has_sandbox,
            initialized=state.initialized,
            finished=state.finished,
            failed=state.failed,
            ending=state.ending,
        )
        return pod_status(view, state.pod.get("status", {}), time.time())


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:]


def _is_live(volume: Json, labels_changed: bool) -> bool:
    """Whether the volume follows objects; one of tokens only is looked at when they are due."""
    if "projected" not in volume:
        return not labels_changed or "downwardAPI" in volume
    parts = volume["projected"].get("sources", ())
    wanted = ("downwardAPI",) if labels_changed else ("configMap", "secret", "downwardAPI")
    return any(kind in part for part in parts for kind in wanted)
