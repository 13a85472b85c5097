"""Thousands of malformed and odd requests to a real process: no 5xx, no traceback, and it lives on.

`SIMULATOR_FUZZ_REQUESTS=20000 python -m pytest tests/simulator/test_fuzz.py` runs longer than the default.
"""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from simulator.routes import routes
from simulator.settings import read_settings
from tests.simulator.conftest import INSTANT

REQUESTS = int(os.environ.get("SIMULATOR_FUZZ_REQUESTS", "2400"))
REQUESTS_PER_EXAMPLE = 12

FLAVOURS = ("vllm", "sglang", "trtllm")
LEFT_OUT = {"/admin/crash", "/sleep"}
"""Paths that end or silence the engine on request."""

FIELDS = (
    "model", "messages", "prompt", "input", "n", "stop", "stream", "stream_options", "max_tokens", "min_tokens", "seed",
    "max_completion_tokens", "temperature", "top_p", "ignore_eos", "cache_salt", "return_token_ids", "prompt_token_ids",
    "kv_transfer_params", "disagg_prefill_resp", "disaggregated_params", "bootstrap_host", "bootstrap_port",
    "bootstrap_room", "query", "documents", "top_n", "dimensions", "encoding_format", "voice", "response_format",
    "tokens", "lora_name", "lora_path", "load_inplace", "pinned", "failures", "latency", "scale", "metrics", "height",
    "modalities", "add_generation_prompt", "running", "waiting", "tools", "tool_choice", "logprobs",
)  # fmt: skip
VALID = {
    "model": "llama2-7b", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi",
    "max_tokens": 3, "query": "a", "documents": ["a", "b"], "tokens": [1, 2], "lora_name": "a", "lora_path": "p",
}  # fmt: skip

leaves = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.integers(-3, 30) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["llama2-7b", "float", "true", "generation_only", "127.0.0.1", "wav"])
)  # fmt: skip
names = st.sampled_from(
    ["role", "content", "type", "text", "do_remote_decode", "do_remote_prefill", "request_type", "disagg_request_id",
     "include_usage", "rate", "types", "remote_host", "opaque_state", "url"]
)  # fmt: skip
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)
json_bodies = st.dictionaries(st.sampled_from(FIELDS), values, max_size=5).map(
    lambda change: json.dumps({**VALID, **change}).encode()
)
forms = st.tuples(st.sampled_from(["model", "file", "prompt", "stream", "x"]), st.binary(max_size=20)).map(
    lambda part: (
        b'--b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n--b--\r\n' % (part[0].encode(), part[1])
    )
)
bodies = (
    json_bodies | json_bodies | json_bodies | forms | st.binary(max_size=60) | json_bodies.map(lambda body: body[:-7])
)
headers = st.sampled_from(
    [
        {"content-type": "application/json"}, {"content-type": "multipart/form-data; boundary=b"}, {},
        {"content-type": "multipart/form-data"}, {"x-request-id": "r 1"}, {"x-data-parallel-rank": "9"},
        {"x-sim-return-error": "4x4"}, {"authorization": "Bearer \xff"},
    ]
)  # fmt: skip
queries = st.sampled_from(["", "?level=9", "?tags=x", "?a=%ff&b", "?reset_running_requests=true"])


def paths(flavour: str) -> list[str]:
    known = routes(read_settings([], {"LLM_ENGINE": flavour, "VLLM_SERVER_DEV_MODE": "1"}))
    return [*sorted(known.keys() - LEFT_OUT), "/v1/unknown", "/"]


def requests(flavour: str):
    methods = st.sampled_from(["POST"] * 8 + ["GET", "PUT", "HEAD", "OPTIONS"])
    return st.tuples(methods, st.sampled_from(paths(flavour)), queries, headers, bodies)


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_no_request_makes_an_engine_fail(start_engine, flavour):
    engine = await start_engine("--max-model-len", "256", **INSTANT, LLM_ENGINE=flavour)
    loop = asyncio.get_running_loop()
    sent: list[int] = []

    async def send(method: str, path: str, query: str, given: dict[str, str], body: bytes) -> None:
        if path == "/admin/config" and b"failures" in body:
            return
        options = {"data": body, "headers": given}
        async with engine.session.request(method, engine.url + path + query, **options) as reply:
            await reply.read()
            sent.append(reply.status)
            assert reply.status < 500, (method, path, body, await reply.text())

    @settings(
        max_examples=REQUESTS // len(FLAVOURS) // REQUESTS_PER_EXAMPLE + 1,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(st.lists(requests(flavour), min_size=REQUESTS_PER_EXAMPLE, max_size=REQUESTS_PER_EXAMPLE))
    def attack(plan):
        for request in plan:
            asyncio.run_coroutine_threadsafe(send(*request), loop).result(20)

    await asyncio.to_thread(attack)
    assert len(sent) >= REQUESTS // len(FLAVOURS) * 0.95
    assert (await engine.get("/health"))[0] == 200
    engine.process.terminate()
    log = await asyncio.wait_for(engine.process.stderr.read(), 10)
    assert b"Traceback" not in log
    assert await engine.process.wait() == 0
