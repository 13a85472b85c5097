"""Every setting of the gateway's processes, read once from the environment.

| variable | default | what it sets |
|---|---|---|
| KUBECONFIG | in-cluster | how to reach the API server |
| BRIXFLOW_ENDPOINTS_FILE | none | endpoints from this file, no Kubernetes; the default strategy is `random` then |
| BRIXFLOW_POD_SELECTOR | none | selector of pods to watch; none: all of them, as annotations may name models |
| BRIXFLOW_SEGMENT_PATH | /dev/shm/brixflow/segment | the shared segment; sockets stand beside it |
| BRIXFLOW_EXT_PROC_ADDRESS | 127.0.0.1:50052 | gRPC address that all ext_proc processes share (SO_REUSEPORT) |
| BRIXFLOW_GATEWAY_HTTP_ADDRESS | 127.0.0.1:18082 | `/healthz`, `/metrics`, `/v1/models` |
| BRIXFLOW_GATEWAY_HOST | module | where requests are decided: `module` (inside Envoy) or `grpc` (ext_proc processes) |
| BRIXFLOW_GATEWAY_PROCESSES | 2 | ext_proc processes; there are none with host `module` |
| ROUTING_ALGORITHM | none | default strategy; AIBRIX_ROUTING_ALGORITHM is an alias with `_` for `-`; empty means none |
| AIBRIX_AUTH_BEARER_TOKEN | none | API key that clients must send |
| BRIXFLOW_HIDE_POD_ADDRESS | false | leave `target-pod-ip` out of answers |
| BRIXFLOW_COUNT_STREAMS | true | count streams that did not ask for usage too: engines are asked, answers show none |
| AIBRIX_GRPC_MAX_MESSAGE_SIZE_BYTES | 33554432 | largest request body; Envoy's buffer limit must be the same |
| BRIXFLOW_MAX_HELD_BYTES | 1073741824 | bytes of request bodies that are held at one time by one Envoy; above it 503 |
| BRIXFLOW_GATEWAY_IDLE_SECONDS | 600 | how long a stream or a client's connection may be silent in both directions |
| BRIXFLOW_GATEWAY_READS_ANSWERS | true | host grpc reads answers: tokens are known, a cancel is told from an end |
| BRIXFLOW_GATEWAY_CONNECTION_STREAMS | 0 (any) | streams on a connection to ext_proc; few if processes share a port |
| BRIXFLOW_GATEWAY_CONNECTION_AGE_SECONDS | 0 (any) | how old such a connection grows, so that new ones spread anew |
| AIBRIX_SHUTDOWN_DRAIN_SECONDS | 120 | how long running requests may go on after SIGTERM |
| BRIXFLOW_MAX_MODELS, BRIXFLOW_MAX_PODS | 256, 1024 | what the segment is laid out for |
| AIBRIX_POD_METRIC_REFRESH_INTERVAL_MS | 200 | how often a busy engine is asked for its metrics |
| BRIXFLOW_EXPORT_ENGINES | true | engines' own metrics on the gateway's page, under AIBrix's names |
| BRIXFLOW_MAX_REQUESTS | 16384 | requests in flight in one ext_proc process, or in Envoy |
| AIBRIX_ROUTER_VTC_TOKEN_TRACKER_WINDOW_SIZE | 5 | how long tokens of a user count |
| AIBRIX_ROUTER_VTC_TOKEN_TRACKER_TIME_UNIT | minutes | of it; or seconds, or milliseconds |
| AIBRIX_ROUTER_VTC_TOKEN_TRACKER_MIN_TOKENS, `…_MAX_TOKENS` | 1000, 8000 | range of users while none is active |
| AIBRIX_ROUTER_VTC_BASIC_MAX_POD_LOAD | 100 | requests on a pod that mean full |
| AIBRIX_ROUTER_VTC_BASIC_INPUT_TOKEN_WEIGHT, `…_OUTPUT_TOKEN_WEIGHT` | 1, 2 | what tokens are worth |
| AIBRIX_ROUTER_VTC_BASIC_FAIRNESS_WEIGHT, `…_UTILIZATION_WEIGHT` | 1, 1 | of `vtc-basic`; 0 is taken as 0 |
| BRIXFLOW_USERS_FILE | none | list of users and their limits, as a file or a mounted Secret |
| REDIS_HOST, REDIS_PORT, REDIS_PASSWORD | none, 6379, none | users and limits shared by all gateways; before the file |
| BRIXFLOW_LIMITS_FAIL_CLOSED | false | refuse with 500 what Redis cannot tell, instead of deciding on this node alone |
| BRIXFLOW_LIMITS_DEADLINE_MS | 50 | what a request waits for a user or a shared limit at most |
| BRIXFLOW_MAX_IN_FLIGHT_PER_MODEL, `…_PER_POD` | none | requests at one time on this node, above it 429 |
| PROMETHEUS_… | none | values that a Prometheus server works out, see `gateway/prometheus.py` |
| OTEL_… | none | spans, see `gateway/tracing.py` |
| POD_NAME | host name | label `gateway_pod` of all metrics |
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from csrc.records import Fairness
from gateway.prometheus import Prometheus
from gateway.tracing import Tracing

MAX_WEIGHT = 1000.0
WITHOUT_KUBERNETES = "random"
"""The default strategy where endpoints come from a file: there are no routes of models to fall back to."""

MIB = 1024 * 1024


class Host(StrEnum):
    """Where the kernel decides."""

    MODULE = "module"
    GRPC = "grpc"


_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True)
class GatewaySettings:
    """The gateway's settings; see the table above."""

    kubeconfig: str = ""
    endpoints_file: Path | None = None
    pod_selector: str = ""
    segment_path: Path = Path("/dev/shm/brixflow/segment")  # noqa: S108 - a folder of ours on tmpfs, made with mode 0750
    ext_proc_address: str = "127.0.0.1:50052"
    http_address: str = "127.0.0.1:18082"
    host: Host = Host.MODULE
    processes: int = 2
    default_strategy: str = ""
    api_key: str = ""
    hide_pod_address: bool = False
    count_streams: bool = True
    message_limit_bytes: int = 32 * MIB
    held_bytes: int = 1024 * MIB
    idle_timeout: timedelta = timedelta(seconds=600)
    reads_answers: bool = True
    connection_streams: int = 0
    connection_age: timedelta = timedelta()
    drain: timedelta = timedelta(seconds=120)
    scrape_period: timedelta = timedelta(milliseconds=200)
    export_engines: bool = True
    max_models: int = 256
    max_pods: int = 1024
    max_requests: int = 16384
    fair: Fairness = field(default_factory=Fairness)
    users_file: Path | None = None
    redis_host: str = ""
    redis_port: int = 6379
    redis_password: str = ""
    limits_fail_closed: bool = False
    ask_within: timedelta = timedelta(milliseconds=50)
    model_in_flight: int = 0
    pod_in_flight: int = 0
    gateway_pod: str = ""
    tracing: Tracing | None = None
    prometheus: Prometheus | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> GatewaySettings:
        """Settings as the variables say; numbers that do not parse or are not positive mean the default.

        Raises ValueError for a host that is none, and for spans that cannot be sent.
        """
        given = os.environ if environment is None else environment
        return cls(
            kubeconfig=given.get("KUBECONFIG", ""),
            endpoints_file=Path(given["BRIXFLOW_ENDPOINTS_FILE"]) if given.get("BRIXFLOW_ENDPOINTS_FILE") else None,
            pod_selector=given.get("BRIXFLOW_POD_SELECTOR", ""),
            segment_path=Path(given.get("BRIXFLOW_SEGMENT_PATH") or cls.segment_path),
            ext_proc_address=given.get("BRIXFLOW_EXT_PROC_ADDRESS") or cls.ext_proc_address,
            http_address=given.get("BRIXFLOW_GATEWAY_HTTP_ADDRESS") or cls.http_address,
            host=_host(given),
            processes=_positive(given, "BRIXFLOW_GATEWAY_PROCESSES", cls.processes),
            default_strategy=_strategy(given),
            api_key=given.get("AIBRIX_AUTH_BEARER_TOKEN", "").strip(),
            hide_pod_address=given.get("BRIXFLOW_HIDE_POD_ADDRESS", "") in _TRUE,
            count_streams=given.get("BRIXFLOW_COUNT_STREAMS", "") not in _FALSE,
            message_limit_bytes=_positive(given, "AIBRIX_GRPC_MAX_MESSAGE_SIZE_BYTES", cls.message_limit_bytes),
            held_bytes=_positive(given, "BRIXFLOW_MAX_HELD_BYTES", cls.held_bytes),
            idle_timeout=timedelta(seconds=_positive(given, "BRIXFLOW_GATEWAY_IDLE_SECONDS", 600)),
            reads_answers=given.get("BRIXFLOW_GATEWAY_READS_ANSWERS", "") not in _FALSE,
            connection_streams=_positive(given, "BRIXFLOW_GATEWAY_CONNECTION_STREAMS", 0),
            connection_age=timedelta(seconds=_positive(given, "BRIXFLOW_GATEWAY_CONNECTION_AGE_SECONDS", 0)),
            drain=timedelta(seconds=_positive(given, "AIBRIX_SHUTDOWN_DRAIN_SECONDS", 120)),
            scrape_period=timedelta(milliseconds=_positive(given, "AIBRIX_POD_METRIC_REFRESH_INTERVAL_MS", 200)),
            export_engines=given.get("BRIXFLOW_EXPORT_ENGINES", "") not in _FALSE,
            max_models=_positive(given, "BRIXFLOW_MAX_MODELS", cls.max_models),
            max_pods=_positive(given, "BRIXFLOW_MAX_PODS", cls.max_pods),
            max_requests=_positive(given, "BRIXFLOW_MAX_REQUESTS", cls.max_requests),
            fair=_fairness(given),
            users_file=Path(given["BRIXFLOW_USERS_FILE"]) if given.get("BRIXFLOW_USERS_FILE") else None,
            redis_host=given.get("REDIS_HOST", "").strip(),
            redis_port=_positive(given, "REDIS_PORT", cls.redis_port),
            redis_password=given.get("REDIS_PASSWORD", ""),
            limits_fail_closed=given.get("BRIXFLOW_LIMITS_FAIL_CLOSED", "") in _TRUE,
            ask_within=timedelta(milliseconds=_positive(given, "BRIXFLOW_LIMITS_DEADLINE_MS", 50)),
            model_in_flight=_positive(given, "BRIXFLOW_MAX_IN_FLIGHT_PER_MODEL", 0),
            pod_in_flight=_positive(given, "BRIXFLOW_MAX_IN_FLIGHT_PER_POD", 0),
            gateway_pod=given.get("POD_NAME") or socket.gethostname(),
            tracing=Tracing.from_environment(given),
            prometheus=Prometheus.from_environment(given),
        )

    @property
    def sockets(self) -> tuple[str, ...]:
        """One gRPC address per ext_proc process, for Envoy's cluster: `unix:/path`. None when Envoy decides itself."""
        if self.host == Host.MODULE:
            return ()
        return tuple(f"unix:{self.segment_path.parent}/ext_proc-{index}.sock" for index in range(self.processes))


def collector_socket(segment: Path) -> Path:
    """Where the collector of this segment answers questions."""
    return segment.parent / "collector.sock"


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


_UNITS = {"seconds": timedelta(seconds=1), "milliseconds": timedelta(milliseconds=1)}


def _fairness(given: Mapping[str, str]) -> Fairness:
    tracker, basic, default = "AIBRIX_ROUTER_VTC_TOKEN_TRACKER_", "AIBRIX_ROUTER_VTC_BASIC_", Fairness()
    unit = _UNITS.get(given.get(f"{tracker}TIME_UNIT", ""), timedelta(minutes=1))
    return Fairness(
        window=_positive(given, f"{tracker}WINDOW_SIZE", 5) * unit,
        least_tokens=_positive(given, f"{tracker}MIN_TOKENS", default.least_tokens),
        most_tokens=_positive(given, f"{tracker}MAX_TOKENS", default.most_tokens),
        full_load=_positive(given, f"{basic}MAX_POD_LOAD", default.full_load),
        input_weight=_weight(given, f"{basic}INPUT_TOKEN_WEIGHT", default.input_weight),
        output_weight=_weight(given, f"{basic}OUTPUT_TOKEN_WEIGHT", default.output_weight),
        fairness_weight=_weight(given, f"{basic}FAIRNESS_WEIGHT", default.fairness_weight),
        utilization_weight=_weight(given, f"{basic}UTILIZATION_WEIGHT", default.utilization_weight),
    )


def _weight(given: Mapping[str, str], variable: str, default: float) -> float:
    try:
        value = float(given.get(variable, ""))
    except ValueError:
        return default
    return value if 0 <= value <= MAX_WEIGHT else default


def _strategy(given: Mapping[str, str]) -> str:
    named = given.get("ROUTING_ALGORITHM", "").strip()
    named = named or given.get("AIBRIX_ROUTING_ALGORITHM", "").strip().replace("_", "-")
    return named or (WITHOUT_KUBERNETES if given.get("BRIXFLOW_ENDPOINTS_FILE") else "")


def _positive(given: Mapping[str, str], variable: str, default: int) -> int:
    try:
        value = int(given.get(variable, ""))
    except ValueError:
        return default
    return value if value > 0 else default
