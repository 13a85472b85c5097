"""The metrics page against the catalogue (gateway-ops 9, observability A2): names, kinds and label sets."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
NO_POD = {"gateway_pod", "model"}
WITH_POD = {"engine_type", "gateway_pod", "model", "namespace", "pod", "role", "role_replica_index", "roleset"}
CATALOGUE = {
    "gateway_request": ("counter", NO_POD | {"pod_name"}),
    "gateway_in_flight_requests": ("gauge", {"gateway_pod"}),
    "gateway_model_in_flight_requests": ("gauge", NO_POD),
    "gateway_request_model_success": ("counter", NO_POD | {"pod_name", "status", "status_code"}),
    "gateway_prompt_token_bucket": ("counter", NO_POD | {"bucket"}),
    "gateway_completion_token_bucket": ("counter", NO_POD | {"bucket"}),
    "gateway_input_tokens": ("counter", NO_POD),
    "gateway_output_tokens": ("counter", NO_POD),
    "gateway_requests_with_usage": ("counter", NO_POD | {"has_usage"}),
    "gateway_ttft_bucket": ("counter", NO_POD | {"bucket"}),
    "gateway_tpot_bucket": ("counter", NO_POD | {"bucket"}),
    "gateway_total_time_bucket": ("counter", NO_POD | {"bucket"}),
    "gateway_request_duration_seconds": ("histogram", NO_POD | {"le"}),
    "gateway_ttft_seconds": ("histogram", NO_POD | {"le"}),
    "gateway_tpot_seconds": ("histogram", NO_POD | {"le"}),
    "gateway_routing_seconds": ("histogram", NO_POD | {"le"}),
    "vtc_bucket_size_active": ("gauge", WITH_POD),
    "model_replicas": ("gauge", WITH_POD | {"model_name"}),
    "llm_engine_metrics_query_fail": ("counter", NO_POD),
}


async def page(rig: Rig) -> dict[str, Metric]:
    async with aiohttp.ClientSession() as session, session.get(f"{rig.http_url}/metrics") as got:
        return {family.name: family for family in text_string_to_metric_families(await got.text())}


async def test_the_page_has_what_the_catalogue_names(  # gateway-ops 32
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model, stream=True)) as answer:
        await answer.read()
    await eventually(rig.is_quiet)
    found = await page(rig)
    for name, (kind, labels) in CATALOGUE.items():
        assert found[name].type == kind, name
        sets = {frozenset(sample.labels) for sample in found[name].samples}
        assert max(sets, key=len, default=frozenset()) == labels, name
        assert all(labels - {"le"} <= set(each) for each in sets), name


async def test_the_time_to_the_first_token_ends_with_the_first_content(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model, stream=True), headers={"x-engine-role": "0.3"}) as answer:
        await answer.read()
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_ttft_seconds_sum", model=model) >= 0.3
    assert await rig.metric("gateway_ttft_seconds_count", model=model) == 1
    assert await rig.metric("gateway_ttft_seconds_bucket", model=model, le="0.2") == 0
    assert await rig.metric("gateway_ttft_bucket_total", model=model) == 1
    assert await rig.metric("gateway_prompt_token_bucket_total", model=model, bucket="0-256") == 1


async def test_a_pod_that_leaves_takes_its_series_along(  # gateway-ops 34, gateway-cache 57
    rig: Rig, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    rig.kubectl("delete", "pod", pod, "--force", "--grace-period=0")

    async def is_gone() -> bool:
        return not any(f'pod="{pod}"' in series for series in await rig.metrics())

    await eventually(is_gone)
