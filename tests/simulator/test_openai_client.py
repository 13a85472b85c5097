"""The official client of OpenAI works against the simulator, errors included."""

from __future__ import annotations

import math

import openai
import pytest

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client(shared_engine):
    async with openai.AsyncOpenAI(base_url=f"{shared_engine.url}/v1", api_key="any", max_retries=0) as client:
        yield client


async def test_chat(client):
    reply = await client.chat.completions.create(model="llama2-7b", messages=MESSAGES, max_tokens=12)
    assert reply.choices[0].message.content.startswith("pod-a serves llama2-7b:")
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (12, "length")


async def test_streamed_chat_with_usage(client):
    stream = await client.chat.completions.create(
        model="llama2-7b", messages=MESSAGES, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("pod-a serves llama2-7b:")
    assert chunks[-1].usage.completion_tokens == 12


async def test_completions_plain_and_streamed(client):
    plain = await client.completions.create(model="llama2-7b", prompt="hi", max_tokens=5, seed=1)
    stream = await client.completions.create(model="llama2-7b", prompt="hi", max_tokens=5, seed=1, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == plain.choices[0].text


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(client, encoding):
    reply = await client.embeddings.create(model="llama2-7b", input=["a", "b", "c"], encoding_format=encoding)
    assert [item.index for item in reply.data] == [0, 1, 2]
    assert len(reply.data) == 3
    if encoding == "float":
        assert math.isclose(sum(value * value for value in reply.data[0].embedding), 1)


async def test_models(client):
    assert [model.id async for model in client.models.list()] == ["llama2-7b"]


async def test_speech_transcription_and_images(client):
    spoken = await client.audio.speech.create(model="llama2-7b", input="hello", voice="alloy", response_format="wav")
    assert spoken.content[:4] == b"RIFF"
    heard = await client.audio.transcriptions.create(model="llama2-7b", file=("a.wav", spoken.content))
    assert heard.text
    drawn = await client.images.generate(model="llama2-7b", prompt="a cat", n=2)
    assert len(drawn.data) == 2


async def test_errors_are_its_exception_types(client, start_engine, instant):
    async def chat(client, **more):
        return await client.chat.completions.create(**{"model": "llama2-7b", "messages": MESSAGES, **more})

    with pytest.raises(openai.NotFoundError) as unknown:
        await chat(client, model="nope")
    assert (unknown.value.type, unknown.value.param) == ("NotFoundError", "model")
    with pytest.raises(openai.BadRequestError):
        await chat(client, temperature=-1)
    with pytest.raises(openai.BadRequestError) as long:
        await chat(client, messages=[{"role": "user", "content": "word " * 20_000}])
    assert long.value.param == "input_tokens"
    guarded = await start_engine("--api-key", "k", "--failures", '{"rate": 100, "types": ["rate_limit"]}', **instant)
    for key, error in (("wrong", openai.AuthenticationError), ("k", openai.RateLimitError)):
        async with openai.AsyncOpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0) as other:
            with pytest.raises(error):
                await chat(other)
