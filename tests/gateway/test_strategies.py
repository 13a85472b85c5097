"""Each strategy through a real gateway and Envoy: changing its metric moves the traffic.

The engines say what a test puts on their pages; the last tests ask the simulator, which tells of itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
import pytest_asyncio

from gateway.settings import Host
from tests.gateway.pages import Histograms, page
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
SOON = aiohttp.ClientTimeout(total=20)
WITHOUT_DATA = "gateway_strategy_without_data_total"
Say = Callable[[Engine, str], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="session")
async def say() -> AsyncIterator[Say]:
    """Sets an engine's page for the test."""
    told: list[Engine] = []

    async def set_page(engine: Engine, text: str) -> None:
        told.append(engine)
        await engine.say(text)

    yield set_page
    for engine in told:
        await engine.say("")


@pytest.fixture
def once(host: Host) -> None:
    """For what takes seconds and is the collector's, which both hosts share."""
    if host != Host.MODULE:
        pytest.skip("the collector is the same for both hosts")


async def two_pods(rig: Rig, model: str, engines: list[Engine], **labels: str) -> list[str]:
    pods = [rig.pod(model, engine.host, n=str(index), **labels) for index, engine in enumerate(engines[:2])]
    await rig.routable(model, 2)
    return pods


async def picks(
    client: aiohttp.ClientSession, model: str, strategy: str, count: int = 12, **headers: str
) -> Counter[str]:
    found: Counter[str] = Counter()
    given = {"routing-strategy": strategy} | {name.replace("_", "-"): value for name, value in headers.items()}
    for _ in range(count):
        async with client.post(CHAT, json=chat(model), headers=given, timeout=SOON) as answer:
            assert answer.status == 200
            assert answer.headers["routing-strategy"] == strategy
            found[answer.headers["target-pod"]] += 1
    return found


async def shows(rig: Rig, name: str, pod: str, value: float) -> None:
    async def reached() -> bool:
        return await rig.metric(name, pod=pod) == pytest.approx(value)

    await eventually(reached)


@pytest.mark.parametrize(
    ("strategy", "on_page", "shown"),
    [
        ("least-kv-cache", "trtllm_kv_cache_utilization", "kv_cache_usage_perc"),
        ("least-gpu-cache", "sglang:token_usage", "gpu_cache_usage_perc"),
        ("least-utilization", "engine_utilization", "engine_utilization"),
    ],
)
async def test_traffic_leaves_the_pod_whose_gauge_grows(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], say: Say, model: str,
    strategy: str, on_page: str, shown: str,
) -> None:  # fmt: skip
    model = f"{model}-{on_page.partition(':')[2] or on_page}-{strategy}".replace("_", "-")[-60:].strip("-")
    pods = await two_pods(rig, model, engines)
    blind = await rig.metric(WITHOUT_DATA, strategy=strategy)
    for values in ((0.2, 0.7), (0.8, 0.3)):
        for engine, value in zip(engines, values, strict=False):
            await say(engine, f'{on_page}{{model_name="m"}} {value}\n')
        for pod, value in zip(pods, values, strict=True):
            await shows(rig, shown, pod, value)
        assert set(await picks(client, model, strategy)) == {pods[values.index(min(values))]}
    assert await rig.metric(WITHOUT_DATA, strategy=strategy) == blind


@pytest.mark.usefixtures("once")
async def test_least_busy_time_leaves_the_engine_that_works(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], say: Say, model: str
) -> None:
    pods = await two_pods(rig, model, engines)
    await say(engines[0], page(num_requests_running=0))
    await say(engines[1], page(num_requests_running=2))
    await shows(rig, "gpu_busy_time_ratio", pods[0], 0)
    await shows(rig, "gpu_busy_time_ratio", pods[1], 1)

    async def is_known() -> bool:  # the page shows 0 for a pod whose second answer is still to come
        return set(await picks(client, model, "least-busy-time")) == {pods[0]}

    await eventually(is_known, within=15)
    await say(engines[0], page(num_requests_running=2))
    await say(engines[1], page(num_requests_running=0))

    async def turned() -> bool:
        busy = [await rig.metric("gpu_busy_time_ratio", pod=pod) for pod in pods]
        return busy[0] > busy[1] + 0.05

    await eventually(turned, within=15)
    assert set(await picks(client, model, "least-busy-time")) == {pods[1]}


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        ("throughput", ("request_prompt_tokens", "request_generation_tokens")),
        (
            "least-latency",
            ("request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds"),
        ),
    ],
)
async def test_traffic_leaves_the_pod_whose_requests_grow(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], say: Say, model: str,
    strategy: str, names: tuple[str, ...],
) -> None:  # fmt: skip
    """Averages are those of what finished between two scrapes: an engine that was fast and is slow now is left."""
    model = f"{strategy}-{model[-30:]}"
    pods, histories = await two_pods(rig, model, engines), [Histograms(), Histograms()]
    for means in ((0.1, 5.0), (50.0, 0.5)):
        before = await rig.metric("brixflow_scrapes_total")
        for engine, history, mean in zip(engines, histories, means, strict=False):
            await say(engine, page(num_requests_running=0) + history.finish(100, **dict.fromkeys(names, mean)))
        await eventually(lambda before=before: scraped(rig, before + 12))
        await asyncio.sleep(1)
        assert set(await picks(client, model, strategy)) == {pods[means.index(min(means))]}


async def scraped(rig: Rig, count: float) -> bool:
    return await rig.metric("brixflow_scrapes_total") >= count


@contextlib.asynccontextmanager
async def held(client: aiohttp.ClientSession, model: str, only: str, count: int) -> AsyncIterator[None]:
    """So many slow streams on the pod with this label, until the end of the block."""
    headers = {"x-engine-chunks": "600", "x-engine-gap": "0.05", "external-filter": only, "routing-strategy": "random"}
    async with contextlib.AsyncExitStack() as streams:
        for _ in range(count):
            asked = client.post(CHAT, json=chat(model, stream=True), headers=headers)
            answer = await streams.enter_async_context(asked)
            await answer.content.readline()
        yield


@pytest.mark.parametrize("strategy", ["least-request", "power-of-two", "least-request:3,session-affinity"])
async def test_traffic_leaves_the_pod_that_has_requests(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str, strategy: str
) -> None:
    model = f"{model[:30]}-{strategy.partition(':')[0]}-{len(strategy)}"
    pods = await two_pods(rig, model, engines)
    for busy in (0, 1):
        async with held(client, model, f"n={busy}", 2):
            assert set(await picks(client, model, strategy)) == {pods[1 - busy]}
        await eventually(rig.is_quiet)


async def test_random_goes_everywhere(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pods = await two_pods(rig, model, engines)
    assert set(await picks(client, model, "random", 30)) == set(pods)


async def test_a_session_stays_and_names_its_pod(  # R41 to R46
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pods = await two_pods(rig, model, engines)
    addresses = {
        base64.b64encode(engine.address.encode()).decode(): pod for engine, pod in zip(engines, pods, strict=False)
    }
    for session_id, pod in addresses.items():
        assert set(await picks(client, model, "session-affinity", x_session_id=session_id)) == {pod}
    assert len(await picks(client, model, "session-affinity", x_aibrix_session_key="session-42")) == 1
    for given in ({"x-session-id": "none of ours"}, {"x-aibrix-session-key": "k" * 257}, {"x-aibrix-session-key": "k"}):
        headers = {"routing-strategy": "session-affinity", **given}
        async with client.post(CHAT, json=chat(model), headers=headers) as answer:
            assert addresses[answer.headers["x-session-id"]] == answer.headers["target-pod"]
            assert "x-aibrix-session-key" not in answer.headers


async def test_the_session_names_the_winner_of_a_list(  # R46, R22
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pods = await two_pods(rig, model, engines)
    other = base64.b64encode(engines[0].address.encode()).decode()
    headers = {"routing-strategy": "session-affinity:1,least-request:5", "x-session-id": other}
    async with held(client, model, "n=0", 2), client.post(CHAT, json=chat(model), headers=headers) as answer:
        assert answer.headers["target-pod"] == pods[1]
        assert base64.b64decode(answer.headers["x-session-id"]).decode() == engines[1].address


async def test_a_list_weighs_its_metrics(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], say: Say, model: str
) -> None:
    pods = await two_pods(rig, model, engines)
    await say(engines[0], page(kv_cache_usage_perc=0.1, gpu_cache_usage_perc=0.9))
    await say(engines[1], page(kv_cache_usage_perc=0.6, gpu_cache_usage_perc=0.2))
    await shows(rig, "kv_cache_usage_perc", pods[0], 0.1)
    await shows(rig, "gpu_cache_usage_perc", pods[1], 0.2)
    assert set(await picks(client, model, "least-kv-cache:3,least-gpu-cache:1")) == {pods[0]}
    assert set(await picks(client, model, "least-kv-cache:1,least-gpu-cache:3")) == {pods[1]}


async def test_a_strategy_without_data_serves_and_shows(  # R34
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pods = await two_pods(rig, model, engines)
    blind = await rig.metric(WITHOUT_DATA, strategy="least-utilization")
    assert set(await picks(client, model, "least-utilization", 30)) == set(pods)
    assert await rig.metric(WITHOUT_DATA, strategy="least-utilization") == blind + 30


@pytest.mark.usefixtures("once")
async def test_data_of_an_engine_that_stopped_telling_is_forgotten(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], say: Say, model: str
) -> None:
    pods = await two_pods(rig, model, engines)
    await say(engines[0], page(kv_cache_usage_perc=0.1))
    await say(engines[1], page(kv_cache_usage_perc=0.6))
    await shows(rig, "kv_cache_usage_perc", pods[0], 0.1)
    await shows(rig, "kv_cache_usage_perc", pods[1], 0.6)
    failures = await rig.metric("llm_engine_metrics_query_fail_total")
    await say(engines[0], "<html>")
    await eventually(lambda: only_known(rig, pods), within=8)
    assert await rig.metric("llm_engine_metrics_query_fail_total") > failures
    assert set(await picks(client, model, "least-kv-cache")) == {pods[1]}


async def only_known(rig: Rig, pods: list[str]) -> bool:
    series = [name for name in await rig.metrics() if name.startswith("kv_cache_usage_perc")]
    return [any(f'pod="{pod}"' in each for each in series) for pod in pods] == [False, True]


@pytest.mark.usefixtures("once")
async def test_a_page_of_all_ranks_tells_each_port_apart(  # 25, 38
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], say: Say, model: str
) -> None:
    """A pod that names a metrics port has one page for its data-parallel engines, told apart by their rank."""
    name = rig.pod(
        model, engines[0].host, **{"model.aibrix.ai/metric-port": str(engines[0].address.rpartition(":")[2])}
    )
    await rig.routable(model, 1)
    await say(engines[0], page(num_requests_running=0, kv_cache_usage_perc=0.3))
    await shows(rig, "kv_cache_usage_perc", name, 0.3)
    assert set(await picks(client, model, "least-kv-cache", 3)) == {name}


async def test_a_user_that_used_more_goes_further_down_the_row(  # R51, R56
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pods = sorted(await two_pods(rig, model, engines))
    bucket = await rig.metric("vtc_bucket_size_active", pod=pods[0])
    await rig.users(**{f"small-{model}": {}, f"great-{model}": {}})
    assert set(await picks(client, model, "vtc-basic", 3, user=f"small-{model}")) == {pods[0]}
    headers = {"routing-strategy": "vtc-basic", "user": f"great-{model}"}
    async with client.post(CHAT, json=chat(model, "word " * 8000), headers=headers) as answer:
        assert answer.headers["target-pod"] == pods[0]

    async def grown() -> bool:
        return await rig.metric("vtc_bucket_size_active", pod=pods[0]) > bucket

    await eventually(grown)
    assert set(await picks(client, model, "vtc-basic", 3, user=f"great-{model}")) == {pods[1]}
    assert set(await picks(client, model, "vtc-basic", 3, user=f"small-{model}")) == {pods[0]}
