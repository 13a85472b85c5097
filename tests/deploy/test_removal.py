"""A cluster of its own from the first `kubectl apply` to removal: what users made stays (deployment cases D1, D4, D5).

The kinds of Gateway API and Envoy Gateway are not ours to ship: definitions that take any object stand for theirs.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from local.control_plane_only import ControlPlane
from local.errors import KubectlError
from local.settings import LocalSettings
from tests.crds.objects import stand_in
from tests.crds.test_kinds import OBJECTS
from tests.slot import SLOT

DEPLOY = Path(__file__).parents[2] / "deploy"
GONE_SECONDS = 120.0
FOREIGN = {
    "gatewayclasses.gateway.networking.k8s.io": ("v1", "GatewayClass", "Cluster"),
    "gateways.gateway.networking.k8s.io": ("v1", "Gateway", "Namespaced"),
    "httproutes.gateway.networking.k8s.io": ("v1", "HTTPRoute", "Namespaced"),
    "envoyproxies.gateway.envoyproxy.io": ("v1alpha1", "EnvoyProxy", "Namespaced"),
    "envoyextensionpolicies.gateway.envoyproxy.io": ("v1alpha1", "EnvoyExtensionPolicy", "Namespaced"),
    "envoypatchpolicies.gateway.envoyproxy.io": ("v1alpha1", "EnvoyPatchPolicy", "Namespaced"),
    "clienttrafficpolicies.gateway.envoyproxy.io": ("v1alpha1", "ClientTrafficPolicy", "Namespaced"),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    home = DEPLOY.parent / ".brixflow-test" / f"removal-{SLOT}"
    shutil.rmtree(home, ignore_errors=True)
    with ControlPlane(LocalSettings.beside(home, SLOT + 8)) as found:
        install(found)
        yield found
    shutil.rmtree(home, ignore_errors=True)


def apply(cluster: ControlPlane, folder: str) -> None:
    cluster.kubectl("apply", "--server-side", "-k", str(DEPLOY / folder))


def test_no_kustomization_is_forgotten():
    """`base` and `workloads` are the parts of `default`; `local` is what every other test of this project runs on."""
    folders = {path.parent.name for path in DEPLOY.glob("*/kustomization.yaml")}
    assert folders == {"crds", "default", "redis", "gateway", "gateway-module"} | {"base", "workloads", "local"}


def install(cluster: ControlPlane) -> None:
    """In the order of docs/admission.md; each folder once."""
    foreign = [stand_in(name, *rest) for name, rest in FOREIGN.items()]
    cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(foreign))
    apply(cluster, "crds")
    cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=50s")
    for folder in ("default", "redis", "gateway"):
        apply(cluster, folder)


def uids(cluster: ControlPlane) -> dict[str, str]:
    found = json.loads(cluster.kubectl("get", "aibrix", "-n", "default", "-o", "json"))["items"]
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["uid"] for each in found}


def test_d1_all_is_applied_server_side_to_an_empty_cluster_and_again(cluster):
    apply(cluster, "gateway")
    applied = cluster.kubectl("get", "deployments,services", "-n", "aibrix-system", "-o", "name").split()
    for name in ("aibrix-controller-manager", "aibrix-gateway-plugins", "aibrix-redis-master"):
        assert f"deployment.apps/{name}" in applied
    assert "service/aibrix-metadata-service" in applied


def test_without_envoy_gateways_kinds_nothing_but_its_objects_is_missed(cluster):
    """Sample case L8: an unknown kind is refused by the API server, and all else goes on."""
    cluster.kubectl("delete", "crd", "httproutes.gateway.networking.k8s.io")
    with pytest.raises(KubectlError, match="httproutes"):
        apply(cluster, "gateway")
    apply(cluster, "default")


@pytest.fixture(scope="module")
def removed(cluster) -> dict[str, str]:
    """What users had made when the core was deleted, with finalizers that nobody is left to take away."""
    made = []
    for each in OBJECTS.values():
        metadata = {"name": "kept", "namespace": "default", "finalizers": ["test.brixflow/keep"]}
        made.append(each | {"metadata": metadata})
    cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(made))
    before = uids(cluster)
    assert len(before) == len(OBJECTS)
    for folder in ("redis", "default"):
        cluster.kubectl("delete", "-k", str(DEPLOY / folder), "--wait=false")
    return before


def test_d4_what_users_made_outlives_the_core(cluster, removed):
    assert "aibrix-controller-manager-role\n" not in cluster.kubectl("get", "clusterrole", "-o", "name")
    assert uids(cluster) == removed
    going = "{range .items[*]}{.metadata.deletionTimestamp}{end}"
    assert cluster.kubectl("get", "aibrix", "-n", "default", "-o", f"jsonpath={going}") == ""


@pytest.mark.slow
def test_d5_the_core_comes_back_to_the_same_objects(cluster, removed):
    """The namespace takes about ten seconds to go."""
    deadline = time.monotonic() + GONE_SECONDS
    while "aibrix-system" in cluster.kubectl("get", "namespaces", "-o", "name"):
        assert time.monotonic() < deadline, "the namespace does not go"
        time.sleep(0.5)
    apply(cluster, "default")
    assert uids(cluster) == removed
    stays = cluster.kubectl("get", "clusterrole,validatingwebhookconfiguration", "-o", "name")
    assert "validatingwebhookconfiguration.admissionregistration.k8s.io/aibrix-validating" in stays
