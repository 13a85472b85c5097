"""What the operator and the gateway may do, asked of a real API server."""

from __future__ import annotations

import time

import pytest

from local.kubeconfig import KubectlError

OPERATOR = "system:serviceaccount:aibrix-system:aibrix-controller-manager"
SEEN_SECONDS = 20.0
GATEWAY = "system:serviceaccount:aibrix-system:aibrix-gateway-plugins"


def may(control_plane, who: str, verb: str, resource: str, namespace: str = "default") -> bool:
    resource, _, sub = resource.partition("/")
    command = ["auth", "can-i", verb, resource, "-n", namespace, f"--as={who}"]
    try:
        answer = control_plane.kubectl(*command, *([f"--subresource={sub}"] if sub else []))
    except KubectlError:
        return False
    return answer.strip().endswith("yes")


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("patch", "stormservices.orchestration.aibrix.ai"),
        ("create", "rolesets.orchestration.aibrix.ai"),
        ("patch", "stormservices.orchestration.aibrix.ai/status"),
        ("patch", "rolesets.orchestration.aibrix.ai/status"),
        ("delete", "rolesets.orchestration.aibrix.ai"),
        ("create", "podsets.orchestration.aibrix.ai"),
        ("patch", "podsets.orchestration.aibrix.ai/status"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "services"),
        ("update", "controllerrevisions.apps"),
        ("create", "events"),
        ("patch", "podautoscalers.autoscaling.aibrix.ai/status"),
        ("watch", "deployments.apps"),
        ("patch", "rayclusterreplicasets.orchestration.aibrix.ai"),
    ],
)
def test_the_operator_may_do_its_work(control_plane, verb, resource):
    """A busy API server takes a moment to see the roles that were just applied."""
    deadline = time.monotonic() + SEEN_SECONDS
    while not may(control_plane, OPERATOR, verb, resource):
        assert time.monotonic() < deadline, f"{verb} {resource}"


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("create", "stormservices.orchestration.aibrix.ai"),
        ("delete", "stormservices.orchestration.aibrix.ai"),
        ("get", "secrets"),
        ("create", "pods/exec"),
        ("delete", "services"),
        ("update", "leases.coordination.k8s.io"),
        ("list", "nodes"),
        ("patch", "deployments.apps"),
        ("patch", "podautoscalers.autoscaling.aibrix.ai"),
    ],
)
def test_the_operator_may_do_no_more(control_plane, verb, resource):
    assert not may(control_plane, OPERATOR, verb, resource)


def test_the_operator_keeps_its_own_certificate_and_no_other_secret(control_plane):
    secret = "secrets/aibrix-webhook-server-cert"
    for verb in ("get", "update"):
        command = ["auth", "can-i", verb, secret, "-n", "aibrix-system", f"--as={OPERATOR}"]
        assert control_plane.kubectl(*command).strip() == "yes"
    assert not may(control_plane, OPERATOR, "get", "secrets", "aibrix-system")
    assert not may(control_plane, OPERATOR, "patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io")


def test_the_operator_holds_a_lease_in_its_own_namespace(control_plane):
    assert may(control_plane, OPERATOR, "update", "leases.coordination.k8s.io", "aibrix-system")


@pytest.mark.parametrize("resource", ["pods", "endpointslices.discovery.k8s.io"])
def test_the_gateway_reads_and_writes_nothing(control_plane, resource):
    assert may(control_plane, GATEWAY, "watch", resource)
    assert not may(control_plane, GATEWAY, "patch", resource)
    assert not may(control_plane, GATEWAY, "get", "secrets")
