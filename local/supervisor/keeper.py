"""Keeps one part running: starts it, starts it again after a pause when it ends, and obeys stop, kill and hold."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from local.supervisor.logs import opened_log
from local.supervisor.part import Part
from local.supervisor.process import Process
from local.supervisor.records import Record, record_path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackOff:
    """How long to wait before a part that ended is started again; a part that ran long enough begins anew."""

    first_seconds: float = 1.0
    longest_seconds: float = 30.0
    reset_after_seconds: float = 60.0

    def after(self, pause: float, uptime: float) -> float:
        if pause <= 0 or uptime >= self.reset_after_seconds:
            return self.first_seconds
        return min(pause * 2, self.longest_seconds)


@dataclass(frozen=True)
class Running:
    """The process runs since that time (seconds since the epoch)."""

    process: Process
    since: float


@dataclass(frozen=True)
class Waiting:
    """No process; there will be one at that time."""

    until: float
    reason: str


@dataclass(frozen=True)
class Stopped:
    """No process, and none until somebody starts it."""


State = Running | Waiting | Stopped


class Keeper:
    """One part and its process. All methods belong to the event loop's thread."""

    def __init__(self, home: Path, part: Part, back_off: BackOff) -> None:
        self.part = part
        self.state: State = Stopped()
        self._wanted = part
        self.restarts = 0
        self.last_end = ""
        self._home = home
        self._back_off = back_off
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @classmethod
    def adopt(cls, home: Path, record: Record, back_off: BackOff) -> Keeper | None:
        """Take over the process of a record; None if it has ended."""
        process = Process.adopt(record.identity)
        if process is None:
            return None
        keeper = cls(home, record.part, back_off)
        keeper.restarts = record.restarts
        keeper.state = Running(process, record.since)
        keeper._task = asyncio.create_task(keeper._keep(0.0))
        log.info("part adopted name=%s pid=%d", record.part.name, record.identity.pid)
        return keeper

    async def start(self) -> None:
        """Start at once if there is no process; a hold or a pause ends."""
        async with self._lock:
            if not isinstance(self.state, Running):
                await self._cancel()
                self._task = asyncio.create_task(self._keep(0.0))
                await asyncio.sleep(0)

    async def stop(self) -> None:
        """End the process, gently first, and leave it ended."""
        async with self._lock:
            await self._cancel()
            state, self.state = self.state, Stopped()
            if isinstance(state, Running):
                await self._drain()
                await state.process.end(self.part.stop_seconds)
            record_path(self._home, self.part.name).unlink(missing_ok=True)

    async def _drain(self) -> None:
        if not self.part.drain:
            return
        with opened_log(self._home, self.part.name) as output:
            draining = await asyncio.create_subprocess_exec(
                *self.part.drain, env=self.part.environment, cwd=self._home, stdout=output, stderr=output
            )
        try:
            await asyncio.wait_for(draining.wait(), self.part.stop_seconds)
        except TimeoutError:
            log.warning("part not drained name=%s seconds=%.0f", self.part.name, self.part.stop_seconds)
            draining.kill()
            await draining.wait()

    def describe(self, part: Part) -> None:
        """From the next restart on, run as described."""
        self._wanted = part
        if not isinstance(self.state, Running):
            self.part = part

    def runs_as(self, part: Part) -> bool:
        return self.part.fingerprint == part.fingerprint

    async def restart(self, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        """Stop, then start as described, with these variables on top until the restart after this one."""
        await self.stop()
        self.part = self._wanted
        if variables:
            environment = {**self.part.environment, **variables}
            self.part = replace(self.part, environment=environment, fingerprint=f"{self.part.fingerprint} by hand")
        await self.start()

    async def kill(self, hold_seconds: float) -> None:
        """SIGKILL. The part is started again after the hold, or after the usual pause if there is none."""
        async with self._lock:
            await self._cancel()
            if isinstance(self.state, Running):
                self.state.process.kill()
                await self.state.process.wait()
            self.restarts += 1
            pause = hold_seconds or self._back_off.first_seconds
            reason = f"killed and held down for {hold_seconds:g} s" if hold_seconds else "killed"
            self.state = Waiting(time.time() + pause, reason)
            self._task = asyncio.create_task(self._keep(pause))
        log.info("part killed name=%s hold_seconds=%g", self.part.name, hold_seconds)

    async def _keep(self, pause: float) -> None:
        resume_after, pause = pause, 0.0
        await asyncio.sleep(resume_after)
        while True:
            started = time.monotonic()
            reason = self.last_end = await self._run_once()
            pause = self._back_off.after(pause, time.monotonic() - started)
            self.restarts += 1
            self.state = Waiting(time.time() + pause, reason)
            log.warning("part ended name=%s reason=%r pause_seconds=%g", self.part.name, reason, pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> str:
        """Run the part until it ends, and tell how it ended."""
        if not isinstance(self.state, Running):
            try:
                self._spawn()
            except OSError as error:
                return f"cannot be started: {error}"
        assert isinstance(self.state, Running)
        await self.state.process.wait()
        return self.state.process.exit_text

    def _spawn(self) -> None:
        with opened_log(self._home, self.part.name) as output:
            process = Process.start(self.part.command, self.part.environment, self._home, output, self.part.open_files)
        self.state = Running(process, time.time())
        Record(self.part, process.identity, self.state.since, self.restarts).write(self._home)
        log.info("part started name=%s pid=%d", self.part.name, process.identity.pid)

    async def _cancel(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
