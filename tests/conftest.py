"""The real parts that the rooms' tests share: one control plane with Temporal a session, our resources installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.control_plane_only import ControlPlane
from local.settings import LocalSettings

CHECKOUT = Path(__file__).parents[1]
SLOT = int(os.environ.get("BRIXFLOW_TEST_SLOT", "0"))  # 0 to 9: lets test sessions run side by side
BASE_PORT = 27000 + 20 * SLOT


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, API server, controller manager, scheduler and Temporal in a home of their own; no node, no operator."""
    home = CHECKOUT / ".brixflow-test" / f"control-plane-{SLOT}"
    shutil.rmtree(home, ignore_errors=True)
    settings = LocalSettings(
        home=home,
        etcd_port=BASE_PORT,
        api_server_port=BASE_PORT + 1,
        etcd_peer_port=BASE_PORT + 2,
        controller_manager_port=BASE_PORT + 3,
        scheduler_port=BASE_PORT + 4,
        temporal_port=BASE_PORT + 5,
        temporal_ui_port=BASE_PORT + 6,
        temporal_metrics_port=BASE_PORT + 7,
        pod_cidr=f"10.88.{16 * SLOT}.0/20",
        service_cidr=f"10.89.{SLOT}.0/24",
        bridge=f"brixc{SLOT}",
        node_name=f"node-brixc{SLOT}",
    )
    with ControlPlane(settings, with_temporal=True) as cluster:
        cluster.kubectl("apply", "--server-side", "-k", str(CHECKOUT / "deploy" / "local"))
        yield cluster
    shutil.rmtree(home, ignore_errors=True)
