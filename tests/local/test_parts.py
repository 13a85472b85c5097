"""What the parts are told: only their settings, the user's own variables where they may differ, nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from local.parts.control_plane import ControlPlaneFiles, control_plane
from local.parts.envoy import envoy, envoy_values, write_envoy_config
from local.parts.python import gateway, node_agent, operator
from local.parts.temporal import temporal
from local.pki import Pki
from local.sample import curl_line, services
from local.settings import LocalSettings


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return LocalSettings(home=tmp_path)


def flags_of(settings: LocalSettings, name: str) -> set[str]:
    parts = control_plane(settings, ControlPlaneFiles(Path("/binary"), Pki(settings.pki)))
    return set(next(part for part in parts if part.name == name).command)


def test_the_api_server_enforces_rights_and_verifies_nodes(settings: LocalSettings) -> None:
    flags = flags_of(settings, "api-server")
    assert {"--authorization-mode=Node,RBAC", "--enable-aggregator-routing=true"} <= flags
    assert f"--kubelet-certificate-authority={settings.pki}/ca.crt" in flags
    assert not any("audit" in flag for flag in flags)


def test_only_the_api_server_listens_beyond_this_machine(settings: LocalSettings) -> None:
    assert "--bind-address=127.0.0.1" in flags_of(settings, "controller-manager")
    assert "--bind-address=127.0.0.1" in flags_of(settings, "scheduler")
    assert f"--listen-client-urls=https://127.0.0.1:{settings.etcd_port}" in flags_of(settings, "etcd")
    assert "--ip=127.0.0.1" in temporal(settings).command


def test_nothing_of_the_shell_reaches_a_part_unasked(settings: LocalSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("KUBECONFIG", "/theirs")
    for part in (node_agent(settings), operator(settings), gateway(settings)):
        assert "HTTPS_PROXY" not in part.environment
        assert part.environment["KUBECONFIG"] != "/theirs"


def test_what_the_user_sets_for_a_part_reaches_that_part(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gateway(settings).environment["ROUTING_ALGORITHM"] == "least-request"
    monkeypatch.setenv("ROUTING_ALGORITHM", "random")
    monkeypatch.setenv("BRIXFLOW_NODE_GPUS", "2")
    assert gateway(settings).environment["ROUTING_ALGORITHM"] == "random"
    assert node_agent(settings).environment["BRIXFLOW_NODE_GPUS"] == "2"
    assert "ROUTING_ALGORITHM" not in operator(settings).environment


def test_credentials_for_temporal_count_only_for_an_existing_one(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "elsewhere:7233")
    assert "TEMPORAL_API_KEY" not in operator(settings).environment
    theirs = operator(replace(settings, external_temporal="theirs:7233")).environment
    assert (theirs["TEMPORAL_API_KEY"], theirs["TEMPORAL_ADDRESS"]) == ("secret", "theirs:7233")


def test_a_moved_port_changes_just_the_parts_that_use_it(settings: LocalSettings) -> None:
    moved = replace(settings, operator_health_port=1)
    assert operator(moved).fingerprint != operator(settings).fingerprint
    assert gateway(moved).fingerprint == gateway(settings).fingerprint
    assert temporal(moved).fingerprint == temporal(settings).fingerprint


def test_envoy_reaches_every_process_of_the_gateway(settings: LocalSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIXFLOW_GATEWAY_PROCESSES", "3")
    monkeypatch.setenv("BRIXFLOW_GATEWAY_HOST", "grpc")
    folder = settings.segment_path.parent
    assert list(envoy_values(settings).ext_proc) == [f"unix:{folder}/ext_proc-{number}.sock" for number in range(3)]


def test_one_setting_chooses_where_requests_are_decided(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_envoy_config(settings)
    assert envoy_values(settings).segment == settings.segment_path
    assert "ENVOY_DYNAMIC_MODULES_SEARCH_PATH" in envoy(settings).environment
    inside = gateway(settings).fingerprint
    monkeypatch.setenv("BRIXFLOW_GATEWAY_HOST", "grpc")
    assert "ENVOY_DYNAMIC_MODULES_SEARCH_PATH" not in envoy(settings).environment
    assert gateway(settings).fingerprint != inside


def test_the_curl_line_can_be_pasted(settings: LocalSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    line = curl_line(settings, services()[0].model)
    assert line.startswith(f"curl -i http://127.0.0.1:{settings.gateway_port}/v1/chat/completions ")
    assert '"model": "llama2-7b"' in line
    assert "Authorization" not in line
    monkeypatch.setenv("AIBRIX_AUTH_BEARER_TOKEN", "key")
    assert "$AIBRIX_AUTH_BEARER_TOKEN" in curl_line(settings, "llama2-7b")
    assert os.environ["AIBRIX_AUTH_BEARER_TOKEN"] not in curl_line(settings, "llama2-7b").split("Bearer ")[0]
