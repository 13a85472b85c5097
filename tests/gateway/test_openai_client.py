"""The official client of OpenAI works through Envoy, errors, cancellation and timeouts included.

The engine simulator answers what ends well; engines that fail are the small ones, told how by a header.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from gateway.settings import Host
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig
from tests.gateway.test_accounting import counted
from tests.gateway.test_simulated import simulator

pytestmark = pytest.mark.asyncio(loop_scope="session")
MESSAGES: Any = [{"role": "user", "content": "hello"}]
STREAMED: Any = {"stream": True, "stream_options": {"include_usage": True}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(rig: Rig, host: Host) -> AsyncIterator[str]:
    """The model of a simulated engine."""
    name = f"openai-{host}-{secrets.token_hex(2)}"
    async with simulator("vllm", "--model", name, "--ttft-seconds", "0.02") as address:
        rig.pod(name, address)
        await rig.routable(name, 1)
        yield name


@pytest_asyncio.fixture(loop_scope="session")
async def ask(rig: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key="any", max_retries=0) as client:
        yield client


async def test_a_chat_has_text_and_usage(ask: openai.AsyncOpenAI, served: str) -> None:
    reply = await ask.chat.completions.create(model=served, messages=MESSAGES, max_tokens=12)
    assert reply.choices[0].message.content
    assert reply.usage
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (12, "length")


async def test_the_answer_as_it_came_names_its_pod_and_its_id(ask: openai.AsyncOpenAI, served: str) -> None:
    raw = await ask.chat.completions.with_raw_response.create(model=served, messages=MESSAGES, max_tokens=2)
    assert raw.headers["target-pod"].startswith(served)
    assert raw.headers["request-id"]
    assert raw.parse().model == served


async def test_a_streamed_chat_says_the_same_piece_by_piece(ask: openai.AsyncOpenAI, served: str) -> None:
    whole = await ask.chat.completions.create(model=served, messages=MESSAGES, max_tokens=12, seed=1)
    stream = await ask.chat.completions.create(model=served, messages=MESSAGES, max_tokens=12, seed=1, **STREAMED)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 12


async def test_a_stream_that_did_not_ask_for_usage_gets_none(ask: openai.AsyncOpenAI, served: str) -> None:
    stream = await ask.chat.completions.create(model=served, messages=MESSAGES, max_tokens=4, stream=True)
    chunks = [chunk async for chunk in stream]
    assert not [chunk for chunk in chunks if chunk.usage or not chunk.choices]
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_completions_plain_and_streamed(ask: openai.AsyncOpenAI, served: str) -> None:
    plain = await ask.completions.create(model=served, prompt="hi", max_tokens=5, seed=1)
    stream = await ask.completions.create(model=served, prompt="hi", max_tokens=5, seed=1, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == plain.choices[0].text
    many = await ask.completions.create(model=served, prompt=["a", "b"], max_tokens=2)
    assert [choice.index for choice in many.choices] == [0, 1]


@pytest.mark.parametrize(("given", "count"), [("a", 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1, 2], [3]], 2)])
async def test_embeddings(ask: openai.AsyncOpenAI, served: str, given: Any, count: int) -> None:
    reply = await ask.embeddings.create(model=served, input=given)
    assert [item.index for item in reply.data] == list(range(count))
    assert len(reply.data[0].embedding) == 1536


async def test_pictures_are_drawn(ask: openai.AsyncOpenAI, served: str) -> None:
    drawn = await ask.images.generate(model=served, prompt="a cat", n=2)
    assert len(drawn.data or []) == 2


async def test_a_response_of_the_newer_api_is_read(
    rig: Rig, ask: openai.AsyncOpenAI, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    message = {
        "type": "message", "id": "m", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "hello", "annotations": []}],
    }  # fmt: skip
    body = {
        "id": "r", "object": "response", "created_at": 1, "model": model, "output": [message], "tools": [],
        "tool_choice": "auto", "parallel_tool_calls": False,
        "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    }  # fmt: skip
    reply = await ask.responses.create(model=model, input="hi", extra_headers={"x-engine-body": json.dumps(body)})
    assert reply.output_text == "hello"
    await eventually(rig.is_quiet)
    assert await rig.metric("gateway_input_tokens_total", model=model) == 3
    assert await rig.metric("gateway_output_tokens_total", model=model) == 4


async def test_models_are_listed(ask: openai.AsyncOpenAI, served: str) -> None:
    assert served in [each.id async for each in ask.models.list()]
    assert (await ask.models.retrieve(served)).owned_by == "aibrix"
    with pytest.raises(openai.NotFoundError):
        await ask.models.retrieve("nobody")


async def test_what_the_gateway_refuses_is_an_error_with_its_code(
    rig: Rig, ask: openai.AsyncOpenAI, served: str, model: str
) -> None:
    with pytest.raises(openai.BadRequestError) as unknown:
        await ask.chat.completions.create(model="nobody", messages=MESSAGES)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as empty:
        await ask.chat.completions.create(model=served, messages=[])
    assert (empty.value.type, empty.value.param) == ("invalid_request_error", "messages")
    with pytest.raises(openai.BadRequestError, match="incorrect routing strategy nonsense"):
        await ask.chat.completions.create(
            model=served, messages=MESSAGES, extra_headers={"routing-strategy": "nonsense"}
        )
    rig.pod(model, "", ready=False)
    await eventually(lambda: lists(ask, model))
    with pytest.raises(openai.InternalServerError) as unready:
        await ask.chat.completions.create(model=model, messages=MESSAGES)
    assert (unready.value.status_code, unready.value.code) == (503, "service_unavailable")


async def lists(ask: openai.AsyncOpenAI, model: str) -> bool:
    return model in [each.id async for each in ask.models.list()]


async def test_what_the_engine_refuses_is_the_engines_error(ask: openai.AsyncOpenAI, served: str) -> None:
    with pytest.raises(openai.BadRequestError) as cold:
        await ask.chat.completions.create(model=served, messages=MESSAGES, temperature=-1)
    assert (cold.value.param, cold.value.type) != (None, None)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_every_status_of_an_engine_is_its_exception(
    rig: Rig, ask: openai.AsyncOpenAI, engines: list[Engine], status: int, error: type[openai.APIStatusError]
) -> None:
    name = f"failing-{rig.settings.host}"
    if not await rig.metric("model_replicas", model=name):
        rig.pod(name, engines[0].host)
        await rig.routable(name, 1)
    told = {"x-engine-status": str(status), "x-engine-body": "it broke", "x-engine-type": "text/plain"}
    for stream in (False, True):
        with pytest.raises(error) as raised:
            await ask.chat.completions.create(model=name, messages=MESSAGES, stream=stream, extra_headers=told)
        assert raised.value.body["message"] == ("Incorrect API key provided" if status == 401 else "it broke")


async def test_the_clients_own_retries_meet_a_model_that_becomes_ready(
    rig: Rig, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host, ready=False)
    async with openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key="any", max_retries=8) as patient:
        await eventually(lambda: lists(patient, model))
        began = time.monotonic()
        rig.set_ready(pod, True)
        assert (await patient.chat.completions.create(model=model, messages=MESSAGES)).choices
    assert time.monotonic() - began < 10


async def test_a_stream_that_its_reader_closes_frees_the_engine(
    rig: Rig, ask: openai.AsyncOpenAI, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    slow = {"x-engine-chunks": "200", "x-engine-gap": "0.05"}
    stream = await ask.chat.completions.create(model=model, messages=MESSAGES, stream=True, extra_headers=slow)
    async for _ in stream:
        break
    await stream.close()
    await eventually(rig.is_quiet, within=5)
    assert await counted(rig, model) == {"client_cancelled_eof": 1}


async def test_a_client_that_waits_no_longer_frees_the_engine(
    rig: Rig, ask: openai.AsyncOpenAI, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    impatient = ask.with_options(timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        await impatient.chat.completions.create(model=model, messages=MESSAGES, extra_headers={"x-engine-delay": "20"})
    await eventually(rig.is_quiet, within=5)
    assert await counted(rig, model) == {"client_cancelled_eof": 1}
