"""Tokenizing, embeddings, reranking, audio, images and video: replies, and bad input refused by name."""

from __future__ import annotations

import base64
import json
import math
from array import array

import aiohttp
import pytest

from simulator.audio import wave_header

MODEL = "llama2-7b"


async def form(engine, path: str, **parts) -> tuple[int, str, str]:
    """Post a form; bytes are files."""
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in parts.items():
        data.add_field(name, value, filename="a.wav" if isinstance(value, bytes) else None)
    async with engine.session.post(engine.url + path, data=data) as reply:
        return reply.status, reply.headers["content-type"], await reply.text()


async def test_tokenize_and_detokenize_return_the_text(shared_engine):
    for text in ("Hello world", "Größe 日本 \U0001f600 <|user|>\n\t x=12345"):
        _, reply = await shared_engine.post("/tokenize", {"prompt": text, "return_token_strs": True})
        assert reply["count"] == len(reply["tokens"]) > 0
        assert "".join(reply["token_strs"]) == text
        assert reply["max_model_len"] == 16384
        assert (await shared_engine.post("/detokenize", {"tokens": reply["tokens"]}))[1] == {"prompt": text}


async def test_a_conversation_tokenizes_to_what_a_chat_is_charged_for(shared_engine):
    messages = [{"role": "user", "content": "hello there"}]
    _, counted = await shared_engine.post("/tokenize", {"model": MODEL, "messages": messages})
    _, without = await shared_engine.post("/tokenize", {"messages": messages, "add_generation_prompt": False})
    _, reply = await shared_engine.post("/v1/chat/completions", {"model": MODEL, "messages": messages, "max_tokens": 1})
    assert counted["count"] == reply["usage"]["prompt_tokens"] > without["count"]
    assert counted["tokens"][: without["count"]] == without["tokens"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}), ("/tokenize", {"prompt": 5}), ("/tokenize", {"messages": []}), ("/detokenize", {}),
        ("/detokenize", {"tokens": ["x"]}), ("/detokenize", {"tokens": [-1]}), ("/detokenize", {"tokens": [2**32]}),
    ],
)  # fmt: skip
async def test_nothing_to_tokenize_is_400(shared_engine, path, body):
    assert (await shared_engine.post(path, body))[0] == 400


async def test_cl100k_counts_when_it_is_asked_for(start_engine, instant):
    pytest.importorskip("bpe_openai")
    engine = await start_engine("--tokenizer", "cl100k", **instant)
    _, reply = await engine.post("/tokenize", {"prompt": "Hello world, this is"})
    assert reply["tokens"] == [9906, 1917, 11, 420, 374]
    assert (await engine.complete("Hello world", max_tokens=20))["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(
    ("more", "size"), [({}, 1536), ({"dimensions": 512}, 512), ({"encoding_format": "base64"}, 1536)]
)
async def test_an_embedding_for_each_input(shared_engine, more, size):
    body = {"model": MODEL, "input": ["a", "b", "a"], **more}
    status, reply = await shared_engine.post("/v1/embeddings", body)
    assert (status, [item["index"] for item in reply["data"]]) == (200, [0, 1, 2])
    vectors = [item["embedding"] for item in reply["data"]]
    if "encoding_format" in more:
        assert [len(base64.b64decode(vector)) for vector in vectors] == [4 * size] * 3
        vectors = [list(array("f", base64.b64decode(vector))) for vector in vectors]
    assert [len(vector) for vector in vectors] == [size] * 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.isclose(sum(value * value for value in vectors[0]), 1, rel_tol=1e-5)


async def test_token_ids_are_inputs_too_and_a_large_model_has_more_numbers(start_engine, instant):
    engine = await start_engine("--model", "embed-large", model="embed-large", **instant)
    for given, count in (([1, 2, 3], 1), ([[1], [2, 3]], 2)):
        _, reply = await engine.post("/v1/embeddings", {"model": "embed-large", "input": given})
        assert [len(item["embedding"]) for item in reply["data"]] == [3072] * count
        assert reply["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input": ["a"] * 2049}, 400, "input"), ({"input": []}, 400, "input"), ({"input": None}, 400, "body.input"),
        ({"input": 5}, 400, "body.input"), ({"input": [1, "a"]}, 400, "body.input.0"), ({"model": ""}, 400, "model"),
        ({"model": "nope"}, 404, "model"), ({"encoding_format": "hex"}, 400, "encoding_format"),
        ({"dimensions": 0}, 400, "dimensions"), ({"input": list(range(9000))}, 400, "input_tokens"),
    ],
)  # fmt: skip
async def test_a_wrong_embedding_request_is_refused_by_name(shared_engine, change, status, param):
    got, reply = await shared_engine.post("/v1/embeddings", {"model": MODEL, "input": "a", **change})
    assert (got, reply["error"]["param"]) == (status, param)


async def test_reranking_sorts_and_keeps_the_best(shared_engine):
    documents = ["nothing of it", "a red fox runs", "a fox"]
    body = {"model": MODEL, "query": "red fox", "documents": documents, "top_n": 2}
    status, reply = await shared_engine.post("/v1/rerank", body)
    scores = [result["relevance_score"] for result in reply["results"]]
    assert (status, len(scores), scores) == (200, 2, sorted(scores, reverse=True))
    assert reply["results"][0]["document"]["text"] == "a red fox runs"
    for wrong in ({"query": None}, {"documents": []}, {"documents": [5]}, {"model": None}):
        assert (await shared_engine.post("/v1/rerank", {**body, **wrong}))[0] == 400


@pytest.mark.parametrize(
    ("kind", "content_type"), [("mp3", "audio/mpeg"), ("opus", "audio/opus"), ("wav", "audio/wav")]
)
async def test_speech_is_a_file_of_its_kind(shared_engine, kind, content_type):
    body = {"model": MODEL, "input": "hello", "voice": "vivian", "response_format": kind}
    async with shared_engine.session.post(shared_engine.url + "/v1/audio/speech", json=body) as reply:
        assert (reply.status, reply.headers["content-type"]) == (200, content_type)
        assert f"speech.{kind}" in reply.headers["content-disposition"]
        assert await reply.read()


@pytest.mark.parametrize(
    ("change", "param"),
    [({"voice": "xyz"}, "voice"), ({"response_format": "midi"}, "response_format"), ({"input": ""}, "input")],
)
async def test_speech_refuses_by_name(shared_engine, change, param):
    status, reply = await shared_engine.post("/v1/audio/speech", {"input": "hello", **change})
    assert (status, reply["error"]["param"]) == (400, param)


async def test_there_are_nine_voices(shared_engine):
    assert len(json.loads((await shared_engine.get("/v1/audio/voices"))[1])["voices"]) == 9


@pytest.mark.parametrize("path", ["transcriptions", "translations"])
async def test_a_tiny_recording_is_heard_in_every_form(shared_engine, path):
    sound = wave_header(0)
    assert len(sound) == 44
    for shape, marks in {
        "json": ["text"],
        "verbose_json": ["task", "language", "duration", "words", "segments"],
    }.items():
        status, _, text = await form(shared_engine, f"/v1/audio/{path}", model=MODEL, file=sound, response_format=shape)
        assert status == 200
        assert json.loads(text)["text"]
        assert all(mark in json.loads(text) for mark in marks)
    for shape in ("text", "srt", "vtt"):
        status, kind, text = await form(
            shared_engine, f"/v1/audio/{path}", model=MODEL, file=sound, response_format=shape
        )
        assert (status, kind.split(";")[0], bool(text)) == (200, "text/plain", True)
    status, kind, text = await form(shared_engine, f"/v1/audio/{path}", model=MODEL, file=sound, stream="true")
    assert (status, kind.split(";")[0], text.endswith("data: [DONE]\n\n")) == (200, "text/event-stream", True)


async def test_a_form_without_its_fields_or_no_form_at_all_is_400(shared_engine):
    path = "/v1/audio/transcriptions"
    assert (await form(shared_engine, path, file=b"x"))[0] == 400
    assert (await form(shared_engine, path, model=MODEL))[0] == 400
    assert (await form(shared_engine, path, model="nope", file=b"x"))[0] == 404
    assert (await form(shared_engine, "/v1/videos", other="x"))[0] == 400
    for headers, body in (
        ({"content-type": "multipart/form-data"}, b"x"), ({"content-type": "multipart/form-data; boundary=b"}, b"x"),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b\r\nno head\r\n--b--"),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b\r\n\r\nx\r\n"),
        ({"content-type": "text/plain"}, b""),
    ):  # fmt: skip
        async with shared_engine.session.post(shared_engine.url + path, data=body, headers=headers) as reply:
            assert (reply.status, await reply.json()) == (400, {"detail": "There was an error parsing the body"})


async def test_images_and_videos(shared_engine):
    _, reply = await shared_engine.post("/v1/images/generations", {"prompt": "a cat", "n": 3})
    assert [item["url"].partition(",")[0] for item in reply["data"]] == ["data:image/png;base64"] * 3
    _, reply = await shared_engine.post("/v1/images/generations", {"prompt": "a", "response_format": "b64_json"})
    assert base64.b64decode(reply["data"][0]["b64_json"])[1:4] == b"PNG"
    _, reply = await shared_engine.post("/v1/video/generations", {"prompt": "a cat"})
    assert (reply["object"], reply["data"][0]["fps"]) == ("video.generation", 24)
    status, _, text = await form(shared_engine, "/v1/videos", prompt="a cat")
    assert (status, json.loads(text)["data"][0]["revised_prompt"]) == (200, "a cat")
    for path in ("/v1/images/generations", "/v1/video/generations"):
        assert (await shared_engine.post(path, {}))[0] == 400
    assert (await shared_engine.post("/v1/images/generations", {"prompt": "a", "n": 99}))[0] == 400


async def test_chats_with_image_fields_or_audio_are_answered_so(shared_engine):
    reply = await shared_engine.chat(height=512)
    assert reply["choices"][0]["message"]["content"][0]["type"] == "image_url"
    assert reply["usage"]["completion_tokens"] == 0
    reply = await shared_engine.chat(modalities=["text", "audio"])
    assert reply["choices"][0]["message"]["audio"]["format"] == "wav"
