"""The ext_proc service as a gRPC client sees it: Envoy's own protobuf messages against the raw bytes of the service.

Numbers are acceptance cases of the spec's gateway document.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from envoy.service.ext_proc.v3.external_processor_pb2 import HttpBody, HttpTrailers

from tests.gateway.exchange import PROCESS, Exchange, headers_set
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat, only_grpc

pytestmark = [pytest.mark.asyncio(loop_scope="session"), only_grpc]
HEALTH = "/grpc.health.v1.Health"
SUCCESS = "gateway_request_model_success_total"


@pytest_asyncio.fixture(loop_scope="session")
async def channel(rig: Rig) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(rig.settings.ext_proc_address) as opened:
        yield opened


async def test_the_replies_carry_the_documented_headers(  # 54, 74
    rig: Rig, channel: grpc.aio.Channel, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    exchange = Exchange(channel)
    routed = headers_set((await exchange.request(model)).request_body)
    lower = {key.lower(): value for key, value in routed.items()}
    assert lower["target-pod"] == engines[0].address
    assert lower["routing-strategy"] == "least-request"
    assert lower["content-length"] == str(len(json.dumps(chat(model))))
    answered = headers_set((await exchange.respond()).response_headers)
    assert answered["target-pod"] == pod
    assert answered["target-pod-ip"] == engines[0].address
    assert answered["request-id"] == lower["x-request-id"]
    await exchange.call.done_writing()
    assert await exchange.call.code() == grpc.StatusCode.OK


async def test_the_end_of_a_stream_is_a_completion_only_after_the_last_phase(  # 96, 98
    rig: Rig, channel: grpc.aio.Channel, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    for phases in range(3):
        exchange = Exchange(channel)
        await exchange.request(model)
        if phases > 0:
            await exchange.respond()
        if phases > 1:
            await exchange.say(response_body=HttpBody(body=b"{}", end_of_stream=True))
        assert await rig.metric("gateway_model_in_flight_requests", model=model) == (0 if phases > 1 else 1)
        await exchange.call.done_writing()
        assert await exchange.call.code() == grpc.StatusCode.OK
    await eventually(rig.is_quiet)
    assert await rig.metric(SUCCESS, model=model) == 1
    assert await rig.metric("gateway_request_model_fail_total", model=model, status="client_cancelled_eof") == 2


async def test_a_cancelled_stream_frees_the_pod(  # 98
    rig: Rig, channel: grpc.aio.Channel, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    exchange = Exchange(channel)
    await exchange.request(model)
    assert await rig.metric("gateway_model_in_flight_requests", model=model) == 1
    exchange.call.cancel()
    await eventually(rig.is_quiet)


async def test_a_unary_answer_in_two_chunks_completes_with_the_second(  # 84
    rig: Rig, channel: grpc.aio.Channel, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    exchange = Exchange(channel)
    await exchange.request(model)
    await exchange.respond()
    usage = json.dumps(
        {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    ).encode()
    await exchange.say(response_body=HttpBody(body=usage[:30]))
    assert await rig.metric(SUCCESS, model=model) == 0
    await exchange.say(response_body=HttpBody(body=usage[30:], end_of_stream=True))
    await exchange.call.done_writing()
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_output_tokens_total", model=model) == 4


@pytest.mark.parametrize(
    ("chunks", "tokens"),
    [
        ([b'data: {"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}\r\n\r\n'], 20),  # 85
        ([b'data: {"choices":[{"delta":{"content":"my \\"usage\\" is 3"}}]}\n\n'], 0),  # 86
        ([b'data: {"usage": { broken\n\n'], 0),  # 87
        ([b'data: {"usage":{"prompt_tok', b'ens":1,"completion_tokens":2,"total_tokens":3}}\n\n'], 2),  # 88
        (
            [b'data: {"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":5}}}\n\n'],
            5,
        ),  # 89
    ],
)
async def test_usage_is_read_from_a_stream_that_always_passes(
    rig: Rig, channel: grpc.aio.Channel, engines: list[Engine], chunks: list[bytes], tokens: int, model: str
) -> None:
    if not await rig.metric("model_replicas", model=model):
        rig.pod(model, engines[0].host)
        await rig.routable(model, 1)
    before = await rig.metric("gateway_output_tokens_total", model=model)
    unparsed = await rig.metric("brixflow_responses_unparsed_total")
    exchange = Exchange(channel)
    await exchange.request(model, stream=True, stream_options={"include_usage": True})
    await exchange.respond(kind="text/event-stream")
    for chunk in [*chunks, b"data: [DONE]\n\n"]:
        reply = await exchange.say(response_body=HttpBody(body=chunk, end_of_stream=b"DONE" in chunk))
        assert not reply.response_body.response.HasField("body_mutation")
    await exchange.call.done_writing()
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_output_tokens_total", model=model) == before + tokens
    broken = any(b"broken" in chunk for chunk in chunks)
    assert await rig.metric("brixflow_responses_unparsed_total") == unparsed + broken


async def test_header_names_are_read_in_any_case_and_a_bad_strategy_is_refused_with_the_body(  # 8, 9
    rig: Rig, channel: grpc.aio.Channel, engines: list[Engine], model: str
) -> None:
    blue = rig.pod(model, engines[0].host, colour="blue")
    rig.pod(model, engines[1].host)
    await rig.routable(model, 2)
    for _ in range(5):
        exchange = Exchange(channel)
        await exchange.request(model, {"EXTERNAL-FILTER": "colour=blue", "Routing-Strategy": "random"})
        assert headers_set((await exchange.respond()).response_headers)["target-pod"] == blue
        exchange.call.cancel()
    exchange = Exchange(channel)
    refused = await exchange.request(model, {"routing-strategy": "not-found-strategy"})
    assert refused.immediate_response.status.code == 400
    await exchange.call.done_writing()
    await eventually(rig.is_quiet)


async def test_trailers_are_answered_and_end_the_response(  # 99
    rig: Rig, channel: grpc.aio.Channel, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    exchange = Exchange(channel)
    await exchange.request(model)
    await exchange.respond()
    await exchange.say(response_body=HttpBody(body=b"data: x\n\n"))
    reply = await exchange.say(response_trailers=HttpTrailers())
    assert reply.WhichOneof("response") == "response_trailers"
    await exchange.call.done_writing()
    await eventually(rig.is_quiet)
    assert await rig.metric(SUCCESS, model=model) == 1


async def test_bytes_that_are_no_message_end_only_their_own_stream(rig: Rig, channel: grpc.aio.Channel) -> None:
    call: Any = channel.stream_stream(PROCESS)()
    await call.write(b"\xff\xff\xff")
    assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert await rig.is_healthy()
    await eventually(rig.is_quiet)


@pytest.mark.parametrize("service", [b"", b"\x0a\x0egateway-plugin"])
async def test_health_is_told_over_grpc(channel: grpc.aio.Channel, service: bytes) -> None:  # gateway-ops 8
    assert await channel.unary_unary(f"{HEALTH}/Check")(service) == b"\x08\x01"
    watch: Any = channel.unary_stream(f"{HEALTH}/Watch")(service)
    assert await asyncio.wait_for(watch.read(), 5) == b"\x08\x01"
    watch.cancel()


async def test_an_unknown_service_has_no_health(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await channel.unary_unary(f"{HEALTH}/Check")(b"\x0a\x01x")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
