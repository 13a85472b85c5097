"""Requests without a strategy: the HTTPRoute of their model, and what the gateway says of it (gateway 4.10).

Envoy has a route by header `model` here, as Envoy Gateway makes one of each HTTPRoute; it leads to one engine.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from gateway.envoy import EnvoyValues
from gateway.settings import Host
from tests.crds.objects import stand_in
from tests.gateway.parts import ENGINE_PORT, Engine, eventually
from tests.gateway.rig import ControlPlane, Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
NAMESPACE = "aibrix-system"
WELL = [{"type": "Accepted", "reason": "Accepted"}, {"type": "ResolvedRefs", "reason": "ResolvedRefs"}]
UNRESOLVED = {"type": "ResolvedRefs", "reason": "BackendNotFound"}
UNACCEPTED = {"type": "Accepted", "reason": "NoMatchingParent"}


def leading_to(engine: Engine) -> type[Rig]:
    """A rig whose Envoy takes every model's Service for this engine."""

    class Routed(Rig):
        def envoy_config(self, values: EnvoyValues) -> str:
            config = yaml.safe_load(super().envoy_config(values))
            route = next(each for each in _routes(config) if _is_of_models(each))
            del route["direct_response"]
            route["route"] = {"cluster": "service", "timeout": "0s"}
            config["static_resources"]["clusters"].append(_service(engine))
            return yaml.safe_dump(config)

    return Routed


def _routes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "match" in tree and "direct_response" in tree:
            yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for each in tree:
            yield from _routes(each)


def _is_of_models(route: Mapping[str, Any]) -> bool:
    return any(header["name"] == "model" for header in route["match"].get("headers", ()))


def _service(engine: Engine) -> dict[str, Any]:
    address = {"socket_address": {"address": engine.host, "port_value": ENGINE_PORT}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": "service", "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "service", "endpoints": endpoints},
    }  # fmt: skip


@pytest.fixture(scope="module")
def routes(control_plane: ControlPlane) -> Iterator[None]:
    kind = yaml.safe_dump(stand_in("httproutes.gateway.networking.k8s.io", "v1", "HTTPRoute"))
    control_plane.kubectl("apply", "--server-side", "-f", "-", input=kind)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=50s", "-f", "-", input=kind)
    yield
    control_plane.kubectl("delete", "-f", "-", "--wait=true", input=kind)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(routes: None, control_plane: ControlPlane, engines: list[Engine], host: Host) -> AsyncIterator[Rig]:
    kind = leading_to(engines[0])
    async with kind.running(control_plane, host, ROUTING_ALGORITHM="", BRIXFLOW_GATEWAY_PROCESSES="1") as running:
        yield running


def say(rig: Rig, name: str, parents: list[list[dict[str, str]]] | None) -> None:
    """Have an HTTPRoute of this name, with these conditions of each parent; no status at all without."""
    route: dict[str, Any] = {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": NAMESPACE},
    }  # fmt: skip
    if parents is not None:
        route["status"] = {"parents": [{"conditions": conditions} for conditions in parents]}
    rig.control_plane.kubectl("apply", "-f", "-", input=json.dumps(route))


async def told(client: aiohttp.ClientSession, model: str, within: float = 30, **headers: str) -> tuple[int, str]:
    """Status and message of a chat without a strategy; empty when an engine answered."""
    patience = aiohttp.ClientTimeout(total=within)
    async with client.post(CHAT, json=chat(model), headers=headers, timeout=patience) as answer:
        if answer.status == 200:
            return 200, ""
        error = (await answer.json())["error"]
        assert (answer.headers["x-error-routing"], error["code"]) == ("true", "service_unavailable")
        return answer.status, error["message"]


async def become(client: aiohttp.ClientSession, model: str, expected: tuple[int, str], **headers: str) -> None:
    """Ask until this is the answer; an engine that a test holds must not hold the test."""

    async def is_so() -> bool:
        found = await told(client, model, 1, **headers)
        assert found == expected, found
        return True

    await eventually(is_so)


async def test_a_route_that_cannot_be_used_is_told_until_it_can(  # 49, 50
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[1].host)
    await rig.routable(model, 1)
    name, here = f"{model}-router", f"httproute: {NAMESPACE}/{model}-router"
    not_accepted = f"{here}, route is not accepted: NoMatchingParent."
    not_resolved = f"{here}, route's object references are not resolved: BackendNotFound."
    assert await told(client, model) == (503, f'httproutes.gateway.networking.k8s.io "{name}" not found')
    assert (await told(client, model, **{"routing-strategy": "random"}))[0] == 200
    for parents, message in (
        (None, ""),
        ([[]], f"{here}, does not have valid status"),
        ([WELL], ""),
        ([[UNACCEPTED, WELL[1]]], not_accepted),
        ([WELL, [UNACCEPTED, UNRESOLVED], [], [UNRESOLVED]],
         f"{not_accepted}, {not_resolved}, {here}, does not have valid status"),
        ([WELL, WELL], ""),
    ):  # fmt: skip
        say(rig, name, parents)
        await become(client, model, (503, message) if message else (200, ""), **{"external-filter": "not one ("})
    sent = (await engines[0].seen())[-1]["headers"]
    assert sent["model"] == model
    assert "target-pod" not in sent


async def test_the_api_server_is_not_asked_for_each_request(  # 51
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[1].host)
    await rig.routable(model, 1)
    say(rig, f"{model}-router", [WELL])
    await become(client, model, (200, ""))
    async with rig.gate.away():
        assert {await told(client, model) for _ in range(20)} == {(200, "")}
        say(rig, f"{model}-router", [[UNRESOLVED]])
        assert await told(client, model) == (200, "")
    text = f"httproute: {NAMESPACE}/{model}-router, route's object references are not resolved: BackendNotFound."
    await become(client, model, (503, text))


async def test_a_name_that_no_route_can_have_is_made_one(  # 52
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    end = model.rpartition("-")[2] + model.split("-")[-2]
    named = f"Models_{end}.Mock"
    digest = hashlib.sha256(named.encode()).hexdigest()[:12]
    name = f"models-{end}-mock-{digest}-router"
    rig.pod(named, engines[1].host, name=f"mock-{end}")
    await rig.routable(named, 1)
    assert await told(client, named) == (503, f'httproutes.gateway.networking.k8s.io "{name}" not found')
    say(rig, name, [WELL])
    await become(client, named, (200, ""))


async def test_an_error_of_the_engine_tells_the_problem_too(  # 79
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[1].host)
    await rig.routable(model, 1)
    say(rig, f"{model}-router", [WELL])
    await become(client, model, (200, ""))
    problem = f"httproute: {NAMESPACE}/{model}-router, does not have valid status"

    async def fails(status: int, body: str) -> tuple[int, str]:
        headers = {"x-engine-status": str(status), "x-engine-body": body}
        async with client.post(CHAT, json=chat(model), headers=headers) as answer:
            return answer.status, (await answer.json())["error"]["message"]

    async def are_sent() -> bool:
        return await rig.metric("gateway_model_in_flight_requests", model=model) == 2

    engines[0].process.send_signal(signal.SIGSTOP)
    try:
        sent = [asyncio.create_task(fails(*each)) for each in ((401, "no"), (404, '{"detail":"Not Found"}'))]
        await eventually(are_sent)
        say(rig, f"{model}-router", [[]])
        await become(client, model, (503, problem))
    finally:
        engines[0].process.send_signal(signal.SIGCONT)
    assert await asyncio.gather(*sent) == [
        (401, f"Incorrect API key provided. {problem}"),
        (404, f'{{"detail":"Not Found"}}. {problem}'),
    ]
