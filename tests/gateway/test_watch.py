"""Following the pods of a real API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.kube import KubeClient, KubeRefused, WatchExpired
from gateway.watch import PODS, PodWatch
from tests.gateway.parts import eventually
from tests.gateway.rig import ControlPlane, Rig

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_pod_enters_and_leaves_with_its_label(rig: Rig, control_plane: ControlPlane, model: str) -> None:
    client = await KubeClient.connect(str(control_plane.kubeconfig))
    changes = 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    watch = PodWatch(client, changed)
    following = asyncio.create_task(watch.run())
    await eventually(lambda: watch.is_synced)

    def listed() -> list[str]:
        return [each.name for each in watch.endpoints.values() if each.model == model]

    name = rig.pod(model, "127.86.255.1")
    await eventually(lambda: [each.ready for each in watch.endpoints.values() if each.name == name] == [True])
    rig.kubectl("label", "pod", name, "model.aibrix.ai/name-")
    await eventually(lambda: not listed())
    rig.kubectl("label", "pod", name, f"model.aibrix.ai/name={model}")
    await eventually(listed)
    rig.kubectl("delete", "pod", name, "--force", "--grace-period=0")
    await eventually(lambda: not listed())
    assert changes >= 5
    following.cancel()
    await client.close()


async def test_a_refusal_of_the_api_server_carries_its_status(control_plane: ControlPlane) -> None:
    client = await KubeClient.connect(str(control_plane.kubeconfig))
    with pytest.raises(KubeRefused, match="404"):
        await client.get("/api/v1/nothing", {}, 5)
    with pytest.raises(KubeRefused, match="400"):
        await client.get(PODS, {"labelSelector": "((("}, 5)
    await client.close()


async def test_a_token_that_was_renewed_in_the_file_is_taken_up(control_plane: ControlPlane, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    good = yaml.safe_load(control_plane.kubeconfig.read_text())
    stale = good | {"users": [{"name": good["users"][0]["name"], "user": {"token": "no-longer-valid"}}]}
    kubeconfig.write_text(yaml.safe_dump(stale))
    client = await KubeClient.connect(str(kubeconfig))
    with pytest.raises(KubeRefused, match="401"):
        await client.get(PODS, {}, 5)
    token = control_plane.kubectl("create", "token", "default", "--namespace", "default").strip()
    kubeconfig.write_text(
        yaml.safe_dump(stale | {"users": [{"name": good["users"][0]["name"], "user": {"token": token}}]})
    )
    with pytest.raises(KubeRefused, match="401"):
        await client.get(PODS, {}, 5)
    with pytest.raises(KubeRefused, match="403"):
        await client.get(PODS, {}, 5)
    await client.close()


@pytest.mark.parametrize(("code", "error"), [(410, WatchExpired), (500, KubeRefused)])
async def test_an_error_in_a_watch_says_whether_to_list_anew(
    control_plane: ControlPlane, code: int, error: type[Exception]
) -> None:
    client = await KubeClient.connect(str(control_plane.kubeconfig))
    watch: Any = PodWatch(client, lambda: None)
    event = {"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "no"}}
    with pytest.raises(error):
        watch._apply(event)
    await client.close()
