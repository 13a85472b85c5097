"""What a client sees through Envoy. Numbers in comments are acceptance cases of the spec's gateway document."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"


async def refusal(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The error object of an answer, which must be OpenAI-shaped."""
    document = await answer.json()
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return error


async def test_a_chat_is_answered_by_a_pod_that_the_answer_names(  # 54, 72, 74
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model)) as answer:
        assert answer.status == 200
        assert (await answer.json())["choices"][0]["message"]["content"] == "hello"
        assert answer.headers["target-pod"] == pod
        assert answer.headers["target-pod-ip"] == engines[0].address
        assert answer.headers["routing-strategy"] == "least-request"
        assert answer.headers["x-went-into-req-headers"] == "true"
        request_id = answer.headers["request-id"]
    seen = (await engines[0].seen())[-1]["headers"]
    assert seen["target-pod"] == engines[0].address
    assert seen["routing-strategy"] == "least-request"
    assert seen["x-request-id"] == request_id
    assert int(seen["content-length"]) > 0


async def test_the_first_chunk_of_a_stream_comes_before_the_last_is_made(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    headers = {"x-engine-chunks": "4", "x-engine-gap": "0.15"}
    async with client.post(CHAT, json=chat(model, stream=True), headers=headers) as answer:
        arrivals = [time.monotonic() async for line in answer.content if line.startswith(b"data:")]
    assert len(arrivals) == 5
    assert arrivals[4] - arrivals[0] > 0.4
    await eventually(rig.is_quiet)


async def test_a_trace_of_the_client_becomes_the_request_id(  # 10, 12
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with client.post(
        CHAT, json=chat(model), headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    ) as answer:
        assert answer.headers["request-id"] == trace
    async with client.post(CHAT, json=chat(model), headers={"traceparent": f"00-{trace}-01"}) as answer:
        assert answer.headers["request-id"] != trace


async def test_what_only_the_gateway_may_say_is_never_taken_from_a_client(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    decoy = engines[1]
    before = len(await decoy.seen())
    headers = {
        "target-pod": decoy.address, "target-pod-ip": decoy.address, "model": "other", "x-error-routing": "x",
        "routing-strategy": "random", "x-envoy-original-dst-host": decoy.address, "x-envoy-retry-on": "5xx",
    }  # fmt: skip
    async with client.post(CHAT, json=chat(model), headers=headers) as answer:
        assert (answer.status, answer.headers["target-pod-ip"]) == (200, engines[0].address)
    seen = (await engines[0].seen())[-1]["headers"]
    assert seen["target-pod"] == engines[0].address
    assert not {"model", "target-pod-ip", "x-error-routing", "x-envoy-retry-on"} & set(seen)
    assert len(await decoy.seen()) == before


@pytest.mark.parametrize("path", ["/", CHAT, "/v1/models/../chat/completions", "/anything"])
async def test_a_request_without_body_never_reaches_an_address_that_the_client_named(  # 100
    client: aiohttp.ClientSession, engines: list[Engine], path: str
) -> None:
    before = len(await engines[1].seen())
    headers = {"routing-strategy": "random", "target-pod": engines[1].address}
    async with client.get(path, headers=headers) as answer:
        assert answer.status in {400, 404, 405, 501}
        await refusal(answer)
    assert len(await engines[1].seen()) == before


async def test_an_unknown_model_is_400(client: aiohttp.ClientSession) -> None:  # 44
    async with client.post(CHAT, json=chat("nobody")) as answer:
        assert answer.status == 400
        assert answer.headers["x-error-no-model-backends"] == "nobody"
        assert answer.headers["content-type"] == "application/json"
        assert await refusal(answer) == {
            "message": "model nobody does not exist", "type": "invalid_request_error",
            "code": "model_not_found", "param": "model",
        }  # fmt: skip


@pytest.mark.parametrize("strategy", ["rrandom", "random:x", "random:-1", "random:1000001", "a:1:2", "random:0"])
async def test_a_bad_strategy_is_400(  # 55
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], strategy: str, model: str
) -> None:
    if not await rig.metric("model_replicas", model=model):
        rig.pod(model, engines[0].host)
        await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model), headers={"routing-strategy": strategy}) as answer:
        assert (answer.status, answer.headers["x-error-routing"]) == (400, "true")
        assert (await refusal(answer))["message"] == f"incorrect routing strategy {strategy}"


async def test_a_blank_strategy_means_the_default(  # 55, 62
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    for given, used in (("  ", "least-request"), ("random", "random")):
        before = await rig.metric("brixflow_decisions_total", strategy=used)
        async with client.post(CHAT, json=chat(model), headers={"routing-strategy": given}) as answer:
            assert (answer.status, answer.headers["routing-strategy"]) == (200, used)
        assert await rig.metric("brixflow_decisions_total", strategy=used) == before + 1


async def test_a_model_without_a_ready_pod_is_503(  # 45
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host, ready=False)
    rig.pod(model, "")

    async def refused() -> bool:
        async with client.post(CHAT, json=chat(model)) as answer:
            error = await refusal(answer)
            return answer.status == 503 and error["message"] == f"error on getting pods for model {model}"

    await eventually(refused)
    async with client.post(CHAT, json=chat(model)) as answer:
        assert answer.headers["x-error-no-model-backends"] == "true"
        assert (await refusal(answer))["code"] == "service_unavailable"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/unknown", "{}", 501, "unknown request path"),  # 17
        (CHAT, "bad_request", 400, "error processing request body"),  # 18
        (CHAT, '{"model":1}', 400, "error processing request body"),  # 19
        (CHAT, '{"model":"llama2-7b"}', 400, "no messages in the request body"),  # 20
        (CHAT, '{"model":"m","stream":"true","messages":[{}]}', 400, "error processing request body"),  # 23
        ("/v1/responses", '{"input":"x"}', 400, "'model' is a required property"),  # 27
        ("/v1/responses", '{"model":"m"}', 400, "'input' is a required property"),  # 27
        ("/v1/responses", '{"model":"m","input":[]}', 400, "'input' array cannot be empty"),  # 27
        ("/v1/responses", '{"model":"m","input":7}', 400, "'input' must be a string or an array of input items"),  # 27
        ("/v1/rerank", '{"model":"m","documents":["a"]}', 400, "'query' is a required property"),  # 39
        (
            "/v1/rerank",
            '{"model":"m","query":"q","documents":[]}',
            400,
            "'documents' is a required property and cannot be empty",
        ),  # 39
    ],
)
async def test_a_request_that_cannot_be_read_is_refused(
    client: aiohttp.ClientSession, path: str, body: str, status: int, message: str
) -> None:
    async with client.post(path, data=body, headers={"content-type": "application/json"}) as answer:
        assert answer.status == status
        assert answer.headers["x-error-request-body-processing"] == "true"
        assert (await refusal(answer))["message"] == message


async def test_an_error_object_of_the_engine_passes_byte_for_byte(  # 75
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    body = '{"error": {"message":"too long","type":"BadRequestError","param":null,"code":400}}'
    for status in (400, 500):
        headers = {"x-engine-status": str(status), "x-engine-body": body}
        async with client.post(CHAT, json=chat(model), headers=headers) as answer:
            assert (answer.status, await answer.text()) == (status, body)


async def test_any_other_error_of_the_engine_is_wrapped_under_its_status(  # 76, 77, 78
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    for status, kind, text in (
        (400, "invalid_request_error", "it broke"),
        (503, "overloaded_error", "it broke"),
        (500, "api_error", "it broke"),
        (404, "invalid_request_error", '{"detail":"Not Found"}'),
    ):
        headers = {"x-engine-status": str(status), "x-engine-body": text, "x-engine-type": "text/plain"}
        async with client.post(CHAT, json=chat(model), headers=headers) as answer:
            assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
            error = await refusal(answer)
            assert (error["message"], error["type"]) == (text, kind)
            assert error["code"] == ("service_unavailable" if status == 503 else None)
    headers = {"x-engine-status": "401", "x-engine-body": "no", "x-engine-type": "text/plain"}
    async with client.post(CHAT, json=chat(model), headers=headers) as answer:
        assert answer.status == 401
        assert (await refusal(answer))["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "body",
    [
        '{"foo":"bar"}', "[1,2]", "not json", '{"object":"error","message":"x","code":400}', "",
        '{"error":{"message":"x","type":"t","param":null,"code":"400"}}',
    ],
)  # fmt: skip
async def test_a_good_answer_is_never_replaced(  # 80, 81, 82, 83
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], body: str, model: str
) -> None:
    if not await rig.metric("model_replicas", model=model):
        rig.pod(model, engines[0].host)
        await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model), headers={"x-engine-body": body}) as answer:
        assert (answer.status, await answer.text()) == (200, body)


async def test_least_request_spreads_what_runs_at_the_same_time(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pods = {rig.pod(model, engine.host): engine for engine in engines}
    await rig.routable(model, len(engines))

    async def ask() -> str:
        async with client.post(CHAT, json=chat(model), headers={"x-engine-delay": "0.7"}) as answer:
            assert answer.status == 200
            return answer.headers["target-pod"]

    served = await asyncio.gather(*(ask() for _ in range(4 * len(pods))))
    assert sorted(served.count(pod) for pod in pods) == [4, 4, 4, 4]
    await eventually(rig.is_quiet)


async def test_an_external_filter_leaves_only_matching_pods(  # 70, 71
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    blue = rig.pod(model, engines[0].host, colour="blue")
    rig.pod(model, engines[1].host, colour="red")
    await rig.routable(model, 2)
    for wanted in ("colour=blue", "colour in (blue, green)", "colour!=red", "colour notin (red)"):
        for _ in range(4):
            async with client.post(CHAT, json=chat(model), headers={"external-filter": wanted}) as answer:
                assert (answer.status, answer.headers["target-pod"]) == (200, blue)
    for wanted, status in (("colour=green", 503), ("a b c", 400)):
        async with client.post(CHAT, json=chat(model), headers={"external-filter": wanted}) as answer:
            assert (answer.status, answer.headers["x-error-routing"]) == (status, "true")


async def test_a_body_of_20_mib_passes_and_one_above_the_limit_is_413(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model, "x" * (20 << 20))) as answer:
        assert answer.status == 200
    assert (await engines[0].seen())[-1]["bytes"] > 20 << 20
    async with client.post(CHAT, json=chat(model, "x" * (33 << 20))) as answer:
        assert answer.status == 413
        assert (await refusal(answer))["type"] == "invalid_request_error"


async def test_a_pod_that_refuses_the_connection_is_503_with_an_error_object(
    rig: Rig, client: aiohttp.ClientSession, model: str
) -> None:
    rig.pod(model, "127.86.255.250")
    await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model)) as answer:
        assert answer.status == 503
        assert (await refusal(answer))["type"] == "overloaded_error"
    await eventually(rig.is_quiet)


async def test_the_access_log_has_one_line_a_request_without_prompt_or_query(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    pod = rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(f"{CHAT}?key=in-the-query", json=chat(model, "a secret prompt")) as answer:
        request_id = answer.headers["request-id"]
    log = rig.home / "access.log"
    await eventually(lambda: request_id in log.read_text(), within=15)
    (line,) = [line for line in log.read_text().splitlines() if request_id in line]
    event = json.loads(line)
    assert (event["status"], event["pod"], event["strategy"], event["path"]) == (200, pod, "least-request", CHAT)
    assert (event["model"], event["outcome"]) == (model, "ok")
    assert (event["prompt_tokens"], event["completion_tokens"]) == ("10", "8")
    assert event["first_byte_ms"] <= event["duration_ms"]
    assert "secret" not in log.read_text()
    assert "in-the-query" not in log.read_text()


async def test_the_access_log_tells_refusals_and_errors_apart(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(f"{model}-absent")) as answer:
        assert answer.status == 400
    async with client.post(CHAT, json=chat(model), headers={"x-engine-status": "429"}) as answer:
        assert answer.status == 429
    log = rig.home / "access.log"

    def outcomes() -> dict[str, tuple[int, str]]:
        events = [json.loads(line) for line in log.read_text().splitlines()]
        return {event["model"]: (event["status"], event["outcome"]) for event in events}

    expected = {f"{model}-absent": (400, "rejected"), model: (429, "upstream_error")}
    await eventually(lambda: expected.items() <= outcomes().items(), within=15)


async def test_models_are_listed_without_a_request_of_a_model(  # gateway-ops 6, 7
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    entry = {"id": model, "object": "model", "created": 0, "owned_by": "aibrix"}
    async with client.get("/v1/models") as answer:
        listed = await answer.json()
        assert listed["object"] == "list"
        assert entry in listed["data"]
        assert [each["id"] for each in listed["data"]] == sorted(each["id"] for each in listed["data"])
    async with client.get(f"/v1/models/{model}") as answer:
        assert await answer.json() == entry
    async with client.get("/v1/models/nobody") as answer:
        assert (answer.status, (await refusal(answer))["code"]) == (404, "model_not_found")
    async with client.post("/v1/models") as answer:
        assert (answer.status, await answer.json()) == (405, {"error": "method not allowed"})


async def test_http2_clients_are_served(rig: Rig, engines: list[Engine], model: str) -> None:
    rig.pod(model, engines[0].host)
    await rig.routable(model, 1)
    command = ["curl", "-s", "--http2-prior-knowledge", "-d", json.dumps(chat(model)), f"{rig.url}{CHAT}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert json.loads(out)["object"] == "chat.completion"
