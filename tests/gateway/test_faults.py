"""Requests flow while parts of the system are away, and only what was on a killed part fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat, only_grpc

pytestmark = pytest.mark.asyncio(loop_scope="session")
StartEngine = Callable[[], Awaitable[Engine]]
CHAT = "/v1/chat/completions"
OF_ITS_OWN = ("process_",)
"""What the collector counts of its own work begins anew with it; what it counts of requests does not."""


@dataclass
class Traffic:
    """What a steady stream of requests met: statuses (0: no answer) and the pods that served."""

    statuses: Counter[int] = field(default_factory=Counter)
    pods: list[tuple[float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def ask(self, client: aiohttp.ClientSession, model: str) -> None:
        try:
            async with client.post(CHAT, json=chat(model), headers={"x-engine-delay": "0.01"}) as answer:
                text = await answer.text()
                self.statuses[answer.status] += 1
                self.pods.append((time.monotonic(), answer.headers.get("target-pod", "")))
                if answer.status != 200:
                    self.failures.append(text)
        except aiohttp.ClientError as error:
            self.statuses[0] += 1
            self.failures.append(repr(error))

    def since(self, moment: float) -> set[str]:
        return {pod for when, pod in self.pods if when > moment}


@contextlib.asynccontextmanager
async def flowing(client: aiohttp.ClientSession, model: str, per_second: int = 100) -> AsyncIterator[Traffic]:
    """Requests at a steady rate while the block runs; all have ended when it is left."""
    traffic, running = Traffic(), set[asyncio.Task[None]]()

    async def send() -> None:
        while True:
            task = asyncio.create_task(traffic.ask(client, model))
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(1 / per_second)

    sender = asyncio.create_task(send())
    try:
        yield traffic
    finally:
        sender.cancel()
        await asyncio.gather(*running)


@pytest.fixture
def pods(rig: Rig, engines: list[Engine], model: str) -> dict[str, Engine]:
    return {rig.pod(model, engine.host): engine for engine in engines}


async def test_a_pod_that_turns_unready_leaves_the_choice_at_once(
    rig: Rig, client: aiohttp.ClientSession, pods: dict[str, Engine], model: str
) -> None:
    await rig.routable(model, len(pods))
    out = next(iter(pods))
    async with flowing(client, model) as traffic:
        await asyncio.sleep(0.5)
        assert out in {pod for _, pod in traffic.pods}
        rig.set_ready(out, False)
        patched = time.monotonic()
        await asyncio.sleep(1.0)
    assert set(traffic.statuses) == {200}
    assert traffic.since(patched + 0.5) == set(pods) - {out}


async def test_a_rolling_update_fails_no_request(
    rig: Rig, client: aiohttp.ClientSession, start_engine: StartEngine, model: str
) -> None:
    old = [await start_engine() for _ in range(2)]
    names = [rig.pod(model, engine.host) for engine in old]
    await rig.routable(model, 2)
    async with flowing(client, model) as traffic:
        for name, engine in zip(names, old, strict=True):
            rig.pod(model, (await start_engine()).host)
            await rig.routable(model, 3)
            hold = '{"metadata":{"finalizers":["test.brixflow/hold"]}}'
            rig.kubectl("patch", "pod", name, "--type=merge", "-p", hold)
            rig.kubectl("delete", "pod", name, "--wait=false")
            await asyncio.sleep(1.0)  # the engine's lame-duck period: terminating, still accepting
            engine.stop()
            rig.kubectl("patch", "pod", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
            await rig.routable(model, 2)
    assert set(traffic.statuses) == {200}, traffic.failures[:3]


async def test_requests_flow_while_the_collector_is_killed_and_restarted(
    rig: Rig, client: aiohttp.ClientSession, pods: dict[str, Engine], model: str
) -> None:
    await rig.routable(model, len(pods))
    before = await rig.metrics()
    async with flowing(client, model) as traffic:
        killed = rig.kill("collector")
        await eventually(lambda: rig.children()["collector"] != killed)
        await eventually(rig.is_healthy)
        await rig.routable(model, len(pods))
    assert set(traffic.statuses) == {200}, traffic.failures[:3]
    await eventually(rig.is_quiet)
    assert_no_counter_fell(before, await rig.metrics())


async def test_requests_flow_while_the_api_server_is_away_and_changes_are_seen_afterwards(
    rig: Rig, client: aiohttp.ClientSession, pods: dict[str, Engine], model: str
) -> None:
    await rig.routable(model, len(pods))
    out = next(iter(pods))
    async with flowing(client, model) as traffic:
        async with rig.gate.away():
            await asyncio.sleep(1.0)
            rig.set_ready(out, False)
            assert await rig.is_healthy()
        await rig.routable(model, len(pods) - 1)
    assert set(traffic.statuses) == {200}, traffic.failures[:3]


async def test_a_collector_that_starts_without_the_api_server_keeps_the_topology(
    rig: Rig, client: aiohttp.ClientSession, pods: dict[str, Engine], model: str
) -> None:
    await rig.routable(model, len(pods))
    async with flowing(client, model) as traffic:
        async with rig.gate.away():
            killed = rig.kill("collector")
            await eventually(lambda: rig.children()["collector"] != killed)
            await eventually(rig.is_healthy)
            async with client.get("/v1/models") as answer:
                assert answer.status == 503
        await rig.routable(model, len(pods))
    assert set(traffic.statuses) == {200}, traffic.failures[:3]


@only_grpc
async def test_an_ext_proc_process_that_is_killed_takes_only_its_own_streams_along(
    rig: Rig, client: aiohttp.ClientSession, pods: dict[str, Engine], model: str
) -> None:
    await rig.routable(model, len(pods))
    before = await rig.metrics()
    async with flowing(client, model) as traffic:
        await asyncio.sleep(0.3)
        killed = rig.kill("ext_proc-0")
        await eventually(lambda: rig.children()["ext_proc-0"] != killed)
        await eventually(rig.is_healthy)
        await asyncio.sleep(0.5)
    failed = sum(count for status, count in traffic.statuses.items() if status != 200)
    assert failed <= 5, traffic.statuses  # 100 requests/s of about 15 ms: one or two on each process
    assert traffic.statuses[200] > 20
    await eventually(rig.is_quiet)
    assert_no_counter_fell(before, await rig.metrics())


@only_grpc
async def test_a_request_that_is_given_up_while_the_gateway_is_busy_is_counted_once(
    rig: Rig, client: aiohttp.ClientSession, pods: dict[str, Engine], model: str
) -> None:
    await rig.routable(model, len(pods))
    begun = await rig.metric("gateway_request_total")
    busy = [pid for name, pid in rig.children().items() if name.startswith("ext_proc")]
    for pid in busy:
        os.kill(pid, signal.SIGSTOP)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1), client.post(CHAT, json=chat(model)):
                pass
        await asyncio.sleep(0.5)  # Envoy would have asked again
    finally:
        for pid in busy:
            os.kill(pid, signal.SIGCONT)
    await eventually(lambda: is_grown(rig, begun))
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_request_total") == begun + 1


async def is_grown(rig: Rig, begun: float) -> bool:
    return await rig.metric("gateway_request_total") > begun


@only_grpc
async def test_both_ext_proc_processes_get_an_even_share(
    rig: Rig, client: aiohttp.ClientSession, pods: dict[str, Engine], model: str
) -> None:
    await rig.routable(model, len(pods))

    async def shares() -> dict[str, int]:
        async with client.get(f"http://127.0.0.1:{rig.admin_port}/clusters?format=json") as answer:
            clusters = (await answer.json())["cluster_statuses"]
        (ext_proc,) = [each for each in clusters if each["name"] == "ext_proc"]
        stats = {host["address"]["pipe"]["path"]: host["stats"] for host in ext_proc["host_statuses"]}
        return {
            path: int(next(s.get("value", 0) for s in own if s["name"] == "rq_total")) for path, own in stats.items()
        }

    before = await shares()
    for _ in range(40):
        async with client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 200
    grown = [count - before[path] for path, count in (await shares()).items()]
    assert max(grown) <= 1.3 * sum(grown) / len(grown)


async def test_a_request_whose_pod_cannot_be_connected_goes_to_another_pod(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], start_engine: StartEngine, model: str
) -> None:
    dead, alive = await start_engine(), engines[0]
    gone, pod = rig.pod(model, dead.host), rig.pod(model, alive.host)
    await rig.routable(model, 2)
    dead.stop()  # nobody has told the API server yet
    begun, began = await rig.metric("gateway_request_total"), time.monotonic()
    for index in range(40):
        headers = {"x-request-number": str(index)}
        async with client.post(CHAT, json=chat(model, "x" * 20_000), headers=headers) as answer:
            assert (answer.status, answer.headers["target-pod"]) == (200, pod), gone
            assert len(answer.headers.getall("request-id")) == 1
    assert time.monotonic() - began < 5
    assert [each["bytes"] > 20_000 for each in (await alive.seen())[-40:]] == [True] * 40
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_request_total") - begun == 40
    assert await rig.metric("gateway_request_model_success_total", model=model) == 40
    assert await rig.metric("gateway_request_model_fail_total", model=model) == 0


async def test_a_request_whose_pod_resets_it_before_a_byte_goes_to_another_pod_and_is_accounted_there(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    failing, serving = engines[0], engines[1]
    first, second = rig.pod(model, failing.host), rig.pod(model, serving.host)
    await rig.routable(model, 2)
    before = len(await failing.seen())
    headers = {"x-engine-drop": failing.address, "x-engine-chunks": "4", "x-engine-gap": "0.1"}
    for _ in range(6):
        async with client.post(CHAT, json=chat(model, stream=True), headers=headers) as answer:
            assert (answer.status, answer.headers["target-pod"]) == (200, second)
            await answer.content.readline()
            assert await rig.metric("brixflow_pod_requests_running", pod=first) == 0
            assert await rig.metric("brixflow_pod_requests_running", pod=second) == 1
            assert b"[DONE]" in await answer.read()
    assert len(await failing.seen()) > before
    assert (await serving.seen())[-1]["headers"]["target-pod"] == serving.address
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_request_model_success_total", model=model) == 6


async def test_an_answer_that_has_begun_is_never_asked_for_again(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    for engine in engines[:2]:
        rig.pod(model, engine.host)
    await rig.routable(model, 2)
    before = sum([len(await engine.seen()) for engine in engines[:2]])
    broken = {"x-engine-cut": "1", "x-engine-gap": "0.2"}
    async with client.post(CHAT, json=chat(model, stream=True), headers=broken) as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    assert sum([len(await engine.seen()) for engine in engines[:2]]) == before + 1


async def test_with_no_pod_to_be_reached_the_answer_is_503_in_time(
    rig: Rig, client: aiohttp.ClientSession, start_engine: StartEngine, model: str
) -> None:
    dead = [await start_engine() for _ in range(2)]
    for engine in dead:
        rig.pod(model, engine.host)
    await rig.routable(model, 2)
    for engine in dead:
        engine.stop()
    for _ in range(5):
        async with asyncio.timeout(2), client.post(CHAT, json=chat(model)) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["type"] == "overloaded_error"
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_request_model_fail_total", model=model, status_code="503") == 5


async def test_an_engine_that_answers_with_an_error_is_not_asked_again(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    for engine in engines[:2]:
        rig.pod(model, engine.host)
    await rig.routable(model, 2)
    before = [len(await engine.seen()) for engine in engines[:2]]
    async with client.post(CHAT, json=chat(model), headers={"x-engine-status": "503"}) as answer:
        assert answer.status == 503
    after = [len(await engine.seen()) for engine in engines[:2]]
    assert sum(after) - sum(before) == 1


def assert_no_counter_fell(before: dict[str, float], after: dict[str, float]) -> None:
    """What engines say (it has a `model_name`) is exported again only after the next of their pages."""
    for series, value in before.items():
        if "_total" in series and not series.startswith(OF_ITS_OWN) and 'model_name="' not in series:
            assert after.get(series, 0) >= value, series
