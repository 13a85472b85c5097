"""Finds what this machine lacks before anything is started. Each lack is one line that says what to do about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from local.build import bin_directory, control_plane_binary, find_go
from local.errors import BuildError
from local.listeners import is_free, listener_on
from local.node.machine import check_machine
from local.settings import LocalSettings, Port

GIB = 1024**3
MEMORY_TO_RUN = 3 * GIB
DISK_TO_RUN = 2 * GIB
DISK_TO_BUILD = 6 * GIB
SHARED_MEMORY = 256 * 1024**2
COMMANDS = ("kubectl", "temporal", "envoy")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty when nothing is lacking."""

    name: str
    text: str
    remedy: str = ""

    @property
    def is_lack(self) -> bool:
        return bool(self.remedy)


def examine_machine(settings: LocalSettings, own_sessions: Collection[int] = ()) -> list[Finding]:
    """Look at everything that a system with these settings needs.

    `own_sessions` are the running parts of this home: a port that one of them holds is not taken.
    """
    checks: tuple[Callable[[], Finding], ...] = (
        _root,
        _compiler,
        lambda: _go(settings),
        _commands,
        lambda: _memory(bool(own_sessions)),
        lambda: _disk(settings),
        lambda: _shared_memory(settings),
        lambda: _pods(settings),
    )
    return [*(check() for check in checks), *_ports(settings, own_sessions)]


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", "yes")
    return Finding(
        "root", "no", "run it with sudo: the node agent makes network namespaces and mounts, as a kubelet does"
    )


def _compiler() -> Finding:
    path = shutil.which("gcc")
    if path:
        return Finding("gcc", path)
    return Finding("gcc", "missing", "install gcc and libc6-dev: the kernels and the pod shim are C")


def _go(settings: LocalSettings) -> Finding:
    if settings.external_kubeconfig:
        return Finding("go", "not needed with an existing cluster")
    if control_plane_binary().exists():
        return Finding("go", "not needed, the control plane is built")
    try:
        toolchain = find_go()
    except BuildError as error:
        return Finding("go", "missing or too old", str(error))
    return Finding("go", f"{toolchain.command}, {toolchain.label}")


def _commands() -> Finding:
    missing = [name for name in COMMANDS if not (bin_directory() / name).exists()]
    if not missing:
        return Finding("commands", ", ".join(COMMANDS))
    remedy = "run `make up`, which installs the environment's requirements"
    return Finding("commands", f"missing in {bin_directory()}: {', '.join(missing)}", remedy)


def _memory(is_running: bool) -> Finding:
    free = _available_memory()
    text = f"{free / GIB:.1f} GiB available"
    if is_running or free >= MEMORY_TO_RUN:
        return Finding("memory", text)
    return Finding(
        "memory", text, f"{MEMORY_TO_RUN // GIB} GiB are needed: end other programs or take a larger machine"
    )


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _disk(settings: LocalSettings) -> Finding:
    is_built = settings.external_kubeconfig is not None or control_plane_binary().exists()
    needed = DISK_TO_RUN if is_built else DISK_TO_BUILD
    place = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / GIB:.1f} GiB free for {settings.home}"
    if free >= needed:
        return Finding("disk", text)
    return Finding("disk", text, f"{needed // GIB} GiB are needed: free some, or set BRIXFLOW_HOME to another disk")


def _shared_memory(settings: LocalSettings) -> Finding:
    place = next(path for path in settings.segment_path.parents if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / GIB:.1f} GiB free in {place}"
    if free >= SHARED_MEMORY:
        return Finding("shared memory", text)
    remedy = f"{SHARED_MEMORY // 1024**2} MiB are needed: enlarge it, or set BRIXFLOW_SEGMENT_PATH to another place"
    return Finding("shared memory", text, remedy)


def _pods(settings: LocalSettings) -> Finding:
    if settings.external_kubeconfig:
        return Finding("pods", "not run here with an existing cluster")
    if os.geteuid() != 0:
        return Finding("pods", "can be looked at by root only")
    if problems := check_machine():
        return Finding("pods", "; ".join(problems), "use a machine, or a privileged container, that allows this")
    return Finding("pods", "namespaces and overlay mounts work")


def _ports(settings: LocalSettings, own_sessions: Collection[int]) -> Iterator[Finding]:
    for port in settings.ports():
        yield examine_port(port, own_sessions)


def examine_port(port: Port, own_sessions: Collection[int]) -> Finding:
    """Whether a part can listen on its port; a taken one is said with its holder and the variable that moves it."""
    name = f"port {port.number}"
    if is_free(port.number):
        return Finding(name, f"free for {port.part}")
    holder = listener_on(port.number)
    if holder and holder.session in own_sessions:
        return Finding(name, f"held by our own {port.part}")
    by = f"{holder.name} (pid {holder.pid})" if holder else "another program"
    return Finding(name, f"wanted by {port.part}, taken by {by}", f"end that, or set {port.variable} to a free port")
