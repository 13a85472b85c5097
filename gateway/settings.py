"""Every setting of the gateway's processes, read once from the environment.

| variable | default | what it sets |
|---|---|---|
| KUBECONFIG | in-cluster | how to reach the API server |
| BRIXFLOW_SEGMENT_PATH | /dev/shm/brixflow/segment | the shared segment; sockets stand beside it |
| BRIXFLOW_EXT_PROC_ADDRESS | 127.0.0.1:50052 | gRPC address that all ext_proc processes share (SO_REUSEPORT) |
| BRIXFLOW_GATEWAY_HTTP_ADDRESS | 127.0.0.1:18082 | `/healthz`, `/metrics`, `/v1/models` |
| BRIXFLOW_GATEWAY_HOST | module | where requests are decided: `module` (inside Envoy) or `grpc` (ext_proc processes) |
| BRIXFLOW_GATEWAY_PROCESSES | 2 | ext_proc processes; there are none with host `module` |
| ROUTING_ALGORITHM | none | default strategy; AIBRIX_ROUTING_ALGORITHM is an alias with `_` for `-`; empty means none |
| AIBRIX_AUTH_BEARER_TOKEN | none | API key that clients must send |
| BRIXFLOW_HIDE_POD_ADDRESS | false | leave `target-pod-ip` out of answers |
| AIBRIX_GRPC_MAX_MESSAGE_SIZE_BYTES | 33554432 | largest request body; Envoy's buffer limit must be the same |
| AIBRIX_SHUTDOWN_DRAIN_SECONDS | 120 | how long running requests may go on after SIGTERM |
| BRIXFLOW_MAX_MODELS, BRIXFLOW_MAX_PODS | 256, 1024 | what the segment is laid out for |
| AIBRIX_POD_METRIC_REFRESH_INTERVAL_MS | 200 | how often a busy engine is asked for its metrics |
| BRIXFLOW_MAX_REQUESTS | 16384 | requests in flight in one ext_proc process, or in Envoy |
| POD_NAME | host name | label `gateway_pod` of all metrics |
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

MIB = 1024 * 1024


class Host(StrEnum):
    """Where the kernel decides."""

    MODULE = "module"
    GRPC = "grpc"


_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})


@dataclass(frozen=True)
class GatewaySettings:
    """The gateway's settings; see the table above."""

    kubeconfig: str = ""
    segment_path: Path = Path("/dev/shm/brixflow/segment")  # noqa: S108 - a folder of ours on tmpfs, made with mode 0750
    ext_proc_address: str = "127.0.0.1:50052"
    http_address: str = "127.0.0.1:18082"
    host: Host = Host.MODULE
    processes: int = 2
    default_strategy: str = ""
    api_key: str = ""
    hide_pod_address: bool = False
    message_limit_bytes: int = 32 * MIB
    drain: timedelta = timedelta(seconds=120)
    scrape_period: timedelta = timedelta(milliseconds=200)
    max_models: int = 256
    max_pods: int = 1024
    max_requests: int = 16384
    gateway_pod: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> GatewaySettings:
        """Settings as the variables say; numbers that do not parse or are not positive mean the default.

        Raises ValueError for a host that is none.
        """
        given = os.environ if environment is None else environment
        return cls(
            kubeconfig=given.get("KUBECONFIG", ""),
            segment_path=Path(given.get("BRIXFLOW_SEGMENT_PATH") or cls.segment_path),
            ext_proc_address=given.get("BRIXFLOW_EXT_PROC_ADDRESS") or cls.ext_proc_address,
            http_address=given.get("BRIXFLOW_GATEWAY_HTTP_ADDRESS") or cls.http_address,
            host=_host(given),
            processes=_positive(given, "BRIXFLOW_GATEWAY_PROCESSES", cls.processes),
            default_strategy=_strategy(given),
            api_key=given.get("AIBRIX_AUTH_BEARER_TOKEN", "").strip(),
            hide_pod_address=given.get("BRIXFLOW_HIDE_POD_ADDRESS", "") in _TRUE,
            message_limit_bytes=_positive(given, "AIBRIX_GRPC_MAX_MESSAGE_SIZE_BYTES", cls.message_limit_bytes),
            drain=timedelta(seconds=_positive(given, "AIBRIX_SHUTDOWN_DRAIN_SECONDS", 120)),
            scrape_period=timedelta(milliseconds=_positive(given, "AIBRIX_POD_METRIC_REFRESH_INTERVAL_MS", 200)),
            max_models=_positive(given, "BRIXFLOW_MAX_MODELS", cls.max_models),
            max_pods=_positive(given, "BRIXFLOW_MAX_PODS", cls.max_pods),
            max_requests=_positive(given, "BRIXFLOW_MAX_REQUESTS", cls.max_requests),
            gateway_pod=given.get("POD_NAME") or socket.gethostname(),
        )

    @property
    def sockets(self) -> tuple[str, ...]:
        """One gRPC address per ext_proc process, for Envoy's cluster: `unix:/path`. None when Envoy decides itself."""
        if self.host == Host.MODULE:
            return ()
        return tuple(f"unix:{self.segment_path.parent}/ext_proc-{index}.sock" for index in range(self.processes))


def host_and_port(address: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `:port` (all addresses) as a pair."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _host(given: Mapping[str, str]) -> Host:
    named = given.get("BRIXFLOW_GATEWAY_HOST", "").strip() or Host.MODULE
    try:
        return Host(named)
    except ValueError:
        raise ValueError(f"BRIXFLOW_GATEWAY_HOST is {named!r}: it must be module or grpc") from None


def _strategy(given: Mapping[str, str]) -> str:
    named = given.get("ROUTING_ALGORITHM", "").strip()
    return named or given.get("AIBRIX_ROUTING_ALGORITHM", "").strip().replace("_", "-")


def _positive(given: Mapping[str, str], variable: str, default: int) -> int:
    try:
        value = int(given.get(variable, ""))
    except ValueError:
        return default
    return value if value > 0 else default
