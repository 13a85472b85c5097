"""One whole system for all tests of this folder, brought up by the command that users type, beside any that runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.settings import LocalSettings
from tests.slot import SLOT
from tests.system.harness import System


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """The system of `brixflow up` in a home and on ports of its own; `down --purge` at the end."""
    home = Path(__file__).parents[2] / ".brixflow-test" / f"system-{SLOT}"
    settings = LocalSettings.beside(home, SLOT + 8)
    more = {"KUBECONFIG": str(settings.kubeconfig), "BRIXFLOW_WATCH_HEARTBEAT_SECONDS": "2"}
    running = System({**os.environ, **settings.environment(), **more}, settings)
    running.brixflow("down", "--purge", check=False)
    try:
        running.up_output = running.brixflow("up", timeout=1200)
        running.first_parts = {name: part["pid"] for name, part in running.parts().items()}
        yield running
    finally:
        running.brixflow("down", "--purge", check=False)


@pytest.fixture
def service(system: System, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a StormService that a test may create; what is left of it goes while the next test begins."""
    name = "t-" + request.node.name.removeprefix("test_").split("[")[0].replace("_", "-")[:30].strip("-")
    yield name
    system.kubectl("delete", "stormservice", name, "--ignore-not-found", "--wait=false", check=False)
