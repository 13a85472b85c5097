"""The one Envoy configuration: a template and the values that differ between installations.

Each `${name}` of a template stands for one whole JSON value, which is also YAML, so no value can break out of its
place. What differs between the two hosts, the filter and its cluster, stands in a template of its own. The local
system, the tests and the benchmark all render these templates; what a cluster needs instead is derived from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Any

import orjson
import yaml

from csrc import module
from gateway import tracer
from gateway.settings import GatewaySettings, Host, collector_socket
from gateway.tracing import Tracing

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "envoy"
TEMPLATE = FOLDER / "bootstrap.yaml"
TRACING_TEMPLATE = FOLDER / "tracing.yaml"
HOST_TEMPLATES = {host: FOLDER / f"host-{host}.yaml" for host in Host}

BODY_LIMIT_BYTES = 32 * 1024 * 1024
"""Largest request body that is buffered; above it the client gets 413. The gateway's message limit follows it."""

ENGINE_IDLE_TIMEOUT = timedelta(seconds=4)
"""How long an idle connection to an engine is kept: below uvicorn's keep-alive of 5 s, which most engines run with."""

COPIES_OF_A_BODY = 3
"""What Envoy keeps of a body that is held: the one that was received, what is being written, one to send again."""

OWN_HEAP_BYTES = 512 * 1024 * 1024
"""What Envoy may need besides: 20,000 connections and what their answers are buffered in."""

WIDTH = 120

IDLE_TIMEOUT = GatewaySettings.idle_timeout
"""How long a stream may be silent in both directions."""

MESSAGE_TIMEOUT = timedelta(seconds=60)
"""How long Envoy waits for the gateway's reply to one message."""


@dataclass(frozen=True)
class EnvoyValues:
    """What one Envoy needs to know.

    `host` says where requests are decided. The module maps `segment`; for gRPC `ext_proc` lists one address per gateway
    process. `http` is the collector's HTTP address; an address is `host:port` (IP only) or `unix:/path`. `access_log`
    is a file, or `/dev/null`.
    """

    listen_port: int
    admin_port: int
    http: str
    access_log: Path
    host: Host = Host.MODULE
    segment: Path = GatewaySettings.segment_path
    max_requests: int = GatewaySettings.max_requests
    ext_proc: Sequence[str] = ()
    listen_address: str = "0.0.0.0"  # noqa: S104 - it is the public endpoint
    body_limit_bytes: int = BODY_LIMIT_BYTES
    max_connections: int = 20_000
    held_bytes: int = GatewaySettings.held_bytes
    mode_override: bool = True
    idle_timeout: timedelta = IDLE_TIMEOUT
    engine_idle_timeout: timedelta = ENGINE_IDLE_TIMEOUT
    message_timeout: timedelta = MESSAGE_TIMEOUT
    tracing: Tracing | None = None


def environment_for(values: EnvoyValues) -> dict[str, str]:
    """What Envoy's process needs in its environment to start with the rendered configuration."""
    return {module.SEARCH_PATH: str(module.FOLDER)} if values.host == Host.MODULE else {}


def render(values: EnvoyValues) -> str:
    """The bootstrap configuration for these values, as YAML."""
    named = _named(values)
    host = _fill(HOST_TEMPLATES[values.host], named)
    own = {"gateway_filter": host["filter"]} | {key: host[key] for key in ("retries", "pod_header", "upstream_filters")}
    log = {f"log_{field}": where for field, where in host["log"].items()}
    traced = _traced(values.tracing, log)
    bootstrap = _fill(TEMPLATE, named | own | log | {"tracing": traced["tracing"]})
    bootstrap["static_resources"]["clusters"] += host["clusters"] + traced["clusters"]
    return yaml.safe_dump(bootstrap, sort_keys=False, width=WIDTH)


def _traced(tracing: Tracing | None, log: Mapping[str, object]) -> dict[str, Any]:
    """The tracer of the connection manager, and the cluster that its spans go to."""
    if tracing is None:
        return {"tracing": None, "clusters": []}
    return _fill(TRACING_TEMPLATE, {**log, **tracer.named(tracing)})


def _named(values: EnvoyValues) -> dict[str, object]:
    return {
        "listen_address": values.listen_address,
        "listen_port": values.listen_port,
        "admin_port": values.admin_port,
        "access_log": str(values.access_log),
        "body_limit_bytes": values.body_limit_bytes,
        "max_connections": values.max_connections,
        "heap_bytes": values.held_bytes * COPIES_OF_A_BODY + OWN_HEAP_BYTES,
        "mode_override": values.mode_override,
        "idle_timeout": _seconds(values.idle_timeout),
        "engine_idle_timeout": _seconds(values.engine_idle_timeout),
        "message_timeout": _seconds(values.message_timeout),
        "spans_interval_ms": round((values.tracing or Tracing).interval.total_seconds() * 1000),
        "ext_proc_endpoints": [_endpoint(address) for address in values.ext_proc],
        "http_endpoints": [_endpoint(values.http)],
        "ask_endpoints": [_endpoint(f"unix:{collector_socket(values.segment)}")],
        "module_configuration": f"{values.max_requests} {values.held_bytes} {values.segment}",
    }


def _fill(template: Path, named: Mapping[str, object]) -> dict[str, Any]:
    text = Template(template.read_text()).substitute(
        {name: orjson.dumps(value).decode() for name, value in named.items()}
    )
    filled: dict[str, Any] = yaml.safe_load(text)
    return filled


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():.3f}s"


def _endpoint(address: str) -> dict[str, object]:
    if address.startswith("unix:"):
        where: dict[str, object] = {"pipe": {"path": address.removeprefix("unix:")}}
    else:
        host, _, port = address.rpartition(":")
        where = {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
    return {"endpoint": {"address": where}}
