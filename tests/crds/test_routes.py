"""A model's HTTPRoute and grant, from Deployments as the API server has them (CRD cases C26, C30, C31).

Gateway API's kinds are not ours to ship: definitions that take any object stand for them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import yaml

from activities.errors import KubeError, KubeNotFound
from activities.events import EVENTS
from crds.routes import MATCHES_A_RULE, PATHS, http_route, reference_grant
from planning.model_routes import HTTP_ROUTES, REFERENCE_GRANTS, SOURCES
from tests.crds.objects import deployment, pod, stand_in
from tests.workflows.rig import World, eventually

Json = dict[str, Any]
DEPLOYMENTS = SOURCES[0]

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


# --- kept as they are asked for ---------------------------------------------------------------------------------------


async def serve(world: World, name: str, annotations: Json, **labels: str) -> None:
    manifest = deployment(annotations=annotations)
    manifest["metadata"] |= {"name": name, "namespace": world.namespace, "labels": labels}
    manifest["spec"]["replicas"] = 0
    await world.client.create(DEPLOYMENTS, world.namespace, manifest)


async def route_named(world: World, name: str) -> Json | None:
    try:
        return await world.client.get(HTTP_ROUTES, "aibrix-system", name)
    except KubeNotFound:
        return None


def backend(route: Json | None) -> str:
    return route["spec"]["rules"][0]["backendRefs"][0]["name"] if route is not None else ""


async def leads(world: World, name: str, service: str) -> Json | None:
    found = await route_named(world, name)
    return found if backend(found) == service else None


async def test_c30_c31_routes_follow_what_is_added_changed_and_deleted(world, webhooks, gateway_kinds, operator):
    model, other = f"m-{world.namespace}", f"o-{world.namespace}"
    route, grant = f"{model}-router", f"aibrix-system-reserved-referencegrant-in-{world.namespace}"
    await serve(world, "one", {SERVICE: "first", "console.aibrix.ai/deployment-id": "17"}, **{NAME: model})
    found = await eventually(lambda: leads(world, route, "first"), what="the route is made")
    assert found["metadata"]["annotations"] == {"console.aibrix.ai/deployment-id": "17"}
    assert await world.get(REFERENCE_GRANTS, grant)

    further = {SERVICE: "second", "model.aibrix.ai/model-router-custom-paths": "/foo, /bar, ,/baz/"}
    await world.patch(DEPLOYMENTS, "one", {"metadata": {"annotations": further}})
    found = await eventually(lambda: leads(world, route, "second"), what="the route follows an update")
    assert [match["path"]["value"] for match in matches(found)] == [*PATHS, "/foo", "/bar", "/baz/"]

    await world.client.patch(HTTP_ROUTES, "aibrix-system", route, {"spec": {"rules": []}})
    await eventually(lambda: leads_again(world, route, "second"), what="an edited route is put back")

    await serve(world, "two", {SERVICE: "third"}, **{NAME: model})
    await serve(world, "three", {}, **{NAME: other})
    await eventually(lambda: leads(world, f"{other}-router", other), what="another model has a route of its own")
    assert await leads(world, route, "second"), "the first keeps it"
    await world.delete(DEPLOYMENTS, "one")
    await eventually(lambda: leads(world, route, "third"), what="the route stays while another serves the model")
    await world.patch(DEPLOYMENTS, "two", {"metadata": {"labels": {NAME: None}}})
    await eventually(lambda: is_gone(world, route), what="nobody serves the model any more")
    assert await world.get(REFERENCE_GRANTS, grant), "another model of the namespace needs it"
    await world.delete(DEPLOYMENTS, "three")
    await eventually(lambda: is_gone(world, f"{other}-router"), what="its route goes")

    async def ungranted() -> bool:
        return await world.get(REFERENCE_GRANTS, grant) is None

    await eventually(ungranted, what="the grant goes with the namespace's last model")


async def leads_again(world: World, name: str, service: str) -> bool:
    found = await route_named(world, name)
    return found is not None and bool(found["spec"]["rules"]) and backend(found) == service


async def is_gone(world: World, name: str) -> bool:
    return await route_named(world, name) is None


async def test_a_strangers_route_is_left_and_aibrixs_own_are_taken_over(world, webhooks, gateway_kinds, operator):
    ours, theirs = f"a-{world.namespace}", f"s-{world.namespace}"
    made = {each: http_route({"labels": {NAME: each}, "namespace": "elsewhere"}) for each in (ours, theirs)}
    for rule in made[theirs]["spec"]["rules"]:
        rule["matches"][0].pop("headers")
    for each in made.values():
        await world.client.create(HTTP_ROUTES, "aibrix-system", each)
    try:
        await serve(world, "one", {}, **{NAME: theirs})
        await serve(world, "two", {SERVICE: "here"}, **{NAME: ours})
        await eventually(lambda: leads(world, f"{ours}-router", "here"), what="AIBrix's route is taken over")

        async def told() -> bool:
            events = await world.all(EVENTS)
            return any(each["reason"] == "ModelRouteTaken" and theirs in each["message"] for each in events)

        await eventually(told, what="an Event says that the route is somebody else's")
        assert (await route_named(world, f"{theirs}-router"))["spec"] == made[theirs]["spec"]
    finally:
        for each in made.values():
            await remove(world, each["metadata"]["name"])


async def remove(world: World, name: str) -> None:
    try:
        await world.client.call(
            "DELETE", f"/apis/gateway.networking.k8s.io/v1/namespaces/aibrix-system/httproutes/{name}"
        )
    except KubeError:
        return
