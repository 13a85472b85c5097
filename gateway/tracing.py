"""Where spans go: OpenTelemetry's own variables, read once.

A request's spans begin in Envoy, whichever host decides, so Envoy makes them: one for the request, one for each try at
an engine, and with host `grpc` one for the call of the gateway. Without an endpoint nothing is traced, no header added.

| variable (`…_TRACES_…` goes before `…_OTLP_…`) | default | what it sets |
|---|---|---|
| OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT | none | the first gets `/v1/traces` added |
| OTEL_EXPORTER_OTLP_PROTOCOL | grpc | or `http/protobuf`, or `http` for the same; anything else ends the start |
| OTEL_EXPORTER_OTLP_HEADERS | none | `name=value,…`, sent with each export |
| OTEL_EXPORTER_OTLP_TIMEOUT | 10000 | milliseconds for one export |
| OTEL_EXPORTER_OTLP_CERTIFICATE | the system's | file of the authorities that are believed |
| OTEL_EXPORTER_OTLP_INSECURE_SKIP_VERIFY | false | believe any certificate |
| OTEL_EXPORTER_OTLP_INSECURE | false | no TLS for an endpoint that names no scheme |
| OTEL_BSP_SCHEDULE_DELAY | 5000 | milliseconds between two exports |
| OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES | aibrix-gateway-plugin | who says it |
| OTEL_TRACES_SAMPLER | parentbased_always_on | or always_off, traceidratio; with or without `parentbased_` |
| OTEL_TRACES_SAMPLER_ARG | 1 | the ratio |
| OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER=none | false | no spans at all |
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

SERVICE_NAME = "aibrix-gateway-plugin"
TRACES_PATH = "/v1/traces"
TRACES_METHOD_PORT = 4317
PORTS = {"http": 80, "https": 443}
PER_MILLION = 1_000_000
PARENT_BASED = "parentbased_"
SAMPLERS = ("always_on", "always_off", "traceidratio")
DEFAULT_SAMPLER = "parentbased_always_on"

log = logging.getLogger(__name__)


class Protocol(StrEnum):
    """How spans travel."""

    GRPC = "grpc"
    HTTP = "http/protobuf"


class TracingRefused(ValueError):  # noqa: N818 - named by what happened
    """The variables say what cannot be done. Final."""


@dataclass(frozen=True)
class Tracing:
    """Where spans go and which."""

    host: str
    port: int
    protocol: Protocol = Protocol.GRPC
    is_secure: bool = False
    path: str = TRACES_PATH
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    timeout: timedelta = timedelta(seconds=10)
    interval: timedelta = timedelta(seconds=5)
    authorities: str = ""
    """File of them; empty with TLS means that any certificate is believed."""

    service_name: str = SERVICE_NAME
    resource: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    follows_parent: bool = True
    sampled_per_million: int = PER_MILLION

    @classmethod
    def from_environment(cls, given: Mapping[str, str]) -> Tracing | None:
        """None when nothing is to be traced. Raises TracingRefused."""
        endpoint, path = _endpoint(given)
        if not endpoint or _is_true(given, "OTEL_SDK_DISABLED") or given.get("OTEL_TRACES_EXPORTER") == "none":
            return None
        protocol = _protocol(given)
        is_secure, host, port, own_path = _place(endpoint, protocol, insecure=_is_true(given, _named("INSECURE")))
        resource = _pairs(given.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        named = given.get("OTEL_SERVICE_NAME") or resource.pop("service.name", "") or SERVICE_NAME
        resource.pop("service.name", None)
        follows_parent, share = _sampler(given)
        return cls(
            host=host,
            port=port,
            protocol=protocol,
            is_secure=is_secure,
            path=(own_path.rstrip("/") + path) or "/",
            headers=_pairs(_either(given, "HEADERS")),
            timeout=_milliseconds(_either(given, "TIMEOUT"), cls.timeout),
            interval=_milliseconds(given.get("OTEL_BSP_SCHEDULE_DELAY", ""), cls.interval),
            authorities=_authorities(given) if is_secure else "",
            service_name=named,
            resource=resource,
            follows_parent=follows_parent,
            sampled_per_million=share,
        )

    @property
    def url(self) -> str:
        """Of an export over HTTP."""
        return f"{'https' if self.is_secure else 'http'}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _named(what: str) -> str:
    return f"OTEL_EXPORTER_OTLP_{what}"


def _either(given: Mapping[str, str], what: str) -> str:
    return (given.get(_named(f"TRACES_{what}")) or given.get(_named(what)) or "").strip()


def _is_true(given: Mapping[str, str], variable: str) -> bool:
    return given.get(variable, "").strip().lower() in ("1", "t", "true")


def _endpoint(given: Mapping[str, str]) -> tuple[str, str]:
    """The endpoint, and what is added to its path."""
    own = given.get(_named("TRACES_ENDPOINT"), "").strip()
    return (own, "") if own else (given.get(_named("ENDPOINT"), "").strip(), TRACES_PATH)


def _protocol(given: Mapping[str, str]) -> Protocol:
    named = _either(given, "PROTOCOL") or Protocol.GRPC
    try:
        return Protocol.HTTP if named == "http" else Protocol(named)
    except ValueError:
        raise TracingRefused(f"{_named('PROTOCOL')} is {named!r}: it must be grpc, http or http/protobuf") from None


def _place(endpoint: str, protocol: Protocol, *, insecure: bool) -> tuple[bool, str, int, str]:
    """Whether TLS, host, port, and the path that the endpoint itself has."""
    whole = endpoint if "://" in endpoint else f"{'http' if insecure else 'https'}://{endpoint}"
    parts = urlsplit(whole)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise TracingRefused(f"{_named('ENDPOINT')} is {endpoint!r}: it must be http(s)://host:port")
    default = TRACES_METHOD_PORT if protocol == Protocol.GRPC else PORTS[parts.scheme]
    return parts.scheme == "https", parts.hostname, port or default, parts.path


def _authorities(given: Mapping[str, str]) -> str:
    if _is_true(given, _named("INSECURE_SKIP_VERIFY")):
        return ""
    known = _either(given, "CERTIFICATE") or ssl.get_default_verify_paths().cafile
    if not known:
        raise TracingRefused(f"no authorities are known: set {_named('CERTIFICATE')}")
    return known


def _sampler(given: Mapping[str, str]) -> tuple[bool, int]:
    """Whether the parent decides when there is one, and how many of a million are sampled else."""
    named = given.get("OTEL_TRACES_SAMPLER", "").strip() or DEFAULT_SAMPLER
    kind = named.removeprefix(PARENT_BASED)
    if kind not in SAMPLERS:
        log.warning("event=sampler_unknown named=%s used=%s", named, DEFAULT_SAMPLER)
        named, kind = DEFAULT_SAMPLER, "always_on"
    share = {"always_on": 1.0, "always_off": 0.0}.get(kind, _ratio(given.get("OTEL_TRACES_SAMPLER_ARG", "")))
    return named != kind, round(share * PER_MILLION)


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 1.0
    return value if 0 <= value <= 1 else 1.0


def _milliseconds(text: str, default: timedelta) -> timedelta:
    return timedelta(milliseconds=int(text)) if text.isdigit() and int(text) else default


def _pairs(text: str) -> dict[str, str]:
    """`name=value,…` with percent-encoding, as W3C baggage."""
    pairs = (each.partition("=") for each in text.split(","))
    return {unquote(name.strip()): unquote(value.strip()) for name, between, value in pairs if between and name.strip()}
