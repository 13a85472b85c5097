"""Finds out who listens on a TCP port, so that a taken port can be said by name."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LISTEN = "0A"


@dataclass(frozen=True)
class Listener:
    """A process that listens. `session` is the process that leads its session."""

    pid: int
    name: str
    session: int


def is_free(port: int) -> bool:
    """Whether all addresses of the port can be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def listener_on(port: int) -> Listener | None:
    """Who listens on the port; None if nobody does or the process cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in PROC.iterdir():
        if process.name.isdecimal() and sockets & set(_open_files(process)):
            return _describe(process)
    return None


def _listening_inodes(port: int) -> list[str]:
    inodes = []
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.append(fields[9])
    return inodes


def _open_files(process: Path) -> list[str]:
    names = []
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                names.append(str(entry.readlink()))
    return names


def _describe(process: Path) -> Listener | None:
    with suppress(OSError):
        stat = (process / "stat").read_text()
        name, _, rest = stat.partition("(")[2].rpartition(")")
        return Listener(int(process.name), name, int(rest.split()[3]))
    return None
