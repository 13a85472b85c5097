"""Speaks to the supervisor of a home, and starts one where there is none."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from local.errors import NotRunningError, SupervisorError
from local.supervisor.logs import last_lines, log_path, opened_log
from local.supervisor.part import Part, sources
from local.supervisor.records import running_records

SOCKET = "supervisor.sock"
LOCK = "supervisor.lock"
START_SECONDS = 15.0
END_SECONDS = 10.0

Report = Callable[[dict[str, Any]], None]


@contextmanager
def reachable_socket(home: Path) -> Iterator[str]:
    """A short path of the socket: an address of a Unix socket has at most 107 bytes, a home may be longer."""
    directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET}"
    finally:
        os.close(directory)


def is_supervised(home: Path) -> bool:
    """Whether a supervisor runs for this home: it holds a lock as long as it lives."""
    try:
        with (home / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class SupervisorClient:
    """Requests to the supervisor of one home; each opens a connection of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def ensure(self, parts: Iterable[Part], report: Report) -> None:
        """Have these parts running and healthy. Raises SupervisorError, which names the part that is not."""
        self._ask({"do": "ensure", "parts": [part.to_json() for part in parts]}, report)

    def retain(self, names: Iterable[str], report: Report) -> None:
        self._ask({"do": "retain", "names": sorted(names)}, report)

    def status(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = self._ask({"do": "status"})["parts"]
        return parts

    def is_current(self) -> bool:
        """Whether the running supervisor is the one of this checkout."""
        return bool(self._ask({"do": "status"}).get("sources") == sources())

    def hand_over(self) -> None:
        """End the supervisor and leave its parts running."""
        self._end_with({"do": "hand over"}, None)

    def by_hand(self, verb: str, part: str, **more: Any) -> None:
        """`start`, `stop`, `restart` (with `set={...}`: variables) or `kill` (with `hold_seconds=...`) one part."""
        self._ask({"do": verb, "part": part, **more})

    def shutdown(self, report: Report) -> None:
        """End every part and the supervisor; return when it is gone."""
        self._end_with({"do": "shutdown"}, report)

    def _end_with(self, request: dict[str, Any], report: Report | None) -> None:
        with self._connected() as connection:
            pidfd = os.pidfd_open(_peer(connection))
            try:
                self._converse(connection, request, report)
                ended, _, _ = select.select([pidfd], [], [], END_SECONDS)
            finally:
                os.close(pidfd)
        if not ended:
            raise SupervisorError("the supervisor does not end")

    def _ask(self, request: dict[str, Any], report: Report | None = None) -> dict[str, Any]:
        with self._connected() as connection:
            return self._converse(connection, request, report)

    def _converse(self, connection: socket.socket, request: dict[str, Any], report: Report | None) -> dict[str, Any]:
        connection.sendall(json.dumps(request).encode() + b"\n")
        for line in connection.makefile("rb"):
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise SupervisorError(answer["error"])
            if "ok" in answer:
                return answer
            if report:
                report(answer)
        raise SupervisorError(
            f"the supervisor ended before it answered (its log: {log_path(self._home, 'supervisor')})"
        )

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                with reachable_socket(self._home) as path:
                    connection.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                raise NotRunningError(self._what_runs()) from None
            yield connection

    def _what_runs(self) -> str:
        orphans = ", ".join(record.part.name for record in running_records(self._home))
        if not orphans:
            return f"nothing runs under {self._home}: `brixflow up` starts it"
        return (
            f"the supervisor of {self._home} has died, its parts run on: {orphans}; "
            "`brixflow up` watches them again, `brixflow down` ends them"
        )


def start_supervisor(home: Path, parent: int | None = None) -> SupervisorClient:
    """The client of the home's supervisor, which is started first if there is none.

    A supervisor of other code than the checkout's hands its parts over to a new one. With `parent`, the system goes
    down when that process ends: what a test started never outlives it.
    """
    if is_supervised(home) and not SupervisorClient(home).is_current():
        with suppress(SupervisorError):  # one of before this request existed stays until the next `down`
            SupervisorClient(home).hand_over()
    if not is_supervised(home):
        command = [sys.executable, "-m", "local.supervisor", str(home)]
        with opened_log(home, "supervisor") as output:
            child = subprocess.Popen(
                command if parent is None else [*command, "--parent", str(parent)],
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        _wait_for_socket(home, child)
    return SupervisorClient(home)


def _wait_for_socket(home: Path, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    client = SupervisorClient(home)
    while True:
        try:
            client.status()
        except NotRunningError:
            if child.poll() is not None or time.monotonic() > deadline:
                said = "\n".join(last_lines(log_path(home, "supervisor"), 5))
                raise SupervisorError(f"the supervisor does not start:\n{said}") from None
            time.sleep(0.02)
        else:
            return


def _peer(connection: socket.socket) -> int:
    """The process id at the other end."""
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)
