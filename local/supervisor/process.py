"""One operating system process, ours by birth or by adoption, watched through a pidfd.

A pid alone may name a stranger later. A process is known by pid, start time and boot, and signals go through the pidfd,
which never changes whom it means.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Identity:
    """What tells a process from all others, now and earlier."""

    pid: int
    started_ticks: int
    boot: str

    def is_alive(self) -> bool:
        """Zombies count as ended."""
        stat = _stat(self.pid)
        return stat is not None and stat.started_ticks == self.started_ticks and self.boot == boot() and stat.runs


@dataclass(frozen=True)
class _Stat:
    state: str
    session: int
    started_ticks: int

    @property
    def runs(self) -> bool:
        return self.state not in "ZX"


def boot() -> str:
    return BOOT_ID.read_text().strip()


def identify(pid: int) -> Identity | None:
    """The identity of a pid, or None if no such process runs."""
    stat = _stat(pid)
    return Identity(pid, stat.started_ticks, boot()) if stat and stat.runs else None


def resident_bytes(session: int) -> int:
    """Memory of all processes of a session. Shared pages are divided among those that share them."""
    return sum(_proportional_bytes(pid) for pid in _members(session))


def end_orphans(leader: Identity) -> None:
    """Kill what is left of the session of a process that has ended. A number that changed hands is left alone."""
    stat = _stat(leader.pid)
    is_ours = stat is None or (stat.started_ticks == leader.started_ticks and not stat.runs)
    for pid in _members(leader.pid) if is_ours and leader.boot == boot() else []:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _allow_files(pid: int, count: int) -> None:
    """Let a process open so many files; who may not raise the hard limit goes up to it."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, max(count, hard)))
    except PermissionError:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(count, hard), hard))


class Process:
    """A process that leads a session of its own. Ending it ends the whole group."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None) -> None:
        self.identity = identity
        self._child = child
        self._pidfd = os.pidfd_open(identity.pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)
        self.exit_text = ""

    @classmethod
    def start(
        cls,
        command: tuple[str, ...],
        environment: dict[str, str],
        directory: Path,
        output: IO[bytes],
        open_files: int = 0,
    ) -> Process:
        """Raises OSError if the command cannot be run."""
        child = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        if open_files:
            with suppress(ProcessLookupError):  # it ended at once
                _allow_files(child.pid, open_files)
        # our unreaped child keeps its pid, so that its entry in /proc is there even if it ended at once
        stat = _stat(child.pid)
        return cls(Identity(child.pid, stat.started_ticks if stat else 0, boot()), child)

    @classmethod
    def adopt(cls, identity: Identity) -> Process | None:
        """Take over a process that an earlier supervisor started; None if it has ended."""
        if not identity.is_alive():
            return None
        try:
            process = cls(identity, None)
        except ProcessLookupError:
            return None
        if not identity.is_alive():  # the pid may have changed hands before the pidfd was open
            process.release()
            return None
        return process

    async def wait(self) -> None:
        """Return when the process has ended; `exit_text` then says how."""
        await self._ended.wait()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    async def end(self, deadline_seconds: float) -> None:
        """SIGTERM, and SIGKILL when the deadline has passed."""
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), deadline_seconds)
            return
        self.kill()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), KILL_SECONDS)

    def release(self) -> None:
        """Stop watching. The process is left as it is."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _on_end(self) -> None:
        with suppress(ProcessLookupError):  # the leader is not reaped yet, so the group's number is still its own
            os.killpg(self.identity.pid, signal.SIGKILL)
        self.exit_text = _exit_text(self._child.wait()) if self._child else "ended"
        self.release()
        self._ended.set()


def _exit_text(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(state=fields[0], session=int(fields[3]), started_ticks=int(fields[19]))


def _members(session: int) -> list[int]:
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if (stat := _stat(pid)) and stat.session == session]


def _proportional_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
