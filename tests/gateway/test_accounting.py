"""Each request is counted once, whatever ends it. Numbers are acceptance cases of the spec's gateway document."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
StartEngine = Callable[[], Awaitable[Engine]]
CHAT = "/v1/chat/completions"
SUCCESS, FAIL = "gateway_request_model_success_total", "gateway_request_model_fail_total"


async def counted(rig: Rig, model: str) -> dict[str, float]:
    """Endings of a model by status, without zeros."""
    found = {}
    for status in (
        "gateway_request_success",
        "gateway_rsp_headers_fail",
        "client_cancelled_eof",
        "gateway_req_body_fail",
    ):
        name = SUCCESS if status == "gateway_request_success" else FAIL
        if value := await rig.metric(name, model=model, status=status):
            found[status] = value
    return found


async def test_a_normal_end_is_one_success_with_its_usage(  # 96
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    for stream in (False, True):
        async with client.post(CHAT, json=chat(model, stream=stream)) as answer:
            await answer.read()
    await eventually(rig.is_quiet)
    assert await counted(rig, model) == {"gateway_request_success": 2}
    assert await rig.metric("gateway_input_tokens_total", model=model) == 20
    assert await rig.metric("gateway_output_tokens_total", model=model) == 11
    assert await rig.metric("gateway_requests_with_usage_total", model=model, has_usage="true") == 2


async def test_a_running_request_counts_until_its_last_byte(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    headers = {"x-engine-chunks": "5", "x-engine-gap": "0.2"}
    async with client.post(CHAT, json=chat(model, stream=True), headers=headers) as answer:
        for _ in range(5):
            while not (await answer.content.readline()).startswith(b"data:"):
                pass
            assert await rig.metric("brixflow_pod_requests_running", pod=pod) == 1
            assert await rig.metric("gateway_model_in_flight_requests", model=model) == 1
    await eventually(rig.is_quiet)


async def test_a_client_that_goes_away_is_a_cancel_and_frees_the_pod(  # 98
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    slow = {"x-engine-chunks": "100", "x-engine-gap": "0.1"}
    async with client.post(CHAT, json=chat(model, stream=True), headers=slow) as answer:
        await answer.content.readline()
    late, soon = {"x-engine-delay": "5"}, aiohttp.ClientTimeout(total=0.3)
    with pytest.raises(asyncio.TimeoutError):
        await client.post(CHAT, json=chat(model), headers=late, timeout=soon)
    await eventually(rig.is_quiet, within=5)
    assert await counted(rig, model) == {"client_cancelled_eof": 2}


async def test_an_engine_that_dies_or_breaks_off_frees_the_pod(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], start_engine: StartEngine, model: str
) -> None:
    rig.pod(model, engines[0].host)
    mortal = await start_engine()
    dying = f"{model}-dying"
    rig.pod(dying, mortal.host)
    await rig.routable(dying, 1)
    for name, broken in ((model, {"x-engine-cut": "1"}), (dying, {"x-engine-die": "1"})):
        headers = {"x-engine-gap": "0.2", **broken}
        async with client.post(CHAT, json=chat(name, stream=True), headers=headers) as answer:
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
    async with client.post(CHAT, json=chat(dying)) as answer:
        assert answer.status == 503
    await eventually(rig.is_quiet, within=5)
    for name in (model, dying):
        assert "gateway_request_success" not in await counted(rig, name)


async def test_an_error_of_the_engine_is_one_failure_with_its_status(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(
        CHAT, json=chat(model), headers={"x-engine-status": "429", "x-engine-body": "slow"}
    ) as answer:
        assert answer.status == 429
    await eventually(rig.is_quiet)
    assert await counted(rig, model) == {"gateway_rsp_headers_fail": 1}
    assert await rig.metric(FAIL, model=model, status_code="429") == 1


async def test_invented_models_make_no_series_of_their_own(rig: Rig, client: aiohttp.ClientSession) -> None:
    before = await rig.metric(FAIL, model="unknown", status_code="400")
    for index in range(5):
        async with client.post(CHAT, json=chat(f"invented-{index}")) as answer:
            assert answer.status == 400
    await eventually(rig.is_quiet)
    assert await rig.metric(FAIL, model="unknown", status_code="400") == before + 5
    assert not [series for series in await rig.metrics() if "invented" in series]


async def test_many_requests_with_many_endings_leave_nothing_running(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    for engine in engines:
        rig.pod(model, engine.host)
    await rig.routable(model, len(engines))
    begun = await rig.metric("gateway_request_total")

    async def ask(index: int) -> None:
        headers = {"x-engine-chunks": "5", "x-engine-gap": "0.02"}
        if index % 10 == 3:
            headers["x-engine-cut"] = "2"
        try:
            async with client.post(CHAT, json=chat(model, stream=index % 2 == 0), headers=headers) as answer:
                if index % 10 == 6:
                    await answer.content.readline()
                    return
                await answer.read()
        except aiohttp.ClientError:
            pass

    await asyncio.gather(*(ask(index) for index in range(200)))
    await eventually(rig.is_quiet, within=5)
    assert await rig.metric("gateway_request_total") == begun + 200
    assert sum((await counted(rig, model)).values()) == 200
    assert await rig.metric("brixflow_segment_anomalies_total") == 0
