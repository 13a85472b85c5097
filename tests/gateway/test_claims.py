"""ModelClaims: models on warm pods, and their wake. Numbers are acceptance cases of gateway-cache and gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from crds.pool import State
from gateway.claims import HOLD_SECONDS, RUNTIME_PORT, Wakes, WarmPod, waiting_of, wake_url, warm_pod_of, with_claims
from gateway.topology import endpoint_of, models_of, targets_of
from tests.gateway.parts import ENGINE_PORT, Engine, eventually, free_host
from tests.gateway.rig import Rig, chat, readiness

CHAT = "/v1/chat/completions"
MANY = 256
READY = [{"type": "Ready", "status": "True"}]
OUTSIDE: list[Any] = [
    {"model": "m", "port": 0, "state": "active"}, {"model": "m", "port": 9001, "state": "sleeping"},  # 19
    {"model": "m", "port": 70000}, {"model": ""}, {"port": 1}, {"model": "m", "state": "paused"}, [], 7,  # 20
    {"model": "m", "port": True}, {"model": "\ud800"}, {"model": "m" * 256},
]  # fmt: skip


def notes(claims: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"modelclaim.aibrix.ai/{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in claims.items()
    }


def pod(name: str = "p", *, labels: Mapping[str, str] | None = None, **claims: Any) -> dict[str, Any]:
    metadata = {"uid": f"uid-{name}", "namespace": "ns", "name": name, "labels": labels or {}}
    metadata["annotations"] = notes(claims)
    return {"metadata": metadata, "status": {"podIP": "10.0.0.1", "conditions": READY}}


def warm(subject: dict[str, Any]) -> WarmPod:
    found = warm_pod_of(subject)
    assert found is not None
    return found


def test_case_15_claims_of_one_pod_have_a_port_each() -> None:
    a, b = {"model": "m-a", "port": 9001}, {"model": "m-b", "port": 9002, "state": "active"}
    served = with_claims([], [warm(pod(a=a, b=b))])
    found = {model: [(each.key, each.address) for each in pods] for model, pods in models_of(served).items()}
    assert found == {"m-a": [("uid-p/9001", "10.0.0.1:9001")], "m-b": [("uid-p/9002", "10.0.0.1:9002")]}
    assert [(each.keys, each.port) for each in targets_of(served)] == [(("uid-p/9001",), 9001), (("uid-p/9002",), 9002)]


def test_cases_17_and_18_a_claim_without_a_port_is_bound_and_not_served() -> None:
    found = warm(pod(a={"model": "m", "port": 0, "state": "sleeping"}, b={"model": "n", "port": 0}))
    assert (found.serves, found.waits) == ((), {"m": State.SLEEPING, "n": State.ACTIVATING})


@pytest.mark.parametrize("annotation", [*OUTSIDE, "{", "[" * 200_000, ""])
def test_cases_19_and_20_what_is_no_binding_is_ignored_and_warned_of_once(
    annotation: Any, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    subject = pod(request.node.name[-40:], a=annotation)
    with caplog.at_level(logging.WARNING, "gateway.claims"):
        assert warm_pod_of(subject) is None
        assert warm_pod_of(subject) is None
    assert len([each for each in caplog.records if "claim_ignored" in each.message]) == 1


def test_what_a_claim_says_stands_over_the_label_of_its_pod() -> None:
    subject = pod(labels={"model.aibrix.ai/name": "m"}, a={"model": "m", "port": 0, "state": "sleeping"})
    labelled = endpoint_of(subject)
    assert labelled is not None
    assert with_claims([labelled], [warm(subject)]) == []
    assert with_claims([labelled], [warm(pod("other", a={"model": "m"}))]) == [labelled]


def test_case_22_of_two_pods_the_first_by_name_is_bound_and_a_served_model_waits_for_nothing() -> None:
    late, early = (
        warm(pod(name, a={"model": "m", "state": state})) for name, state in (("z", "failed"), ("b", "sleeping"))
    )
    assert {model: (each.pod.name, each.state) for model, each in waiting_of([late, early], [], MANY).items()} == {
        "m": ("b", State.SLEEPING)
    }
    assert waiting_of([late, early], ["m"], MANY) == {}


@pytest.mark.parametrize(("most", "found"), [(4, ["a", "b"]), (3, ["a", "b"]), (2, ["a"]), (1, []), (0, [])])
def test_claims_that_wait_leave_the_room_to_models_that_are_served(most: int, found: list[str]) -> None:
    pods = [warm(pod(a={"model": "a"}, b={"model": "b"}, c={"model": "served"}))]
    assert list(waiting_of(pods, ["served"], most)) == found


def test_a_pod_of_a_group_answers_through_its_first() -> None:
    group = {"stormservice.orchestration.aibrix.ai/pod-group-index": "1"}
    assert warm_pod_of(pod(labels=group, a={"model": "m", "port": 9001})) is None


@dataclass
class Runtime:
    """What a warm pod's runtime is asked; it answers once it may."""

    host: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    may: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 200

    async def wake(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        await self.may.wait()
        return web.json_response({"status": "success", "applied": True, "phase": "booting"}, status=self.status)


@contextlib.asynccontextmanager
async def runtime_at(host: str) -> AsyncIterator[Runtime]:
    runtime, app = Runtime(host), web.Application()
    app.router.add_post("/v1/runtime/models/wake", runtime.wake)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host, RUNTIME_PORT).start()
    try:
        yield runtime
    finally:
        runtime.may.set()
        await runner.cleanup()


@pytest.mark.asyncio(loop_scope="session")
async def test_however_often_it_is_wanted_one_wake_runs_and_the_next_sleep_gets_another() -> None:
    looks = 0

    def take(_model: str) -> bool:
        nonlocal looks
        looks += 1
        return True

    async with runtime_at(free_host()) as runtime:
        subject = pod(a={"model": "m", "state": "sleeping"})
        subject["status"]["podIP"] = runtime.host
        sleeping = waiting_of([warm(subject)], [], MANY).values()
        counted: list[bool] = []
        wakes = Wakes(take, counted.append)
        wakes.follow(sleeping)
        running = asyncio.create_task(wakes.run())
        await eventually(lambda: looks >= 4)
        assert len(runtime.asked) == 1
        runtime.may.set()
        await eventually(lambda: counted == [True])
        wakes.follow([])
        wakes.follow(sleeping)
        await eventually(lambda: len(runtime.asked) == 2, within=HOLD_SECONDS / 2)
        first, second = (each["operation_id"] for each in runtime.asked)
        assert first != second
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.asyncio(loop_scope="session")
async def test_a_pod_without_an_address_and_a_claim_that_does_not_sleep_are_not_looked_at() -> None:
    asked: list[str] = []

    def take(model: str) -> bool:
        asked.append(model)
        return False

    nowhere = pod("nowhere", a={"model": "n", "state": "sleeping"})
    nowhere["status"]["podIP"] = ""
    others = pod(a={"model": "m"}, b={"model": "f", "state": "failed"}, c={"model": "s", "state": "sleeping"})
    wakes = Wakes(take, lambda _: None)
    wakes.follow(waiting_of([warm(nowhere), warm(others)], [], MANY).values())
    running = asyncio.create_task(wakes.run())
    await eventually(lambda: len(asked) >= 2)
    assert set(asked) == {"s"}
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize(("ip", "host"), [("10.0.0.1", "10.0.0.1"), ("fd00::1", "[fd00::1]")])
def test_a_runtime_is_asked_at_its_own_port(ip: str, host: str) -> None:
    assert wake_url(ip) == f"http://{host}:8080/v1/runtime/models/wake"


def warm_pod(rig: Rig, name: str, host: str, **claims: Any) -> str:
    """A pod that has to do with models by its annotations alone; its uid."""
    metadata = {"name": name, "annotations": notes(claims)}
    spec = {"schedulerName": "none", "containers": [{"name": "aibrix-runtime", "image": "runtime"}]}
    rig.kubectl(
        "create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    )
    rig.patch(name, {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}], **readiness(True)})
    return rig.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}")


def bind(rig: Rig, name: str, **claims: Any) -> None:
    """Change annotations of the pod; None removes one."""
    changed = {key: None if value == "null" else value for key, value in notes(claims).items()}
    rig.kubectl("patch", "pod", name, "--type=merge", "-p", json.dumps({"metadata": {"annotations": changed}}))


async def answer_of(client: aiohttp.ClientSession, model: str) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and error message."""
    async with client.post(CHAT, json=chat(model)) as answer:
        document = await answer.json(content_type=None)
        return answer.status, answer.headers, document.get("error", {}).get("message", "")


async def becomes(client: aiohttp.ClientSession, model: str, status: int, message: str = "") -> Mapping[str, str]:
    """The headers of the first answer of this status and message."""

    async def reached() -> Mapping[str, str] | None:
        got, headers, said = await answer_of(client, model)
        return headers if (got, said) == (status, message) else None

    found: Mapping[str, str] = await eventually(reached)
    return found


@pytest.mark.asyncio(loop_scope="session")
async def test_cases_15_16_and_21_models_of_claims_come_and_go_with_their_annotations(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    a, b = f"org/{model}-a", f"org/{model}-b"
    name = f"{model}-pod"
    warm_pod(rig, name, engines[0].host, a={"model": a, "port": ENGINE_PORT}, b={"model": b, "port": ENGINE_PORT})
    for each in (a, b):
        await becomes(client, each, 200)
    async with client.post(CHAT, json=chat(b)) as answer:
        assert answer.headers["target-pod"] == name
    async with client.get(f"/v1/models/{a}") as answer:
        assert answer.status == 200
    bind(rig, name, a=None)
    await becomes(client, a, 400, f"model {a} does not exist")
    assert (await answer_of(client, b))[0] == 200
    rig.kubectl("delete", "pod", name, "--force", "--grace-period=0")
    await becomes(client, b, 400, f"model {b} does not exist")
    await eventually(rig.is_quiet)


@pytest.mark.asyncio(loop_scope="session")
async def test_cases_46_to_48_a_model_that_sleeps_is_woken_once_and_serves(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    name, sleeping = f"{model}-pod", {"model": model, "port": 0, "state": "sleeping"}
    async with runtime_at(engines[1].host) as runtime:
        uid = warm_pod(rig, name, runtime.host, a={"model": model, "port": 0, "state": "failed"})
        headers = await becomes(client, model, 503, f"model {model} is failed")
        assert (headers["x-error-no-model-backends"], "retry-after" in headers) == (model, False)
        bind(rig, name, a={"model": model, "port": 0})
        headers = await becomes(client, model, 503, f"model {model} is activating; retry shortly")
        assert headers["retry-after"] == "10"
        assert runtime.asked == []

        bind(rig, name, a=sleeping)
        await becomes(client, model, 503, f"model {model} is sleeping; retry shortly")
        answers = await asyncio.gather(*(answer_of(client, model) for _ in range(20)))
        assert {(status, headers["retry-after"]) for status, headers, _ in answers} == {(503, "10")}
        await eventually(lambda: runtime.asked)
        await asyncio.gather(*(answer_of(client, model) for _ in range(20)))
        async with client.get(f"/v1/models/{model}") as answer:
            assert answer.status == 404
        runtime.may.set()
        bind(rig, name, a=None, b={"model": model, "port": ENGINE_PORT})
        await becomes(client, model, 200)
        assert [each["model_name"] for each in runtime.asked] == [model]
        assert runtime.asked[0]["operation_id"].startswith(f"gateway-wake/{uid}/{model}/")
    await eventually(rig.is_quiet)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_wake_that_failed_is_asked_for_again_by_a_later_request(
    rig: Rig, client: aiohttp.ClientSession, model: str
) -> None:
    async with runtime_at(free_host()) as runtime:
        runtime.status = 500
        runtime.may.set()
        warm_pod(rig, f"{model}-pod", runtime.host, a={"model": model, "port": 0, "state": "sleeping"})

        async def is_asked_twice() -> bool:
            await answer_of(client, model)
            return len(runtime.asked) == 2

        failed = await rig.metric("brixflow_claim_wakes_total", result="failed")
        await eventually(is_asked_twice)

        async def are_counted() -> bool:
            return await rig.metric("brixflow_claim_wakes_total", result="failed") == failed + 2

        await eventually(are_counted)
        first, second = (each["operation_id"] for each in runtime.asked)
        assert first != second
