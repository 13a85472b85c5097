"""The real parts that the rooms' tests share: one control plane with Temporal a session, our resources installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from local.cluster import OPERATOR_ACCOUNT
from local.control_plane_only import ControlPlane
from local.kubeconfig import ensure_token_kubeconfig
from local.settings import LocalSettings
from tests.slot import SLOT

CHECKOUT = Path(__file__).parents[1]

settings.register_profile(
    "steady", derandomize=True
)  # the same examples each time: `make test` is green or red, never both
settings.register_profile("search", max_examples=1_000)  # `make soak` looks further
settings.load_profile(os.environ.get("BRIXFLOW_HYPOTHESIS", "steady"))


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, API server, controller manager, scheduler and Temporal in a home of their own; no node, no operator.

    `settings.operator_kubeconfig` is that of the operator's own ServiceAccount, with just the rights that are shipped.
    """
    home = CHECKOUT / ".brixflow-test" / f"control-plane-{SLOT}"
    shutil.rmtree(home, ignore_errors=True)
    settings = LocalSettings.beside(home, SLOT)
    with ControlPlane(settings, with_temporal=True) as cluster:
        cluster.kubectl("apply", "--server-side", "-k", str(CHECKOUT / "deploy" / "local"))
        ensure_token_kubeconfig(settings.operator_kubeconfig, settings.kubeconfig, OPERATOR_ACCOUNT)
        yield cluster
    shutil.rmtree(home, ignore_errors=True)
