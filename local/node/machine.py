"""What the machine must offer, and the node's bridge."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from local.node.settings import NodeSettings

_TRY_NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"]


def check_machine() -> list[str]:
    """What is missing to run pods, one sentence each; empty when all is there."""
    if sys.platform != "linux":
        return ["pods need Linux"]
    if os.geteuid() != 0:
        return ["the node agent needs root, as every kubelet does"]
    found = []
    if shutil.which("gcc") is None:
        found.append("gcc is missing: it builds the pod shim")
    if subprocess.run(_TRY_NAMESPACES, check=False, capture_output=True).returncode:
        found.append("the kernel or this container refuses new namespaces (CAP_SYS_ADMIN is needed)")
    elif not overlay_works(Path(tempfile.gettempdir())) and not overlay_works(Path("/dev/shm")):  # noqa: S108
        found.append("overlay mounts do not work here, neither on disk nor in memory")
    return found


def overlay_works(folder: Path) -> bool:
    """Whether an overlay over `/` can keep its files under `folder`; tried in a mount namespace of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        base = Path(name)
        for part in ("root", "upper", "work"):
            (base / part).mkdir()
        options = f"lowerdir=/,upperdir={base / 'upper'},workdir={base / 'work'}"
        root = base / "root"
        script = f"mount -t overlay overlay -o {options} {root} && touch {root}/etc/.brixflow-try"
        tried = subprocess.run(["unshare", "--mount", "sh", "-c", script], check=False, capture_output=True)
        return tried.returncode == 0


def add_bridge(shim: Path, settings: NodeSettings) -> None:
    """Makes the bridge with the node's address; an existing one is kept."""
    address, prefix = str(settings.bridge_address), str(settings.pod_range.prefixlen)
    _run_shim(shim, "bridge-add", settings.bridge, address, prefix)


def delete_link(shim: Path, name: str) -> None:
    """Removes a bridge or veth; a missing one is fine."""
    _run_shim(shim, "link-delete", name)


def _run_shim(shim: Path, *words: str) -> None:
    run = partial(subprocess.run, check=False, capture_output=True, text=True)
    done = run([str(shim), *words])
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
