"""Every setting of the local system, in one place, so that a second system can run beside the first.

All of them are environment variables. `brixflow up` reads them once and hands each part what that part needs; nothing
else in this room looks at the environment. A path may begin with `~`.

| variable | default | what it sets |
|---|---|---|
| BRIXFLOW_HOME | `<checkout>/.brixflow` | folder of everything that is kept: state, certificates, logs |
| BRIXFLOW_GATEWAY_PORT | 8888 | Envoy's listener, the OpenAI-compatible endpoint |
| BRIXFLOW_API_SERVER_PORT | 16443 | Kubernetes API server (all addresses, TLS) |
| BRIXFLOW_TEMPORAL_PORT | 7233 | Temporal, gRPC |
| BRIXFLOW_TEMPORAL_UI_PORT | 8233 | Temporal's web UI |
| BRIXFLOW_TEMPORAL_METRICS_PORT | 18083 | Temporal's metrics |
| BRIXFLOW_ETCD_PORT | 12379 | etcd, clients |
| BRIXFLOW_ETCD_PEER_PORT | 12380 | etcd, peers |
| BRIXFLOW_CONTROLLER_MANAGER_PORT | 10257 | kube-controller-manager, health and metrics |
| BRIXFLOW_SCHEDULER_PORT | 10259 | kube-scheduler, health and metrics |
| BRIXFLOW_NODE_PORT | 10250 | node agent, the kubelet API |
| BRIXFLOW_OPERATOR_METRICS_PORT | 18080 | operator, metrics |
| BRIXFLOW_OPERATOR_HEALTH_PORT | 18081 | operator, health |
| BRIXFLOW_OPERATOR_WEBHOOK_PORT | 9443 | operator, admission webhooks (all addresses, TLS) |
| BRIXFLOW_EXT_PROC_PORT | 50052 | gateway, ext_proc (gRPC) |
| BRIXFLOW_GATEWAY_HTTP_PORT | 18082 | gateway, metrics, `/v1/models` and health |
| BRIXFLOW_ENVOY_ADMIN_PORT | 19901 | Envoy's admin interface |
| BRIXFLOW_POD_CIDR | 10.86.0.0/16 | addresses of pods; the first one is the bridge's |
| BRIXFLOW_SERVICE_CIDR | 10.87.0.0/16 | cluster addresses of Services |
| BRIXFLOW_BRIDGE | brix0 | name of the bridge that joins the pods |
| BRIXFLOW_NODE_NAME | brixflow-local | name of the Node object |
| BRIXFLOW_SEGMENT_PATH | `/dev/shm/brixflow-<8 hex of home>/segment` | the gateway's shared memory segment |
| BRIXFLOW_EXTERNAL_KUBECONFIG | none | use this cluster instead of starting one |
| BRIXFLOW_EXTERNAL_TEMPORAL | none | use the Temporal at this host:port instead of starting one |

Only the standard library is imported here, so that every command may read them at no cost.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from local.errors import SettingError

CHECKOUT = Path(__file__).resolve().parent.parent
SPARE_PORTS, SPARE_PORTS_EACH = 27000, 40
CLUSTER_PARTS = ("etcd", "api-server", "controller-manager", "scheduler", "node-agent")
TEMPORAL_PARTS = ("temporal",)


@dataclass(frozen=True)
class Port:
    """A port that a part listens on, with the variable that moves it."""

    variable: str
    number: int
    part: str


def _named(variable: str, part: str = "") -> dict[str, str]:
    return {"variable": variable, "part": part}


@dataclass(frozen=True)
class LocalSettings:
    """The settings of one local system; the table above says what each means. Paths are absolute."""

    home: Path = field(default=CHECKOUT / ".brixflow", metadata=_named("BRIXFLOW_HOME"))
    gateway_port: int = field(default=8888, metadata=_named("BRIXFLOW_GATEWAY_PORT", "envoy"))
    api_server_port: int = field(default=16443, metadata=_named("BRIXFLOW_API_SERVER_PORT", "api-server"))
    temporal_port: int = field(default=7233, metadata=_named("BRIXFLOW_TEMPORAL_PORT", "temporal"))
    temporal_ui_port: int = field(default=8233, metadata=_named("BRIXFLOW_TEMPORAL_UI_PORT", "temporal"))
    temporal_metrics_port: int = field(default=18083, metadata=_named("BRIXFLOW_TEMPORAL_METRICS_PORT", "temporal"))
    etcd_port: int = field(default=12379, metadata=_named("BRIXFLOW_ETCD_PORT", "etcd"))
    etcd_peer_port: int = field(default=12380, metadata=_named("BRIXFLOW_ETCD_PEER_PORT", "etcd"))
    controller_manager_port: int = field(
        default=10257, metadata=_named("BRIXFLOW_CONTROLLER_MANAGER_PORT", "controller-manager")
    )
    scheduler_port: int = field(default=10259, metadata=_named("BRIXFLOW_SCHEDULER_PORT", "scheduler"))
    node_port: int = field(default=10250, metadata=_named("BRIXFLOW_NODE_PORT", "node-agent"))
    operator_metrics_port: int = field(default=18080, metadata=_named("BRIXFLOW_OPERATOR_METRICS_PORT", "operator"))
    operator_health_port: int = field(default=18081, metadata=_named("BRIXFLOW_OPERATOR_HEALTH_PORT", "operator"))
    operator_webhook_port: int = field(default=9443, metadata=_named("BRIXFLOW_OPERATOR_WEBHOOK_PORT", "operator"))
    ext_proc_port: int = field(default=50052, metadata=_named("BRIXFLOW_EXT_PROC_PORT", "gateway"))
    gateway_http_port: int = field(default=18082, metadata=_named("BRIXFLOW_GATEWAY_HTTP_PORT", "gateway"))
    envoy_admin_port: int = field(default=19901, metadata=_named("BRIXFLOW_ENVOY_ADMIN_PORT", "envoy"))
    pod_cidr: str = field(default="10.86.0.0/16", metadata=_named("BRIXFLOW_POD_CIDR"))
    service_cidr: str = field(default="10.87.0.0/16", metadata=_named("BRIXFLOW_SERVICE_CIDR"))
    bridge: str = field(default="brix0", metadata=_named("BRIXFLOW_BRIDGE"))
    node_name: str = field(default="brixflow-local", metadata=_named("BRIXFLOW_NODE_NAME"))
    segment: Path | None = field(default=None, metadata=_named("BRIXFLOW_SEGMENT_PATH"))
    external_kubeconfig: Path | None = field(default=None, metadata=_named("BRIXFLOW_EXTERNAL_KUBECONFIG"))
    external_temporal: str | None = field(default=None, metadata=_named("BRIXFLOW_EXTERNAL_TEMPORAL"))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> LocalSettings:
        """Read the variables (`os.environ` if none are given); an empty value counts as absent.

        Raises SettingError, which names the variable, for a value that cannot be used.
        """
        source = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for entry in fields(cls):
            variable = entry.metadata["variable"]
            if text := source.get(variable, ""):
                values[entry.name] = _parse(variable, text, entry.type)
        return cls(**values)

    @classmethod
    def beside(cls, home: Path, slot: int) -> LocalSettings:
        """The settings of one more system, for tests and benchmarks: nothing of it meets the first or another slot.

        `slot` is 0 to 15. Its ports are the 40 from 27000 + 40 * slot on.
        """
        parts = [entry.name for entry in fields(cls) if entry.metadata["part"]]
        values: dict[str, Any] = {name: SPARE_PORTS + SPARE_PORTS_EACH * slot + at for at, name in enumerate(parts)}
        values |= {"home": home, "bridge": f"brixt{slot}", "node_name": f"brixflow-{slot}"}
        values |= {"pod_cidr": f"10.88.{16 * slot}.0/20", "service_cidr": f"10.89.{slot}.0/24"}
        return cls(**values)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig: ours, or the one of the existing cluster."""
        return self.external_kubeconfig or self.home / "kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        return self.home / "operator.kubeconfig"

    @property
    def gateway_kubeconfig(self) -> Path:
        return self.home / "gateway.kubeconfig"

    @property
    def node_kubeconfig(self) -> Path:
        return self.home / "node.kubeconfig"

    @property
    def pki(self) -> Path:
        return self.home / "pki"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def envoy_config(self) -> Path:
        return self.home / "envoy.yaml"

    @property
    def segment_path(self) -> Path:
        """In shared memory, under a name of this home's own, so that two systems do not meet."""
        name = hashlib.sha256(str(self.home).encode()).hexdigest()[:8]
        return self.segment or Path("/dev", "shm", f"brixflow-{name}", "segment")

    @property
    def bridge_address(self) -> str:
        """The first address of the pod range: where pods reach the API server and where the node agent listens."""
        return _first_address(self.pod_cidr)

    @property
    def service_address(self) -> str:
        """The cluster address of the `kubernetes` Service, which is always the first one of its range."""
        return _first_address(self.service_cidr)

    @property
    def temporal_address(self) -> str:
        return self.external_temporal or f"127.0.0.1:{self.temporal_port}"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def temporal_ui(self) -> str:
        return f"http://127.0.0.1:{self.temporal_ui_port}"

    def environment(self) -> dict[str, str]:
        """The variables that make another process read these same settings."""
        values = {entry.metadata["variable"]: getattr(self, entry.name) for entry in fields(self)}
        return {variable: str(value) for variable, value in values.items() if value is not None}

    def ports(self) -> Iterator[Port]:
        """Every port that a part of this system listens on; parts that the user brings have none here."""
        brought = {
            *(CLUSTER_PARTS if self.external_kubeconfig else ()),
            *(TEMPORAL_PARTS if self.external_temporal else ()),
        }
        for entry in fields(self):
            part = entry.metadata["part"]
            if part and part not in brought:
                yield Port(entry.metadata["variable"], getattr(self, entry.name), part)


def _first_address(cidr: str) -> str:
    return str(ipaddress.ip_network(cidr)[1])


def _parse(variable: str, text: str, kind: object) -> object:
    if kind == "int":
        return _parse_port(variable, text)
    if "Path" in str(kind):
        return Path(text).expanduser().absolute()
    if variable.endswith("_CIDR"):
        return _parse_range(variable, text)
    return text


def _parse_port(variable: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingError(f"{variable}={text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def _parse_range(variable: str, text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise SettingError(f"{variable}={text!r} is not an address range: {error}") from None
    if network.version != 4 or network.prefixlen > 28:
        raise SettingError(f"{variable}={text!r} is not an IPv4 range of at least 16 addresses")
    return text
