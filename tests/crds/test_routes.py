"""A model's HTTPRoute and grant, from Deployments as the API server has them (CRD cases C26, C30, C31).

Gateway API's kinds are not ours to ship: definitions that take any object stand for them.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml

from crds.routes import MATCHES_A_RULE, PATHS, http_route, reference_grant
from tests.crds.objects import deployment, pod, stand_in

NAME, SERVICE = "model.aibrix.ai/name", "model.aibrix.ai/service-name"
MANAGED_BY = "app.kubernetes.io/managed-by"
CONSOLE = {
    NAME: "/models/mock", SERVICE: "console-mock-svc", "console.aibrix.ai/deployment-id": "17",
    "console.aibrix.ai/deployment-name": "mock", "console.aibrix.ai/owner": "somebody",
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway_kinds(control_plane):
    kinds = (
        stand_in("httproutes.gateway.networking.k8s.io", "v1", "HTTPRoute"),
        stand_in("referencegrants.gateway.networking.k8s.io", "v1beta1", "ReferenceGrant"),
    )
    manifests = yaml.safe_dump_all(kinds)
    control_plane.kubectl("apply", "--server-side", "-f", "-", input=manifests)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=50s", "-f", "-", input=manifests)
    yield
    control_plane.kubectl("delete", "-f", "-", "--wait=false", input=manifests)


def metadata(api, labels=None, annotations=None) -> dict:
    manifest = deployment(annotations=annotations or {})
    manifest["metadata"] |= {"labels": labels or {}, "namespace": "default"}
    reply = api.ask(manifest)
    assert reply.accepted, reply.message
    return reply.body["metadata"]


def matches(route: dict) -> list[dict]:
    return [match for rule in route["spec"]["rules"] for match in rule["matches"]]


def test_c30_a_consoles_deployment_gets_one_route_and_its_namespace_a_grant(api, webhooks, gateway_kinds):
    found = metadata(api, {MANAGED_BY: "aibrix-console"}, CONSOLE)
    route, grant = http_route(found), reference_grant(found["namespace"])
    for each in (route, grant):
        reply = api.ask(each)
        assert reply.accepted, reply.message
    assert route["metadata"]["namespace"] == "aibrix-system"
    assert route["metadata"]["labels"] == {MANAGED_BY: "aibrix-console"}
    assert route["metadata"]["annotations"] == {
        "console.aibrix.ai/deployment-id": "17", "console.aibrix.ai/deployment-name": "mock",
    }  # fmt: skip
    backends = [backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]]
    assert {tuple(each.values()) for each in backends} == {("console-mock-svc", "default", 8000)}
    assert all(
        match["headers"] == [{"type": "Exact", "name": "model", "value": "/models/mock"}] for match in matches(route)
    )
    assert grant["metadata"] == {"name": "aibrix-system-reserved-referencegrant-in-default", "namespace": "default"}
    assert grant["spec"]["to"] == [{"group": "", "kind": "Service"}]


def test_c31_further_paths_are_matched_for_the_model_only(api, webhooks):
    further = {NAME: "m", "model.aibrix.ai/model-router-custom-paths": "/foo, /bar, ,/baz/"}
    route = http_route(metadata(api, annotations=further))
    assert [match["path"]["value"] for match in matches(route)] == [*PATHS, "/foo", "/bar", "/baz/"]
    assert all(match["path"]["type"] == "PathPrefix" for match in matches(route))
    assert all(match["headers"][0]["value"] == "m" for match in matches(route))
    assert all(len(rule["matches"]) <= MATCHES_A_RULE for rule in route["spec"]["rules"])


def test_labels_name_model_and_port_and_others_marks_are_left(api, webhooks):
    labels = {NAME: "llama2-7b", "model.aibrix.ai/port": "9000", MANAGED_BY: "helm"}
    route = http_route(metadata(api, labels, {NAME: "other"}), timedelta(seconds=30))
    assert route["metadata"] == {"name": "llama2-7b-router", "namespace": "aibrix-system"}
    rule = route["spec"]["rules"][0]
    assert rule["backendRefs"] == [{"name": "llama2-7b", "namespace": "default", "port": 9000}]
    assert rule["timeouts"] == {"request": "30s"}


def test_what_is_no_model_has_no_route_and_the_gateways_own_namespace_no_grant(api):
    assert http_route(api.ask(pod()).body["metadata"]) is None
    assert reference_grant("aibrix-system") is None
