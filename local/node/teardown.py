"""Ends every pod of a home, agent or not, and leaves nothing: for `make down`."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from local.node.build import build_shim
from local.node.machine import delete_link
from local.node.sandbox import veth_name
from local.node.settings import NodeSettings
from local.node.shim import find_shim, kill_shim

PATIENCE_SECONDS = 10.0


def teardown(settings: NodeSettings) -> None:
    """Ends all shims by pid and start time, then removes interfaces and bridge.

    Pod folders with their logs and state stay: the objects still exist, and a later start continues from them.
    Mounts and namespaces go with the processes.
    """
    folders = _pod_folders(settings.directory / "pods")
    for folder in folders:
        kill_shim(folder)
    _wait_for_end(folders)
    for folder in folders:
        shutil.rmtree(folder / "containers", ignore_errors=True)
    if not folders and not Path(f"/sys/class/net/{settings.bridge}").exists():
        return
    shim = build_shim(settings.directory / "shim")
    for folder in folders:
        delete_link(shim, veth_name(settings.bridge, folder.name))
    delete_link(shim, settings.bridge)


def _pod_folders(pods: Path) -> list[Path]:
    return [folder for folder in pods.iterdir() if folder.is_dir()] if pods.is_dir() else []


def _wait_for_end(folders: list[Path]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(find_shim(folder) for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.02)
