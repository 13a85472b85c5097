"""Values that a Prometheus server works out: asked for only when one is configured, with its credentials."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.kube import KubeClient
from gateway.prometheus import QUESTIONS, AnswerUnreadable, Prometheus, Secret, of_endpoint, values_of
from gateway.querying import LIFE_SECONDS, Querying, credentials
from gateway.settings import Host
from gateway.topology import endpoint_of
from tests.gateway.parts import ENGINE_PORT, Engine, Gate, eventually, free_port
from tests.gateway.rig import ControlPlane, through
from tests.gateway.standalone import Standalone, without_kubernetes

of_a_session = pytest.mark.asyncio(loop_scope="session")
NAMED = {question.name: question for question in QUESTIONS}
WITH_POD = {"engine_type", "gateway_pod", "model", "namespace", "pod", "role", "role_replica_index", "roleset"}
NAME, NAMESPACE = "PROMETHEUS_BASIC_AUTH_SECRET_NAME", "PROMETHEUS_BASIC_AUTH_SECRET_NAMESPACE"
LOGIN = "Basic cmVhZGVyOnNlY3JldA=="
"""reader:secret"""

Start = Callable[[], Awaitable[Engine]]


def vector(*samples: tuple[dict[str, str], str]) -> dict[str, Any]:
    """An answer of the query API."""
    result = [{"metric": labels, "value": [1732467600.781, value]} for labels, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@dataclass
class Server:
    """A server of Prometheus' query API that says what it is told to."""

    port: int = field(default_factory=free_port)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def say(self, name: str, *samples: tuple[dict[str, str], str]) -> None:
        self.answers[NAMED[name].expression("pods")] = vector(*samples)

    async def query(self, request: web.Request) -> web.Response:
        expression = str((await request.post())["query"])
        self.asked.append(expression)
        self.told.add(request.headers.get("authorization", ""))
        if expression not in self.answers:
            error = {"status": "error", "errorType": "execution", "error": "not today"}
            return web.json_response(error, status=422)
        return web.json_response(self.answers[expression])


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Server]:
    made, app = Server(), web.Application()
    app.router.add_post("/api/v1/query", made.query)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", made.port).start()
    yield made
    await runner.cleanup()


@contextlib.contextmanager
def asking(server: Server, engine: Engine) -> Iterator[Standalone]:
    variables = {
        "PROMETHEUS_ENDPOINT": f"{server.url}/",
        "PROMETHEUS_BASIC_AUTH_USERNAME": "reader",
        "PROMETHEUS_BASIC_AUTH_PASSWORD": "secret",
        "AIBRIX_PROMETHEUS_QUERY_INTERVAL_MS": "5",
    }
    with without_kubernetes(Host.MODULE, **variables) as alone:
        alone.say(engine)
        alone.start()
        yield alone


async def series(alone: Standalone, name: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{alone.http_url}/metrics") as got:
        lines = (await got.text()).splitlines()
    own = [line.rpartition(" ") for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return {labels: float(value) for labels, _, value in own}


@of_a_session
async def test_what_prometheus_says_is_exported_for_the_pods_it_is_about(server: Server, start_engine: Start) -> None:
    engine = await start_engine()
    instance = f"{engine.host}:{ENGINE_PORT}"
    server.say("avg_ttft_5m_pod", ({"instance": instance}, "0.25"), ({"instance": "10.0.0.9:8000"}, "7"))
    server.say("p95_ttft_5m", ({"instance": instance, "model_name": "m"}, "1.5"), ({"instance": instance}, "9"))
    server.say("avg_prompt_toks_per_req", ({"instance": instance, "model_name": "m"}, "640"))
    server.say("avg_tpot_pod_5m", ({"instance": instance}, "NaN"))
    with asking(server, engine) as alone:
        await eventually(lambda: series(alone, "avg_prompt_toks_per_req"))
        (labels,) = found = await series(alone, "avg_ttft_5m_pod")
        assert found[labels] == 0.25
        assert all(f'{label}="' in labels for label in WITH_POD)
        assert list((await series(alone, "p95_ttft_5m")).values()) == [1.5]
        assert list((await series(alone, "avg_prompt_toks_per_req")).values()) == [640]
        assert await series(alone, "avg_tpot_pod_5m") == {}
        server.say("avg_ttft_5m_pod")
        await eventually(lambda: series_is_gone(alone, "avg_ttft_5m_pod"))
        assert sum((await series(alone, "prometheus_query_fail_total")).values()) > 0
    assert server.told == {LOGIN}
    assert set(server.asked) == {question.expression("pods") for question in QUESTIONS}


async def series_is_gone(alone: Standalone, name: str) -> bool:
    return await series(alone, name) == {}


@of_a_session
async def test_what_a_server_said_is_forgotten_when_it_stays_away(server: Server) -> None:
    server.say("avg_ttft_5m_pod", ({"instance": "a:1"}, "0.25"))
    now = 100.0
    given = Prometheus(server.url, interval=timedelta(milliseconds=1), timeout=timedelta(seconds=1))
    querying = Querying(given, None, lambda: now)
    asking = asyncio.create_task(querying.run())
    await eventually(lambda: querying.answers() == {"avg_ttft_5m_pod": {("a:1", ""): 0.25}})
    server.answers.clear()
    failed = querying.failures
    await eventually(lambda: querying.failures > failed + 2)
    assert querying.answers()
    now += LIFE_SECONDS + 1
    assert querying.answers() == {}
    asking.cancel()


@pytest.mark.parametrize("given", [{}, {"PROMETHEUS_ENDPOINT": " "}, {NAME: "x"}])
def test_without_an_endpoint_nothing_is_asked(given: dict[str, str]) -> None:  # gateway-cache 59
    assert Prometheus.from_environment(given) is None


def test_the_settings_of_a_server() -> None:
    given = {
        "PROMETHEUS_ENDPOINT": "prometheus:9090/",
        "AIBRIX_PROMETHEUS_QUERY_TIMEOUT_MS": "-1",
        NAME: "login",
        "PROMETHEUS_BASIC_AUTH_PASSWORD_KEY": "pass",
    }
    found = Prometheus.from_environment(given)
    assert found is not None
    assert (found.url, found.interval, found.timeout) == (
        "http://prometheus:9090", timedelta(milliseconds=200), timedelta(seconds=2),
    )  # fmt: skip
    assert found.secret == Secret("aibrix-system", "login", "username", "pass")


@pytest_asyncio.fixture(loop_scope="session")
async def as_gateway(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[KubeClient]:
    """A client with the gateway's own ServiceAccount."""
    gate = Gate()
    await gate.open()
    client = await KubeClient.connect(str(through(gate, control_plane, tmp_path)))
    yield client
    await client.close()
    gate.shut()


def secret_with(control_plane: ControlPlane, name: str, **data: str) -> None:
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
    control_plane.kubectl("--namespace", "aibrix-system", "apply", "-f", "-", input=json.dumps(document))


def may_read(control_plane: ControlPlane, name: str) -> None:
    """The two objects that docs/gateway.md asks an operator for."""
    own = ("--namespace", "aibrix-system")
    control_plane.kubectl(*own, "create", "role", name, "--verb=get", "--resource=secrets", f"--resource-name={name}")
    account = "--serviceaccount=aibrix-system:aibrix-gateway-plugins"
    control_plane.kubectl(*own, "create", "rolebinding", name, f"--role={name}", account)


@of_a_session
async def test_a_secret_with_keys_of_its_own_is_used_without_its_blanks(  # gateway-ops 36
    control_plane: ControlPlane, as_gateway: KubeClient, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"PROMETHEUS_ENDPOINT": "http://p", NAME: "login-of-prometheus"}
    given |= {"PROMETHEUS_BASIC_AUTH_USERNAME_KEY": "who", "PROMETHEUS_BASIC_AUTH_PASSWORD_KEY": "what"}
    server = Prometheus.from_environment(given)
    assert server is not None
    secret_with(control_plane, "login-of-prometheus", who=" reader\n", what="\tsecret \n")
    with caplog.at_level(logging.WARNING):
        assert await credentials(server, as_gateway) == ""  # the shipped rights hold no Secret
    assert "event=credentials_missing secret=aibrix-system/login-of-prometheus" in caplog.text
    may_read(control_plane, "login-of-prometheus")

    async def is_read() -> bool:
        return await credentials(server, as_gateway) == LOGIN

    await eventually(is_read)


@of_a_session
async def test_a_secret_without_kubernetes_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:  # gateway-ops 35
    given = {"PROMETHEUS_ENDPOINT": "http://p", NAME: "login", "PROMETHEUS_BASIC_AUTH_USERNAME": "unused"}
    server = Prometheus.from_environment(given)
    assert server is not None
    with caplog.at_level(logging.WARNING):
        assert await credentials(server, None) == ""
    assert "event=credentials_missing secret=aibrix-system/login reason=there is no Kubernetes" in caplog.text


@pytest.mark.parametrize(
    "document",
    [
        {}, [], {"status": "error", "error": "no"},
        {"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}},
        vector(({"instance": "a:1"}, "many")),
    ],
)  # fmt: skip
def test_what_is_no_vector_of_numbers_is_no_answer(document: object) -> None:
    with pytest.raises(AnswerUnreadable):
        values_of(document)


@pytest.mark.parametrize(
    ("samples", "value"),
    [
        ([("p:8000", "m", 2.0), ("p:8000", "other", 3.0)], 2.0),
        ([("p:8000", "alias", 2.0)], 2.0),
        ([("p:8000", "a", 2.0), ("p:8000", "b", 3.0)], None),
        ([("q:8000", "m", 2.0)], None),
    ],
)
def test_a_value_of_a_model_goes_to_its_pod(samples: list[tuple[str, str, float]], value: float | None) -> None:
    pod = {
        "metadata": {"uid": "u", "namespace": "n", "name": "p", "labels": {"model.aibrix.ai/name": "m"}},
        "status": {"podIP": "p", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    endpoint = endpoint_of(pod)
    assert endpoint is not None
    values = {(instance, model): number for instance, model, number in samples}
    assert of_endpoint(NAMED["p95_ttft_5m"], values, endpoint) == value


def test_averages_divide_a_sum_by_its_count_and_the_job_is_quoted() -> None:
    expression = NAMED["avg_tpot_pod_5m"].expression('a"b')
    assert expression == (
        '(sum by (instance) (increase(vllm:time_per_output_token_seconds_sum{job="a\\"b"}[5m]))'
        ' / sum by (instance) (increase(vllm:time_per_output_token_seconds_count{job="a\\"b"}[5m])))'
        ' or (sum by (instance) (increase(vllm:inter_token_latency_seconds_sum{job="a\\"b"}[5m]))'
        ' / sum by (instance) (increase(vllm:inter_token_latency_seconds_count{job="a\\"b"}[5m])))'
    )
