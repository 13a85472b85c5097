"""One whole system for all tests of this folder, brought up by the command that users type, beside any that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.settings import LocalSettings
from tests.system.harness import BASE_PORT, System, system_environment


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """The system of `brixflow up` in a home and on ports of its own; `down --purge` at the end."""
    home = Path(__file__).parents[2] / ".brixflow-test" / "system"
    environment = system_environment(home, BASE_PORT, bridge="brixt0", third_octet=128)
    running = System(environment, LocalSettings.from_environment(environment))
    running.brixflow("down", "--purge", check=False)
    try:
        running.up_output = running.brixflow("up", timeout=1200)
        running.first_parts = {name: part["pid"] for name, part in running.parts().items()}
        yield running
    finally:
        running.brixflow("down", "--purge", check=False)


@pytest.fixture
def service(system: System, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a StormService that a test may create; whatever is left of it is deleted."""
    name = "t-" + request.node.name.removeprefix("test_").split("[")[0].replace("_", "-")[:30].strip("-")
    yield name
    system.kubectl("delete", "stormservice", name, "--ignore-not-found", "--timeout=60s", check=False)
