"""The control plane that all tests share: verified TLS, rights that are enforced, tokens that work, faults survived."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from local.build import bin_directory
from local.control_plane_only import ControlPlane
from local.errors import KubectlError
from local.kubeconfig import ServiceAccount, ensure_token_kubeconfig, kubectl
from local.supervisor.health import Healthy, Unhealthy, examine
from local.supervisor.part import HttpCheck

NAMESPACE = "local-room"


@pytest.fixture(scope="module")
def namespace(control_plane: ControlPlane) -> str:
    control_plane.kubectl("create", "namespace", NAMESPACE)
    control_plane.kubectl("create", "serviceaccount", "reader", "--namespace", NAMESPACE)
    return NAMESPACE


def test_it_reports_the_version_that_it_was_built_from(control_plane: ControlPlane) -> None:
    version = json.loads(control_plane.kubectl("get", "--raw", "/version"))
    assert (version["gitVersion"], version["major"], version["minor"]) == ("v1.36.3", "1", "36")


def test_kubectl_verifies_the_api_server(control_plane: ControlPlane, tmp_path: Path) -> None:
    document = json.loads(control_plane.kubeconfig.read_text())
    del document["clusters"][0]["cluster"]["certificate-authority-data"]
    trusting_nobody = tmp_path / "kubeconfig"
    trusting_nobody.write_text(json.dumps(document))
    with pytest.raises(KubectlError, match="certificate signed by unknown authority"):
        kubectl(trusting_nobody, "get", "nodes")


def test_the_service_of_the_api_server_has_the_bridge_address(control_plane: ControlPlane) -> None:
    slices = json.loads(
        control_plane.kubectl("get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes", "-o", "json")
    )
    assert slices["items"][0]["endpoints"][0]["addresses"] == [control_plane.settings.bridge_address]


def test_a_token_gives_an_account_its_own_rights_and_no_more(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    target = tmp_path / "reader.kubeconfig"
    ensure_token_kubeconfig(target, control_plane.kubeconfig, ServiceAccount(namespace, "reader"))
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KubectlError, match="forbidden"):
        kubectl(target, "get", "configmaps", "--namespace", namespace)
    control_plane.kubectl(
        "create", "rolebinding", "reads", "--clusterrole=view", f"--serviceaccount={namespace}:reader", "-n", namespace
    )
    for _ in range(50):
        if kubectl_or_refusal(target, "get", "configmaps", "--namespace", namespace):
            break
        time.sleep(0.1)
    assert "kube-root-ca.crt" in kubectl(target, "get", "configmaps", "--namespace", namespace)


def kubectl_or_refusal(kubeconfig: Path, *arguments: str) -> str:
    try:
        return kubectl(kubeconfig, *arguments)
    except KubectlError:
        return ""


def test_a_token_that_works_is_kept_and_a_dead_one_replaced(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    target, account = tmp_path / "passing.kubeconfig", ServiceAccount(namespace, "passing")
    control_plane.kubectl("create", "serviceaccount", "passing", "--namespace", namespace)
    ensure_token_kubeconfig(target, control_plane.kubeconfig, account)
    first = target.read_bytes()
    ensure_token_kubeconfig(target, control_plane.kubeconfig, account)
    assert target.read_bytes() == first
    control_plane.kubectl("delete", "serviceaccount", "passing", "--namespace", namespace)
    control_plane.kubectl("create", "serviceaccount", "passing", "--namespace", namespace)
    ensure_token_kubeconfig(target, control_plane.kubeconfig, account)
    assert target.read_bytes() != first
    assert kubectl(target, "auth", "whoami").split()[-1]


def test_a_missing_account_is_said(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    with pytest.raises(KubectlError, match='"nobody" not found'):
        ensure_token_kubeconfig(tmp_path / "x", control_plane.kubeconfig, ServiceAccount(namespace, "nobody"))


def test_a_node_may_not_write_for_another_one(control_plane: ControlPlane) -> None:
    other = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}}
    with pytest.raises(KubectlError, match=r"is not allowed to modify node|cannot create"):
        kubectl(control_plane.node_kubeconfig, "create", "-f", "-", stdin=json.dumps(other))


async def test_etcd_refuses_who_has_no_certificate_of_its_authority(control_plane: ControlPlane) -> None:
    url, pki = f"https://127.0.0.1:{control_plane.settings.etcd_port}/health", str(control_plane.settings.pki)
    refused = [
        HttpCheck(url, f"{pki}/etcd-ca.crt"),
        HttpCheck(url, f"{pki}/etcd-ca.crt", f"{pki}/admin.crt", f"{pki}/admin.key"),
    ]
    assert [type(await examine(check)) for check in refused] == [Unhealthy, Unhealthy]
    known = HttpCheck(url, f"{pki}/etcd-ca.crt", f"{pki}/etcd-client.crt", f"{pki}/etcd-client.key")
    assert await examine(known) == Healthy()


def test_objects_and_histories_survive_kills_of_their_stores(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "configmap", "kept", "--namespace", namespace)
    start_workflow(control_plane, "kept")
    for part in ("etcd", "api-server", "temporal"):
        control_plane.supervisor.by_hand("kill", part)
        control_plane.supervisor.by_hand("start", part)
    for part in control_plane.supervisor.status():
        control_plane.supervisor.by_hand("start", part["name"])
    assert "kept" in control_plane.kubectl("get", "configmap", "kept", "--namespace", namespace)
    assert "kept" in temporal(control_plane, "workflow", "describe", "--workflow-id", "kept")


def test_controllers_live_through_an_outage_of_the_api_server(control_plane: ControlPlane) -> None:
    before = {part["name"]: part["pid"] for part in control_plane.supervisor.status()}
    control_plane.supervisor.by_hand("kill", "api-server", hold_seconds=600)
    time.sleep(3)
    control_plane.supervisor.by_hand("start", "api-server")
    after = {part["name"]: part["pid"] for part in control_plane.supervisor.status()}
    assert {name for name in before if before[name] != after[name]} == {"api-server"}


def start_workflow(control_plane: ControlPlane, name: str) -> None:
    temporal(control_plane, "workflow", "start", "--type", "none", "--task-queue", "none", "--workflow-id", name)


def temporal(control_plane: ControlPlane, *arguments: str) -> str:
    command = [str(bin_directory() / "temporal"), *arguments, "--address", control_plane.temporal_address]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
