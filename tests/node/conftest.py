"""The node of these tests: one agent a session, one namespace a test."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from local.control_plane_only import ControlPlane
from local.node.api import ApiClient, NotFoundError
from local.node.sandbox import veth_name
from local.node.settings import CHECKOUT
from local.node.teardown import teardown
from tests.node.rig import Agent, Pods
from tests.slot import SLOT


@pytest.fixture(scope="session")
def agent(control_plane: ControlPlane) -> Iterator[Agent]:
    home = CHECKOUT / ".brixflow-test" / f"node-{SLOT}"
    home.mkdir(parents=True, exist_ok=True)
    running = Agent(control_plane, home)
    running.start()
    wait_for_node(control_plane, running.settings.name)
    try:
        yield running
    finally:
        running.stop()
        teardown(running.settings)
    assert not Path(f"/sys/class/net/{running.settings.bridge}").exists()
    assert str(home) not in Path("/proc/self/mounts").read_text()
    ours = veth_name(running.settings.bridge, "")[:6]
    assert not list(Path("/sys/class/net").glob(f"{ours}*")), "a veth was left"
    shutil.rmtree(home)


def wait_for_node(control_plane: ControlPlane, name: str) -> None:
    deadline = time.monotonic() + 30
    query = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    while control_plane.kubectl("get", "nodes", "-o", query) != "True":
        assert time.monotonic() < deadline, f"node {name} is not Ready"
        time.sleep(0.2)


@pytest.fixture
async def pods(agent: Agent, request: pytest.FixtureRequest) -> AsyncIterator[Pods]:
    api = ApiClient.from_kubeconfig(agent.control_plane.kubeconfig)
    namespace = re.sub("[^a-z0-9]+", "-", f"node-{request.node.name[5:60]}".lower()).strip("-")
    await api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
    used = Pods(api, agent, namespace)
    await _wait_for_account(used)
    try:
        yield used
    finally:
        for pod in (await api.get(f"{used.path}/pods"))["items"]:
            await used.delete(pod["metadata"]["name"], gracePeriodSeconds=0)
        await api.request("DELETE", f"/api/v1/namespaces/{namespace}")
        await api.close()


async def _wait_for_account(pods: Pods) -> None:
    for _ in range(100):
        try:
            await pods.api.get(f"{pods.path}/serviceaccounts/default")
            await pods.api.get(f"{pods.path}/configmaps/kube-root-ca.crt")
        except NotFoundError:
            await asyncio.sleep(0.1)
        else:
            return
