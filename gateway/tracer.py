"""Envoy's tracer for what OpenTelemetry's variables say: the values of deploy/envoy/tracing.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from gateway.tracing import PER_MILLION, Protocol, Tracing

CLUSTER = "spans"
TYPES = "type.googleapis.com/envoy"
EXTENSIONS = f"{TYPES}.extensions"
SAMPLERS = f"{EXTENSIONS}.tracers.opentelemetry.samplers.v3"
DETECTORS = f"{EXTENSIONS}.tracers.opentelemetry.resource_detectors.v3"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
Document = dict[str, Any]


def named(tracing: Tracing) -> Mapping[str, object]:
    """A value for each placeholder of the template."""
    is_grpc = tracing.protocol == Protocol.GRPC
    where = {"socket_address": {"address": tracing.host, "port_value": tracing.port}}
    return {
        "spans_grpc_service": _grpc(tracing) if is_grpc else None,
        "spans_http_service": None if is_grpc else _http(tracing),
        "spans_service_name": tracing.service_name,
        "spans_resource": _resource(tracing),
        "spans_sampler": _sampler(tracing),
        "spans_endpoints": [{"endpoint": {"address": where}}],
        "spans_socket": _socket(tracing) if tracing.is_secure else None,
        "spans_protocol": _protocol("http2_protocol_options" if is_grpc else "http_protocol_options"),
    }


def _grpc(tracing: Tracing) -> Document:
    metadata = [{"key": key.lower(), "value": value} for key, value in tracing.headers.items()]
    service: Document = {"envoy_grpc": {"cluster_name": CLUSTER, "authority": tracing.authority}}
    return service | {"timeout": _seconds(tracing), "initial_metadata": metadata}


def _http(tracing: Tracing) -> Document:
    headers = [{"header": {"key": key, "value": value}} for key, value in tracing.headers.items()]
    uri = {"uri": tracing.url, "cluster": CLUSTER, "timeout": _seconds(tracing)}
    return {"http_uri": uri, "request_headers_to_add": headers}


def _seconds(tracing: Tracing) -> str:
    return f"{tracing.timeout.total_seconds():.3f}s"


def _resource(tracing: Tracing) -> list[Document]:
    if not tracing.resource:
        return []
    config = {
        "@type": f"{DETECTORS}.StaticConfigResourceDetectorConfig",
        "attributes": dict(tracing.resource),
    }
    return [{"name": "envoy.tracers.opentelemetry.resource_detectors.static_config", "typed_config": config}]


def _sampler(tracing: Tracing) -> Document:
    share = {"numerator": tracing.sampled_per_million, "denominator": "MILLION"}
    own = _extension("trace_id_ratio_based", "TraceIdRatioBased", sampling_percentage=share)
    if tracing.sampled_per_million == PER_MILLION:
        own = _extension("always_on", "AlwaysOn")
    return _extension("parent_based", "ParentBased", wrapped_sampler=own) if tracing.follows_parent else own


def _extension(name: str, kind: str, **fields: object) -> Document:
    config = {"@type": f"{SAMPLERS}.{kind}SamplerConfig", **fields}
    return {"name": f"envoy.tracers.opentelemetry.samplers.{name}", "typed_config": config}


def _socket(tracing: Tracing) -> Document:
    believed = {"validation_context": _believed(tracing)} if tracing.authorities else {}
    alpn = ["h2"] if tracing.protocol == Protocol.GRPC else ["http/1.1"]
    config = {
        "@type": f"{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": tracing.host,
        "common_tls_context": {"alpn_protocols": alpn, **believed},
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _believed(tracing: Tracing) -> Document:
    kind = "IP_ADDRESS" if _is_address(tracing.host) else "DNS"
    name = {"san_type": kind, "matcher": {"exact": tracing.host}}
    return {"trusted_ca": {"filename": tracing.authorities}, "match_typed_subject_alt_names": [name]}


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _protocol(options: str) -> Document:
    return {HTTP_OPTIONS: {"@type": f"type.googleapis.com/{HTTP_OPTIONS}", "explicit_http_config": {options: {}}}}
