"""The look at the machine: each lack is one line with a remedy, and nothing else is called a lack."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import local.preflight
from local.errors import UpError
from local.listeners import is_free, listener_on
from local.preflight import Finding, examine_machine, examine_port
from local.settings import LocalSettings, Port
from local.up import _refuse_lacks


def of(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


@pytest.fixture
def taken() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_said_with_its_holder_and_the_variable_that_moves_it(taken: int) -> None:
    finding = examine_port(Port("BRIXFLOW_GATEWAY_PORT", taken, "envoy"), own_sessions=())
    assert finding.name == f"port {taken}"
    assert (
        f"wanted by envoy, taken by {Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})" in finding.text
    )
    assert "BRIXFLOW_GATEWAY_PORT" in finding.remedy


def test_a_port_that_our_own_part_holds_is_no_lack(taken: int) -> None:
    finding = examine_port(Port("BRIXFLOW_GATEWAY_PORT", taken, "envoy"), own_sessions=(os.getsid(0),))
    assert not finding.is_lack


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)
    assert listener_on(port) is None


def test_a_listener_on_another_address_counts(taken: int) -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        assert not is_free(listener.getsockname()[1])


def test_missing_root_gcc_and_memory_are_one_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(local.preflight, "_available_memory", lambda: 1024**3)
    findings = examine_machine(LocalSettings(home=tmp_path))
    assert "sudo" in of(findings, "root").remedy
    assert "gcc" in of(findings, "gcc").remedy
    assert of(findings, "memory").text == "1.0 GiB available"
    with pytest.raises(UpError) as refusal:
        _refuse_lacks(findings)
    lines = str(refusal.value).splitlines()
    assert [line.split(":")[0] for line in lines][:3] == ["root", "gcc", "memory"]


def test_a_running_system_needs_no_second_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local.preflight, "_available_memory", lambda: 1024**3)
    assert not of(examine_machine(LocalSettings(home=tmp_path), own_sessions=(1,)), "memory").is_lack


def test_an_existing_cluster_needs_no_go_and_no_ports_of_its_own(tmp_path: Path) -> None:
    findings = examine_machine(LocalSettings(home=tmp_path, external_kubeconfig=tmp_path / "theirs"))
    assert not of(findings, "go").is_lack
    assert "port 16443" not in {finding.name for finding in findings}
    assert "port 10250" not in {finding.name for finding in findings}
