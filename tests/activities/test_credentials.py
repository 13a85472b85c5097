"""Tokens are short-lived: a file that has changed is read again, at the latest when the API server says 401."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from activities.credentials import Credentials
from activities.errors import KubeForbidden, KubeUnauthorized
from activities.kube import KubeClient, path_of
from activities.resources import PODS, STORM_SERVICES
from local.control_plane_only import ControlPlane

ACCOUNT = ("--namespace", "aibrix-system", "create", "token", "aibrix-controller-manager")


def kubeconfig_with_token_file(admin: Path, folder: Path) -> Path:
    config = yaml.safe_load(admin.read_text())
    config["users"][0]["user"] = {"tokenFile": str(folder / "token")}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_a_refused_token_is_read_again(control_plane: ControlPlane, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("stale")
    client = KubeClient(Credentials(str(kubeconfig_with_token_file(control_plane.kubeconfig, tmp_path))))
    try:
        with pytest.raises(KubeUnauthorized):
            await client.call("GET", path_of(STORM_SERVICES))
        token.write_text(control_plane.kubectl(*ACCOUNT).strip())
        await client.call("GET", path_of(STORM_SERVICES))
    finally:
        await client.close()


async def test_without_the_lease_nothing_is_written(control_plane: ControlPlane) -> None:
    client = KubeClient(Credentials(str(control_plane.kubeconfig)), may_write=lambda: False)
    try:
        await client.call("GET", path_of(PODS))
        with pytest.raises(KubeForbidden, match="Lease"):
            await client.create(PODS, "default", {"metadata": {"name": "never"}})
    finally:
        await client.close()
