"""Spans: a request is one trace from its client to its engine when OpenTelemetry's variables say so, else nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from gateway.settings import Host
from gateway.tracing import Protocol, Tracing, TracingRefused
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import OURS, Rig, chat
from tests.gateway.spans import Certificate, Spans, over_grpc, over_https, said
from tests.gateway.standalone import without_kubernetes

CHAT = "/v1/chat/completions"
ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
PROPAGATED = {"traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-ot-span-context", "uber-trace-id"}
SERVER, CLIENT = 2, 3
"""Kinds of spans in OTLP."""

Start = Callable[[], Awaitable[Engine]]
of_a_session = pytest.mark.asyncio(loop_scope="session")


@contextlib.asynccontextmanager
async def traced(host: Host, engine: Engine, **variables: str) -> AsyncIterator[aiohttp.ClientSession]:
    with without_kubernetes(host, **SOON, **variables) as alone:
        alone.say(engine)
        alone.start()
        async with aiohttp.ClientSession(alone.url) as client:

            async def serves() -> bool:
                async with client.post(CHAT, json=chat("m")) as answer:
                    return answer.status == 200

            await eventually(serves)
            yield client


async def ask(client: aiohttp.ClientSession, flags: str = "01", path: str = CHAT) -> tuple[str, str]:
    """A request within a trace of its client: the ids of the trace and of the client's span."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace}-{span}-{flags}"}
    async with client.post(path, json=chat("m"), headers=headers) as answer:
        assert answer.status == 200
    return trace, span


async def of_request(heard: Spans, trace: str) -> tuple[dict[str, str], str, str]:
    """What the request's own span says, its parent, and the id of the span of its try at an engine."""

    def both() -> bool:
        return {SERVER, CLIENT} <= {span.kind for span in heard.of(trace)}

    await eventually(both)
    (server,) = [span for span in heard.of(trace) if span.kind == SERVER]
    (engine,) = [span for span in heard.of(trace) if "engines" in span.name]
    assert engine.parent_span_id == server.span_id
    assert 0 < server.start_time_unix_nano <= engine.start_time_unix_nano < engine.end_time_unix_nano
    return said(server), server.parent_span_id.hex(), engine.span_id.hex()


@of_a_session
async def test_a_request_is_one_trace_from_its_client_to_its_engine(host: Host, start_engine: Start) -> None:
    engine = await start_engine()
    async with over_grpc() as heard:
        where = {ENDPOINT: f"http://127.0.0.1:{heard.port}", "OTEL_RESOURCE_ATTRIBUTES": "zone=north"}
        async with traced(host, engine, **where) as client:
            trace, span = await ask(client, path=f"{CHAT}?secret=1")
            attributes, parent, tried = await of_request(heard, trace)
            unsampled, _ = await ask(client, flags="00")
            later, _ = await ask(client)
            await of_request(heard, later)
    assert parent == span
    assert heard.of(unsampled) == []
    expected = {"model": "m", "outcome": "ok", "prompt_tokens": "10", "completion_tokens": "8", "strategy": "random"}
    assert attributes.items() >= {**expected, "http.status_code": "200"}.items()
    assert all("secret" not in value for each in heard.spans for value in said(each).values())
    assert heard.resources[0].items() >= {"service.name": "aibrix-gateway-plugin", "zone": "north"}.items()
    first = (await engine.seen())[-3]
    assert first["headers"]["traceparent"] == f"00-{trace}-{tried}-01"


@of_a_session
@pytest.mark.parametrize("host", [Host.MODULE], scope="session")
async def test_a_backend_that_is_away_costs_no_request_and_is_found_when_it_comes(
    host: Host, start_engine: Start, tmp_path: Path
) -> None:
    heard, certificate = Spans(), Certificate.made(tmp_path)
    where = {
        ENDPOINT: f"https://localhost:{heard.port}/otlp/",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate.authority),
        PROTOCOL: "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a%20b",
        "OTEL_SERVICE_NAME": "north",
    }
    async with traced(host, await start_engine(), **where) as client:
        for _ in range(20):
            await ask(client)
        async with over_https("/otlp/v1/traces", heard, certificate):
            trace, _ = await ask(client)
            await of_request(heard, trace)
    assert heard.headers[0]["x-tenant"] == "a b"
    assert heard.resources[0]["service.name"] == "north"


@of_a_session
async def test_without_an_endpoint_engines_see_no_header_of_a_trace(  # gateway-ops 11
    rig: Rig, client: aiohttp.ClientSession, start_engine: Start, model: str
) -> None:
    assert rig.settings.tracing is None
    engine = await start_engine()
    rig.pod(model, engine.host)
    await rig.routable(model, 1)
    async with client.post(CHAT, json=chat(model)) as answer:
        assert answer.status == 200
    (seen,) = await engine.seen()
    assert not PROPAGATED & set(seen["headers"])


def test_a_protocol_that_is_none_ends_the_start() -> None:  # gateway-ops 10
    given = os.environ | OURS | {ENDPOINT: "http://127.0.0.1:4317", PROTOCOL: "udp"}
    command = [sys.executable, "-m", "gateway.process"]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == os.EX_CONFIG
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is 'udp': it must be grpc, http or http/protobuf" in done.stderr


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({ENDPOINT: "http://a:4317"}, "http://a:4317/v1/traces"),
        ({ENDPOINT: "https://a"}, "https://a:4317/v1/traces"),
        ({ENDPOINT: "https://a", PROTOCOL: "http"}, "https://a:443/v1/traces"),
        ({ENDPOINT: "a:1"}, "https://a:1/v1/traces"),
        ({ENDPOINT: "a:1", "OTEL_EXPORTER_OTLP_INSECURE": "true"}, "http://a:1/v1/traces"),
        ({ENDPOINT: "http://[::1]:5/x"}, "http://[::1]:5/x/v1/traces"),
        ({ENDPOINT: "http://a:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:2/own"}, "http://b:2/own"),
    ],
)
def test_where_spans_go(given: dict[str, str], url: str) -> None:
    found = Tracing.from_environment(given)
    assert found is not None
    assert found.url == url


@pytest.mark.parametrize("endpoint", ["ftp://a:1", "http://", "http://a:x", "http://a:0"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(TracingRefused, match="OTEL_EXPORTER_OTLP_ENDPOINT is"):
        Tracing.from_environment({ENDPOINT: endpoint})


@pytest.mark.parametrize("off", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_nothing_is_traced_unless_it_is_asked_for(off: dict[str, str]) -> None:
    given = {ENDPOINT: "http://a:1"} | off if off else {PROTOCOL: "udp"}
    assert Tracing.from_environment(given) is None


@pytest.mark.parametrize(
    ("sampler", "argument", "expected"),
    [
        ("", "", (True, 1_000_000)), ("always_on", "0.5", (False, 1_000_000)), ("always_off", "", (False, 0)),
        ("traceidratio", "0.25", (False, 250_000)), ("parentbased_traceidratio", "0.25", (True, 250_000)),
        ("traceidratio", "2", (False, 1_000_000)), ("nonsense", "0", (True, 1_000_000)),
    ],
)  # fmt: skip
def test_which_requests_are_sampled(sampler: str, argument: str, expected: tuple[bool, int]) -> None:
    given = {ENDPOINT: "http://a:1", "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    found = Tracing.from_environment(given)
    assert found is not None
    assert (found.follows_parent, found.sampled_per_million) == expected


def test_defaults_are_those_of_opentelemetry() -> None:
    found = Tracing.from_environment({ENDPOINT: "http://a:1", "OTEL_BSP_SCHEDULE_DELAY": "x"})
    assert found is not None
    assert (found.protocol, found.interval, found.timeout) == (
        Protocol.GRPC, timedelta(seconds=5), timedelta(seconds=10),
    )  # fmt: skip
