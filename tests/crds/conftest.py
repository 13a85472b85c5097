"""The real API server with the shipped webhooks, answered by the operator's admission under its own account."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from activities.credentials import Credentials
from activities.kube import KubeClient
from activities.metrics import Metrics
from crds.admission.sidecar import DEFAULT_IMAGE
from local.cluster import OPERATOR_ACCOUNT
from local.kubeconfig import ensure_token_kubeconfig
from local.webhooks import publish_webhook_endpoint
from tests.crds.api import Api
from tests.crds.objects import NAMESPACE, scaler
from tests.slot import SLOT
from tests.workflows.rig import World, operator_in_process, world_in
from workflows.admission import Admission
from workflows.operator import Operator

INTERFACE, ADDRESS = f"brixw{SLOT}", f"198.18.0.{SLOT + 1}"
PORT = 27900 + SLOT
READY_SECONDS = 20.0


class Webhooks:
    """The operator's admission in a thread of its own; it can be stopped and started again."""

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.admission: Admission | None = None
        self.metrics = Metrics()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def start(self) -> None:
        self.run(self._start())

    async def _start(self) -> None:
        self._kube = KubeClient(Credentials(self._kubeconfig))
        self.admission = Admission(self._kube, ("0.0.0.0", PORT), "aibrix-system", DEFAULT_IMAGE, self.metrics)
        await self.admission.start()
        await self.admission.refresh()

    def calls(self, **labels: str) -> float:
        """How many calls of all webhooks (or those with `labels`) were counted since the session began."""
        found = [each for family in self.metrics.registry.collect() for each in family.samples]
        return sum(
            each.value
            for each in found
            if each.name == "brixflow_admission_requests_total" and labels.items() <= each.labels.items()
        )

    def stop(self) -> None:
        self.run(self._stop())

    async def _stop(self) -> None:
        if self.admission is not None:
            await self.admission.stop()
            await self._kube.close()
            self.admission = None

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture(scope="session")
def api(control_plane, tmp_path_factory) -> Iterator[Api]:
    control_plane.kubectl("create", "namespace", NAMESPACE)
    yield Api(control_plane.kubeconfig, tmp_path_factory.mktemp("api"))
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def webhooks(control_plane, api, tmp_path_factory) -> Iterator[Webhooks]:
    """An address that is not the loopback one stands for the bridge's."""
    target = tmp_path_factory.mktemp("operator") / "kubeconfig"
    ensure_token_kubeconfig(target, control_plane.kubeconfig, OPERATOR_ACCOUNT)
    publish_webhook_endpoint(dataclasses.replace(control_plane.settings, operator_webhook_port=PORT), ADDRESS)
    subprocess.run(["ip", "link", "delete", INTERFACE], check=False, stderr=subprocess.DEVNULL)  # of a killed session
    subprocess.run(["ip", "link", "add", INTERFACE, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", INTERFACE], check=True)
        subprocess.run(["ip", "link", "set", INTERFACE, "up"], check=True)
        found = Webhooks(str(target))
        found.start()
        wait_until_asked(api)
        yield found
        found.end()
    finally:
        subprocess.run(["ip", "link", "delete", INTERFACE], check=True)


def wait_until_asked(api: Api) -> None:
    """The API server needs a moment to see the changed configuration."""
    deadline = time.monotonic() + READY_SECONDS
    while api.ask(scaler(maxReplicas=-1)).accepted:
        assert time.monotonic() < deadline, "the webhooks are not asked"
        time.sleep(0.1)


@pytest.fixture
async def world(control_plane) -> AsyncIterator[World]:
    async with world_in(control_plane.kubeconfig) as found:
        yield found


@pytest.fixture
async def operator(control_plane) -> AsyncIterator[Operator]:
    """An operator that acts; admission is answered by `webhooks`."""
    async with operator_in_process(control_plane.settings.operator_kubeconfig, control_plane.temporal_address) as found:
        yield found
