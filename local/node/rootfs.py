"""The mounts that make a container's root: an overlay over the machine's own root.

An overlay of `/` shows neither other mounts beneath it nor a private /tmp, so checkout, environment and interpreter are
bound in where they lie on either. The agent's home holds keys and other pods' files and is hidden.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from local.node.settings import CHECKOUT
from local.node.shim import Mount

PRIVATE = "/tmp"  # noqa: S108 each container has its own
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_STANDARD = ("stdin", "stdout", "stderr")
_VIRTUAL = {"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "securityfs", "debugfs", "bpf"}


@dataclass(frozen=True)
class RootPlan:
    """Where one container's root comes from."""

    directory: Path  # of this container and attempt; holds root, upper and work
    pod_directory: Path  # holds etc-hosts, etc-hostname and etc-resolv
    home: Path
    memory_mib: int | None  # set where overlay cannot keep its files on disk
    everyone_passes: bool  # the container's user is not root


def root_mounts(plan: RootPlan, files: dict[str, str], volumes: Iterable[Mount]) -> list[Mount]:
    """All mounts in order: root, system, machine, image files, volumes."""
    etc = plan.pod_directory
    mounts = [*_overlay(plan), *_system()]
    mounts += [Mount("bind", str(etc / f"etc-{name}"), f"/etc/{target}", "file") for name, target in _ETC.items()]
    mounts.append(Mount("tmpfs", "tmpfs", PRIVATE, "mode=1777,nosuid,nodev,size=1g"))
    mounts += [Mount("bind", path, path, "ro,rec") for path in machine_binds()]
    if _shows(str(plan.home)):
        mounts.append(Mount("tmpfs", "tmpfs", str(plan.home), "ro,mode=0,size=4k"))
    mounts += [_bind_file(source, target) for target, source in files.items()]
    if plan.everyone_passes:
        mounts += [Mount("reach", "", path) for path in needed_paths()]
    return [*mounts, *volumes]


_ETC = {"hosts": "hosts", "hostname": "hostname", "resolv": "resolv.conf"}


def _overlay(plan: RootPlan) -> list[Mount]:
    base = plan.directory
    first = [Mount("tmpfs", str(base), "", f"size={plan.memory_mib}m")] if plan.memory_mib else []
    folders = [Mount("mkdir", str(base / name), "") for name in ("root", "upper", "work")]
    layers = f"lowerdir=/,upperdir={base / 'upper'},workdir={base / 'work'}"
    return [*first, *folders, Mount("overlay", "overlay", "", layers)]


def _system() -> list[Mount]:
    return [
        Mount("proc", "proc", "/proc", "nosuid,nodev,noexec"),
        Mount("sysfs", "sysfs", "/sys", "ro,nosuid,nodev,noexec"),
        Mount("tmpfs", "tmpfs", "/dev", "nosuid,mode=755,size=64k"),
        *(Mount("bind", f"/dev/{name}", f"/dev/{name}", "file") for name in _DEVICES),
        Mount("devpts", "devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"),
        Mount("mqueue", "mqueue", "/dev/mqueue", "nosuid,nodev,noexec"),
        Mount("bind", "/dev/shm", "/dev/shm", "rec"),  # noqa: S108 the pod's own, mounted by its shim
        Mount("symlink", "pts/ptmx", "/dev/ptmx"),
        Mount("symlink", "/proc/self/fd", "/dev/fd"),
        *(Mount("symlink", f"/proc/self/fd/{at}", f"/dev/{name}") for at, name in enumerate(_STANDARD)),
    ]


def _bind_file(source: str, target: str) -> Mount:
    return Mount("bind", source, target, "ro" if Path(source).is_dir() else "ro,file")


def needed_paths() -> list[str]:
    """What programs in a container may need of the machine: checkout, environment, interpreter."""
    paths = (CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent)
    return sorted({str(path) for path in paths} | {str(path.resolve()) for path in paths})


@cache
def machine_binds() -> tuple[str, ...]:
    """The needed paths that the overlay does not show, outermost first."""
    mounts = [point for point in _mount_points() if point != "/"] + [PRIVATE]
    hidden = [path for path in needed_paths() if any(_is_beneath(path, point) for point in mounts)]
    inner = [point for point in mounts for path in needed_paths() if _is_beneath(point, path)]
    chosen: list[str] = []
    for path in sorted({*hidden, *inner}):
        if not any(_is_beneath(path, outer) for outer in chosen):
            chosen.append(path)
    return tuple(chosen)


def _shows(path: str) -> bool:
    """Whether a container would see the machine's `path`."""
    return not _is_beneath(path, PRIVATE) or any(_is_beneath(path, bound) for bound in machine_binds())


def _is_beneath(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _mount_points() -> list[str]:
    points = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        point = point.encode().decode("unicode_escape")
        if kind not in _VIRTUAL and os.path.isdir(point):  # noqa: PTH112 must not raise on odd mounts
            points.append(point)
    return points
