"""The local system as a thing that is started, looked at and put away."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.system.harness import System, eventually

pytestmark = pytest.mark.system
PARTS = {
    "etcd", "api-server", "controller-manager", "scheduler", "temporal", "node-agent", "operator", "gateway", "envoy",
}  # fmt: skip


def test_up_says_where_everything_is(system: System) -> None:
    for text in ("/v1/chat/completions", f"127.0.0.1:{system.settings.temporal_ui_port}", "export KUBECONFIG="):
        assert text in system.up_output
    assert "rollout" in system.up_output


def test_a_second_up_changes_nothing(system: System) -> None:
    before = {name: part["pid"] for name, part in system.parts().items()}
    system.brixflow("up")
    assert {name: part["pid"] for name, part in system.parts().items()} == before


def test_status_names_every_part_and_its_health(system: System) -> None:
    parts = system.parts()
    assert set(parts) == PARTS
    assert all(part["healthy"] for part in parts.values()), parts


def test_the_hierarchy_shows_its_columns(system: System) -> None:
    table = system.kubectl("get", "stormservices")
    assert {"NAME", "REPLICAS", "READY", "PAUSED", "AGE"} <= set(table.splitlines()[0].split())
    assert "READY" in system.kubectl("get", "rolesets").splitlines()[0]
    pods = system.pods("llama2-7b")
    assert {pod["metadata"]["labels"]["storm-service-name"] for pod in pods} == {"llama2-7b"}
    log = system.kubectl("logs", pods[0]["metadata"]["name"])
    assert log.strip()


def test_operator_and_gateway_have_only_the_shipped_rights(system: System) -> None:
    for account in ("operator", "gateway"):
        arguments = ["kubectl", "--kubeconfig", str(system.settings.home / f"{account}.kubeconfig"), "auth", "can-i"]
        assert system.run(*arguments, "get", "secrets", "-A", check=False).strip() == "no"
        assert system.run(*arguments, "list", "pods", "-A").strip() == "yes"


def lasting(system: System) -> dict[str, str]:
    """Uids of the StormServices that no earlier test has deleted."""
    found = [item["metadata"] for item in system.get("stormservices")["items"]]
    return {each["name"]: each["uid"] for each in found if "deletionTimestamp" not in each}


def test_down_leaves_nothing_and_up_finds_its_state_again(system: System) -> None:
    uids = lasting(system)
    system.brixflow("down")
    assert (
        system.settings.bridge not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    )
    assert str(system.settings.home) not in Path("/proc/mounts").read_text()
    assert not processes_of(system.settings.home)
    system.brixflow("up", timeout=300)
    again = lasting(system)
    assert again == uids
    history = system.run(
        "temporal", "workflow", "list", "--address", f"127.0.0.1:{system.settings.temporal_port}", "-o", "json"
    )
    assert any(item["execution"]["workflowId"].startswith("rollout/") for item in json.loads(history))
    eventually(lambda: all(part["healthy"] for part in system.parts().values()))


def processes_of(home: Path) -> list[str]:
    """Command lines of processes that mention the home, but for this test run's own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if str(home) in command and "pytest" not in command:
                found.append(command)
    return found
