"""Carries out a container's start and stop: image, hooks, signals, probes, and the events that people see."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from local.node.api import ApiError
from local.node.container import launch_container, prepare_container, probe_target, send_signal, stop_signal
from local.node.context import NodeContext
from local.node.environment import ConfigError
from local.node.files import Json
from local.node.images import Image
from local.node.pod_state import PodState
from local.node.probes import ProbeError, ProbeKind, ProbeRun, check
from local.node.records import BACKOFF_LIMIT, Backoff, Blocked, ContainerRecord, Running, Terminated, Waiting
from local.node.shim import ShimError

log = logging.getLogger(__name__)

Deadline = Callable[[], float]  # when a stop must be over; may come forward

CONFIG_RETRY_SECONDS = 5.0
LEAST_GRACE_SECONDS = 2.0


class ContainerRunner:
    """The effects on the containers of one pod. `wake` asks the pod's loop to decide again."""

    def __init__(self, state: PodState, context: NodeContext, wake: Callable[[], None]) -> None:
        self.state = state
        self.context = context
        self._wake = wake
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._probes: dict[str, list[asyncio.Task[None]]] = {}
        self.changed = asyncio.Event()  # set at each start and exit

    @property
    def busy(self) -> frozenset[str]:
        """Containers with a start or stop under way."""
        return frozenset(self._tasks)

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` for a container; the pod's loop leaves the container alone meanwhile."""
        task = asyncio.create_task(self._guard(name, work))
        self._tasks[name] = task

    async def _guard(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("container_step_failed pod=%s container=%s error=%r", self.state.title, name, error)
            await asyncio.sleep(1)
        except Exception:
            log.exception("container_step_failed pod=%s container=%s", self.state.title, name)
            await asyncio.sleep(1)
        finally:
            self._tasks.pop(name, None)
            self._wake()

    def event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Records an event on the pod."""
        self.context.events.record(self.state.pod, kind, reason, message, container)

    # ---- start ---------------------------------------------------------------------------------

    async def start(self, record: ContainerRecord) -> None:
        """Starts the container's next attempt, or notes why it cannot."""
        container = self.state.container(record.name)
        image = self._pull(record, container)
        if image is None:
            return
        try:
            command = await prepare_container(self.state, self.context, record.name, record.attempt + 1, image)
        except ConfigError as error:
            self._misconfigured(record, container.get("image", ""), str(error))
            return
        self._next_attempt(record, container, image)
        try:
            await launch_container(self.state, command)
        except (ShimError, OSError) as error:
            self._start_failed(record, str(error))

    def _pull(self, record: ContainerRecord, container: Json) -> Image | None:
        name = container.get("image", "")
        image = self.context.images.find(name)
        if image is None:
            self._pull_failed(record, name, container.get("imagePullPolicy", ""))
        elif container.get("imagePullPolicy") == "Always":
            self.event("Normal", "Pulling", f'Pulling image "{name}"', record.name)
            self.event("Normal", "Pulled", f'Successfully pulled image "{name}" in 0s', record.name)
        else:
            self.event("Normal", "Pulled", f'Container image "{name}" already present on machine', record.name)
        return image

    def _pull_failed(self, record: ContainerRecord, name: str, policy: str) -> None:
        again = record.blocked if record.blocked and record.blocked.image == name else None
        delay = min(again.delay * 2, BACKOFF_LIMIT) if again else self.context.settings.backoff_seconds
        reason = "ErrImageNeverPull" if policy == "Never" else "ErrImagePull"
        later = reason if policy == "Never" else "ImagePullBackOff"
        message = f'failed to pull image "{name}": no entry of the image table matches it'
        self.event("Normal", "Pulling", f'Pulling image "{name}"', record.name)
        self.event("Warning", "Failed", f"Error: {reason}: {message}", record.name)
        afterwards = f'Back-off pulling image "{name}": {message}'
        self._block(record, reason, message, Blocked(name, later, afterwards, time.time(), delay))

    def _block(self, record: ContainerRecord, reason: str, message: str, blocked: Blocked) -> None:
        if isinstance(record.state, Terminated):
            record.last = record.state
        record.state = Waiting(reason, message)
        record.blocked = blocked
        self.state.save()

    def _next_attempt(self, record: ContainerRecord, container: Json, image: Image) -> None:
        ended, now = record.ended, time.time()
        if record.image and record.image != container.get("image", ""):
            record.backoff = Backoff()
        elif ended:
            record.backoff = record.backoff.next(self.context.settings.backoff_seconds, now, ended.finished_at)
        record.last = ended or record.last
        record.attempt += 1
        record.launching = True
        record.sandbox = self.state.sandbox
        record.image, record.image_id = container.get("image", ""), image.digest
        record.container_id = self.state.new_container_id(record)
        record.started = record.ready = False
        record.blocked = None
        record.state = Waiting("ContainerCreating")
        self.state.save()

    def _misconfigured(self, record: ContainerRecord, image: str, message: str) -> None:
        reason = "CreateContainerConfigError"
        self.event("Warning", "Failed", f"Error: {message}", record.name)
        self._block(record, reason, message, Blocked(image, reason, message, time.time(), CONFIG_RETRY_SECONDS))

    def _start_failed(self, record: ContainerRecord, message: str) -> None:
        record.launching = False
        moment = time.time()
        text = f"failed to start container: {message}"
        record.state = Terminated(128, "StartError", moment, moment, record.container_id, text)
        self.event("Warning", "Failed", f"Error: {text}", record.name)
        self.state.save()

    def on_running(self, record: ContainerRecord, started_at: float) -> None:
        """The shim says that the attempt runs."""
        record.launching = False
        record.state = Running(started_at)
        self.event("Normal", "Created", f"Container created: {record.name}", record.name)
        self.event("Normal", "Started", f"Container started: {record.name}", record.name)
        self.resume(record)

    def resume(self, record: ContainerRecord) -> None:
        """Hooks and probes of a running container, from where they are."""
        container = self.state.container(record.name)
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook and not record.started:
            self.begin_beside(record, self._post_start(record, container, hook))
        else:
            self._watch_over(record, container)

    def begin_beside(self, record: ContainerRecord, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` until the container ends."""
        self._probes.setdefault(record.name, []).append(asyncio.create_task(work))

    async def _post_start(self, record: ContainerRecord, container: Json, hook: Json) -> None:
        if await self._hook(record, hook, "PostStart", 3600.0):
            self._watch_over(record, container)
            self._wake()
        else:
            self.begin(record.name, self.stop(record, self.grace(), "FailedPostStartHook"))

    # ---- probes --------------------------------------------------------------------------------

    def _watch_over(self, record: ContainerRecord, container: Json) -> None:
        if container.get("startupProbe") and not record.started:
            return self._probe(record, container, "startup", None)
        if not record.started:
            record.started = True
            record.ready = not container.get("readinessProbe")
            self.state.save()
        for kind in ("readiness", "liveness"):
            if container.get(f"{kind}Probe"):
                self._probe(record, container, kind, record.ready if kind == "readiness" else True)
        return None

    def _probe(self, record: ContainerRecord, container: Json, kind: ProbeKind, known: bool | None) -> None:
        run = ProbeRun(
            kind=kind,
            probe=container[f"{kind}Probe"],
            target=probe_target(self.state, record.name),
            changed=lambda kind, success: self._probe_changed(record, kind, success),
            unhealthy=lambda kind, text: self._unhealthy(record, kind, text),
        )
        age = time.time() - record.state.started_at if isinstance(record.state, Running) else 0.0
        self.begin_beside(record, run.run(age, known))

    def _unhealthy(self, record: ContainerRecord, kind: ProbeKind, text: str) -> None:
        self.event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {text}", record.name)

    def _probe_changed(self, record: ContainerRecord, kind: ProbeKind, success: bool) -> None:
        if self.state.ending:
            return
        container = self.state.container(record.name)
        if kind == "readiness":
            record.ready = success
            self.state.save()
        elif kind == "startup" and success:
            record.started = True
            record.ready = not container.get("readinessProbe")
            self.state.save()
            self._watch_over(record, container)
        elif record.name not in self._tasks:
            message = f"Container {record.name} failed {kind} probe, will be restarted"
            grace = container[f"{kind}Probe"].get("terminationGracePeriodSeconds")
            self.begin(record.name, self.stop(record, self.grace() if grace is None else grace, message))
        self._wake()

    def forget_probes(self, name: str) -> None:
        """Ends the probes and hooks of a container."""
        for task in self._probes.pop(name, ()):
            if task is not asyncio.current_task():
                task.cancel()

    # ---- stop ----------------------------------------------------------------------------------

    def grace(self) -> float:
        """The pod's own grace period."""
        return float(self.state.spec.get("terminationGracePeriodSeconds", 30))

    async def stop(self, record: ContainerRecord, grace: float, message: str, deadline: Deadline | None = None) -> None:
        """preStop, the stop signal, the grace period, SIGKILL; returns when the container has ended.

        `deadline`, when given, is asked again and again: a second deletion may bring it forward.
        """
        container = self.state.container(record.name)
        self.event("Normal", "Killing", message or f"Stopping container {record.name}", record.name)
        self.forget_probes(record.name)
        attempt, fixed = record.attempt, time.time() + grace
        limit = deadline or (lambda: fixed)
        hook = (container.get("lifecycle") or {}).get("preStop")
        if hook and grace > 0 and record.is_running:
            await self._hook(record, hook, "PreStop", max(0.1, limit() - time.time()))
            fixed = max(fixed, time.time() + LEAST_GRACE_SECONDS)
        if grace > 0:
            await send_signal(self.state, record.name, stop_signal(container))
            await self._ended(record, attempt, limit)
        while record.is_running and record.attempt == attempt:
            await send_signal(self.state, record.name, signal.SIGKILL)
            await self._ended(record, attempt, lambda: time.time() + 1)

    async def _ended(self, record: ContainerRecord, attempt: int, deadline: Deadline) -> None:
        until = deadline()
        while record.is_running and record.attempt == attempt:
            until = min(until, deadline())
            left = until - time.time()
            if left <= 0:
                return
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 1.0)):
                    await self.changed.wait()

    async def _hook(self, record: ContainerRecord, hook: Json, kind: str, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                if "sleep" in hook:
                    await asyncio.sleep(hook["sleep"]["seconds"])
                else:
                    await check(hook, probe_target(self.state, record.name), timeout)
        except (ProbeError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            text = str(error) or "it took too long"
            self.event("Warning", f"Failed{kind}Hook", f"{kind}Hook failed: {text}", record.name)
            return False
        return True

    async def close(self) -> None:
        """Ends all work on the containers; the containers run on."""
        tasks = [*self._tasks.values(), *(task for tasks in self._probes.values() for task in tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
