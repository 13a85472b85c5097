"""Following the pods of a real API server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.kube import KubeClient, KubeRefused, WatchExpired
from gateway.watch import PODS, PodWatch
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import ControlPlane, Rig, chat

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


async def test_a_model_may_be_named_by_annotation_alone_unless_a_selector_leaves_it_out(  # 5
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], control_plane: ControlPlane, model: str
) -> None:
    named, note = f"org/{model}", "model.aibrix.ai/name"
    name = rig.pod(f"other-{model}", engines[0].host)
    await rig.routable(f"other-{model}", 1)
    rig.kubectl("annotate", "pod", name, f"{note}={named}")
    rig.kubectl("label", "pod", name, f"{note}-")
    await rig.routable(named, 1)
    async with client.post("/v1/chat/completions", json=chat(named)) as answer:
        assert (answer.status, answer.headers["target-pod"]) == (200, name)
    kube = await KubeClient.connect(str(control_plane.kubeconfig))
    for selector, seen in (("", True), (note, False)):
        watch = PodWatch(kube, lambda: None, selector)
        following = asyncio.create_task(watch.run())
        await eventually(lambda watch=watch: watch.is_synced)
        assert (named in {each.model for each in watch.endpoints.values()}) == seen
        following.cancel()
    await kube.close()


async def test_the_series_of_a_pod_leave_with_it(rig: Rig, model: str) -> None:  # 57, gateway-ops 34
    name = rig.pod(model, "127.86.255.2")
    await rig.routable(model, 1)

    async def series() -> list[str]:
        return [each for each in await rig.metrics() if each.startswith("model_replicas") and f'pod="{name}"' in each]

    assert len(await series()) == 1
    rig.kubectl("delete", "pod", name, "--force", "--grace-period=0")

    async def gone() -> bool:
        return not await series()

    await eventually(gone)


async def test_a_metric_without_a_pod_names_gateway_and_model_only(  # gateway-ops 32
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post("/v1/chat/completions", json=chat(model)) as answer:
        assert answer.status == 200
    await eventually(rig.is_quiet)
    names = ("gateway_input_tokens_total", "gateway_output_tokens_total", "gateway_model_in_flight_requests")
    found = [each for each in await rig.metrics() if each.startswith(names) and f'model="{model}"' in each]
    assert len(found) == len(names)
    for series in found:
        assert re.findall(r"(\w+)=", series.partition("{")[2]) == ["gateway_pod", "model"]


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
