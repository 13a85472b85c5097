"""A small OTLP backend: what a collector of spans hears, over gRPC or over HTTPS.

The messages at hand are an older edition: what OTLP calls `scope_spans` has another name there, and the same number.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from crds.admission.certificates import renewed
from tests.gateway.parts import free_port

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass
class Spans:
    """All that was heard so far."""

    port: int = field(default_factory=free_port)
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> ExportTraceServiceResponse:
        self.headers.append(headers)
        for each in request.resource_spans:
            self.resources.append({pair.key: pair.value.string_value for pair in each.resource.attributes})
            self.spans += [span for scope in each.instrumentation_library_spans for span in scope.spans]
        return ExportTraceServiceResponse()

    def of(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id.hex() == trace]


@dataclass(frozen=True)
class Certificate:
    """Of `localhost`, by an authority of its own."""

    authority: Path
    chain: Path
    key: Path

    @classmethod
    def made(cls, folder: Path) -> Certificate:
        for name, content in renewed({}, ["localhost"], datetime.now(UTC)).items():
            (folder / name).write_bytes(content)
        return cls(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")


def said(span: Span) -> dict[str, str]:
    """The attributes of a span that are texts."""
    return {pair.key: pair.value.string_value for pair in span.attributes}


@contextlib.asynccontextmanager
async def over_grpc() -> AsyncIterator[Spans]:
    heard = Spans()

    async def export(
        request: ExportTraceServiceRequest, context: grpc.aio.ServicerContext
    ) -> ExportTraceServiceResponse:
        return heard.take(request, {str(key): str(value) for key, value in context.invocation_metadata() or ()})

    handler = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
    server.add_insecure_port(f"127.0.0.1:{heard.port}")
    await server.start()
    try:
        yield heard
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def over_https(path: str, heard: Spans, certificate: Certificate) -> AsyncIterator[None]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.chain, certificate.key)

    async def export(request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        parsed = ExportTraceServiceRequest.FromString(await request.read())
        answer = heard.take(parsed, {key.lower(): value for key, value in request.headers.items()})
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post(path, export)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", heard.port, ssl_context=context).start()
    try:
        yield
    finally:
        await runner.cleanup()
