"""Every setting of the operator process; nothing else in this room reads the environment.

| variable | default | what it sets |
|---|---|---|
| KUBECONFIG | in-cluster | kubeconfig of the API server; without it the pod's ServiceAccount is used |
| TEMPORAL_ADDRESS | 127.0.0.1:7233 | Temporal's frontend |
| TEMPORAL_NAMESPACE | default | Temporal's namespace |
| TEMPORAL_TLS_CERT, TEMPORAL_TLS_KEY | none | files of the client certificate and its key |
| TEMPORAL_TLS_CA | the system's | file of the CA that signed Temporal's certificate; setting it turns TLS on |
| TEMPORAL_API_KEY | none | API key; turns TLS on |
| BRIXFLOW_TEMPORAL_RETENTION_DAYS | 30 | how long closed workflows are kept; 0 leaves the namespace as it is |
| BRIXFLOW_OPERATOR_METRICS_ADDRESS | 127.0.0.1:18080 | `/metrics`: ours and those of Temporal's SDK |
| BRIXFLOW_OPERATOR_HEALTH_ADDRESS | 127.0.0.1:18081 | `/healthz`, `/readyz` |
| BRIXFLOW_OPERATOR_WEBHOOK_ADDRESS | none | the admission webhooks, HTTPS; empty: they are not served |
| BRIXFLOW_RUNTIME_IMAGE | aibrix/runtime:v0.5.0 | image of an injected runtime sidecar when the object names none |
| AIBRIX_GATEWAY_TIMEOUT_SECONDS | 120 | how long a request through a model's HTTPRoute may take |
| BRIXFLOW_OPERATOR_NAMESPACE | aibrix-system | namespace of the Lease and of the webhooks' Secret and Service |
| BRIXFLOW_OPERATOR_IDENTITY | the host's name | the holder written into the Lease. Set it to a stable name only where a supervisor runs one process of that name: its successor then goes on without waiting for the Lease to expire |
| BRIXFLOW_WORKFLOW_CACHE | 1000 | workflows kept in memory; 0 replays every task |
| BRIXFLOW_WATCH_HEARTBEAT_SECONDS | 15 | how long a killed operator's polls go unnoticed by Temporal |
| BRIXFLOW_ACTIVITY_SLOTS | 5000 | activities at once: a waiting poll for each object and running rollout, and the steps |
| BRIXFLOW_LOG_LEVEL | INFO | level of the log on standard error |
"""  # noqa: E501 - a table row is one line

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from crds.admission.sidecar import DEFAULT_IMAGE
from crds.routes import DEFAULT_TIMEOUT

WEBHOOK_ADDRESS = "BRIXFLOW_OPERATOR_WEBHOOK_ADDRESS"


class SettingError(ValueError):
    """A variable holds what it cannot mean. Final: somebody has to change it."""


@dataclass(frozen=True, slots=True)
class TemporalSettings:
    """Where Temporal is and how to talk to it."""

    address: str = "127.0.0.1:7233"
    namespace: str = "default"
    certificate: bytes | None = None
    key: bytes | None = None
    authority: bytes | None = None
    api_key: str | None = None
    retention: timedelta = timedelta(days=30)

    @property
    def uses_tls(self) -> bool:
        return bool(self.certificate or self.authority or self.api_key)


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """The table above, typed. Addresses are (host, port)."""

    temporal: TemporalSettings
    identity: str
    identity_is_supervised: bool = False
    kubeconfig: str | None = None
    metrics_address: tuple[str, int] = ("127.0.0.1", 18080)
    health_address: tuple[str, int] = ("127.0.0.1", 18081)
    webhook_address: tuple[str, int] | None = None
    runtime_image: str = DEFAULT_IMAGE
    route_timeout: timedelta = DEFAULT_TIMEOUT
    namespace: str = "aibrix-system"
    workflow_cache: int = 1000
    heartbeat: timedelta = timedelta(seconds=15)
    activity_slots: int = 5000
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> OperatorSettings:
        """Raises SettingError naming the variable."""
        read = _Reader(environment)
        identity = read.text("BRIXFLOW_OPERATOR_IDENTITY", "")
        return cls(
            temporal=_temporal(read),
            identity=identity or socket.gethostname(),
            identity_is_supervised=bool(identity),
            kubeconfig=read.text("KUBECONFIG", "") or None,
            metrics_address=read.address("BRIXFLOW_OPERATOR_METRICS_ADDRESS", "127.0.0.1:18080"),
            health_address=read.address("BRIXFLOW_OPERATOR_HEALTH_ADDRESS", "127.0.0.1:18081"),
            webhook_address=read.address(WEBHOOK_ADDRESS, "") if read.text(WEBHOOK_ADDRESS, "") else None,
            runtime_image=read.text("BRIXFLOW_RUNTIME_IMAGE", DEFAULT_IMAGE),
            route_timeout=timedelta(
                seconds=read.number("AIBRIX_GATEWAY_TIMEOUT_SECONDS", DEFAULT_TIMEOUT.total_seconds())
            ),
            namespace=read.text("BRIXFLOW_OPERATOR_NAMESPACE", "aibrix-system"),
            workflow_cache=int(read.number("BRIXFLOW_WORKFLOW_CACHE", 1000)),
            heartbeat=timedelta(seconds=read.number("BRIXFLOW_WATCH_HEARTBEAT_SECONDS", 15)),
            activity_slots=int(read.number("BRIXFLOW_ACTIVITY_SLOTS", 5000)),
            log_level=read.text("BRIXFLOW_LOG_LEVEL", "INFO").upper(),
        )


def _temporal(read: _Reader) -> TemporalSettings:
    return TemporalSettings(
        address=read.text("TEMPORAL_ADDRESS", "127.0.0.1:7233"),
        namespace=read.text("TEMPORAL_NAMESPACE", "default"),
        certificate=read.file("TEMPORAL_TLS_CERT"),
        key=read.file("TEMPORAL_TLS_KEY"),
        authority=read.file("TEMPORAL_TLS_CA"),
        api_key=read.text("TEMPORAL_API_KEY", "") or None,
        retention=timedelta(days=read.number("BRIXFLOW_TEMPORAL_RETENTION_DAYS", 30)),
    )


class _Reader:
    """Typed access to the environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, variable: str, default: str) -> str:
        return self._environment.get(variable) or default

    def number(self, variable: str, default: float) -> float:
        value = self.text(variable, str(default))
        try:
            found = float(value)
        except ValueError:
            raise SettingError(f"{variable} is {value!r}, which is no number") from None
        if found < 0:
            raise SettingError(f"{variable} is {value}, which is below zero")
        return found

    def address(self, variable: str, default: str) -> tuple[str, int]:
        host, _, port = self.text(variable, default).rpartition(":")
        if not port.isdigit():
            raise SettingError(f"{variable} must be host:port")
        return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - `:18080` asks for every address

    def file(self, variable: str) -> bytes | None:
        path = self.text(variable, "")
        if not path:
            return None
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise SettingError(f"{variable}: {error}") from None
