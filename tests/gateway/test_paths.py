"""Every path that is routed by model, through real Envoy: what passes, what is refused, and what the engine gets."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="session")

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
    "/v1/completions": {"prompt": ["hi", "there"]},
    "/v1/responses": {"input": "hi"},
    "/v1/embeddings": {"input": ["hi", "there"]},
    "/v1/rerank": {"query": "q", "documents": ["a", {"text": "b"}]},
    "/v1/classify": {"input": ["a", "b"]},
    "/v1/images/generations": {"prompt": "a cat"},
    "/v1/video/generations": {"prompt": "a cat"},
}


async def test_every_path_reaches_the_engine_as_it_was_sent(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    for path, members in BODIES.items():
        async with client.post(f"{path}?v=1", json={"model": model, **members}) as answer:
            assert (answer.status, answer.headers["target-pod"]) == (200, pod), path
        assert (await engines[0].seen())[-1]["path"] == f"{path}?v=1"


@pytest.mark.parametrize(
    ("path", "members", "message"),
    [
        ("/v1/embeddings", {"input": ["a", ""]}, "input at index 1 cannot be an empty string"),
        ("/v1/embeddings", {"input": [{"type": "audio"}]}, 'input at index 0 has unsupported content type "audio"'),
        ("/v1/rerank", {"query": "q"}, "'documents' is a required property and cannot be empty"),
        ("/v1/audio/translations", {}, "audio requests must use multipart/form-data content-type"),
    ],
)
async def test_a_body_that_no_engine_should_see_is_refused(  # 29, 36, 39, 41
    rig: Rig, client: aiohttp.ClientSession, path: str, members: dict[str, Any], message: str
) -> None:
    async with client.post(path, json={"model": "any", **members}) as answer:
        assert (answer.status, answer.headers["x-error-request-body-processing"]) == (400, "true")
        error = (await answer.json())["error"]
        assert (error["message"], error["type"]) == (message, "invalid_request_error")


async def test_an_audio_file_of_5_mib_is_routed_by_the_model_behind_it(  # 43
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    form = aiohttp.FormData()
    form.add_field("file", bytes(range(256)) * (5 << 12), filename="talk.wav", content_type="audio/wav")
    form.add_field("model", model)
    form.add_field("stream", "1")
    async with client.post("/v1/audio/transcriptions", data=form) as answer:
        assert (answer.status, answer.headers["target-pod"]) == (200, pod)
    assert (await engines[0].seen())[-1]["bytes"] > 5 << 20
    await eventually(rig.is_quiet)


async def test_a_form_without_model_or_boundary_is_refused(rig: Rig, client: aiohttp.ClientSession) -> None:  # 42
    form = aiohttp.FormData()
    form.add_field("file", b"x", filename="talk.wav")
    async with client.post("/v1/audio/transcriptions", data=form) as answer:
        assert (answer.status, answer.headers["x-error-multipart-parsing"]) == (400, "true")
        assert (await answer.json())["error"]["message"] == "'model' is a required property"
    kind = {"content-type": "multipart/form-data"}
    async with client.post("/v1/audio/transcriptions", data=b"--b--", headers=kind) as answer:
        assert (await answer.json())["error"]["message"] == "missing boundary in content-type"


async def test_an_xdit_engine_gets_its_own_paths(  # 73
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[1].host, **{"model.aibrix.ai/engine": "xdit"})
    await rig.routable(model, 1)
    for path, own in (("/v1/images/generations", "/generate"), ("/v1/video/generations", "/generatevideo")):
        async with client.post(path, json={"model": model, "prompt": "a cat"}) as answer:
            assert answer.status == 200
        assert (await engines[1].seen())[-1]["path"] == own
