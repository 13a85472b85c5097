"""One part of the whole system after the other is killed under load: only what was on a killed part fails."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import pytest

from tests.system.harness import System, eventually, service_manifest
from tests.system.load import SteadyLoad

logger = logging.getLogger(__name__)
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]
PARTS = ("api-server", "etcd", "temporal", "operator")
"""Killed whole, in this order; of the gateway, its processes one by one."""
SETTLE_SECONDS = 3.0
RATE = 20


def children(system: System) -> dict[str, int]:
    """The gateway's own processes by what they run: `collector`, and `ext_proc 0` and so on."""
    parent = system.parts()["gateway"]["pid"]
    found = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        module = next(word for word in words if word.startswith("gateway."))
        found[" ".join([module.removeprefix("gateway."), *words[words.index(module) + 1 :]]).strip()] = int(pid)
    return found


def killed_and_back(system: System, name: str) -> float:
    """Kill one process of the gateway and wait for the one that follows it; when it was killed."""
    pid = children(system)[name]
    os.kill(pid, signal.SIGKILL)
    killed = time.time()
    eventually(lambda: children(system).get(name, pid) != pid)
    time.sleep(SETTLE_SECONDS)
    return killed


@pytest.mark.parametrize("host", ["module", "grpc"])
def test_no_request_fails_but_those_on_a_killed_part(system: System, service: str, host: str) -> None:
    system.environment["BRIXFLOW_GATEWAY_HOST"] = host
    try:
        system.brixflow("up")
        system.apply(service_manifest(service, 2))
        system.wait_ready(service)
        with SteadyLoad(system.endpoint, service, rate=RATE) as load:
            for part in PARTS:
                system.brixflow("kill", part)
                time.sleep(SETTLE_SECONDS)
                eventually(lambda part=part: system.parts()[part]["healthy"])
            killed_and_back(system, "collector")
            assert load.failures == 0, load.details
            killed = killed_and_back(system, "ext_proc 0") if host == "grpc" else 0.0
        logger.info("event=killed_all host=%s outcomes=%s", host, dict(load.outcomes))
        assert all(began < killed for began in load.failed), load.details
        assert load.outcomes["200"] > 20 * RATE
    finally:
        del system.environment["BRIXFLOW_GATEWAY_HOST"]
        system.brixflow("up")
