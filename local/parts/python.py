"""The parts that are brixflow's own Python processes: node agent, operator, gateway.

Each gets a small environment: its settings, and what the user set for it in the shell of `brixflow up` (the prefixes
below). A change of its sources, settings or kubeconfig changes its fingerprint, so that the next `up` restarts it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from local.build import bin_directory
from local.settings import CHECKOUT, LocalSettings
from local.supervisor.part import HttpCheck, Part, fingerprint_of

NODE_AGENT, OPERATOR, GATEWAY = "node-agent", "operator", "gateway"
PASSED_ON = {
    NODE_AGENT: ("BRIXFLOW_NODE_", "BRIXFLOW_IMAGES"),
    OPERATOR: ("BRIXFLOW_OPERATOR_", "BRIXFLOW_WORKFLOW_", "BRIXFLOW_WATCH_", "BRIXFLOW_TEMPORAL_RETENTION_DAYS"),
    GATEWAY: (
        "BRIXFLOW_GATEWAY_",
        "BRIXFLOW_MAX_",
        "BRIXFLOW_HIDE_",
        "BRIXFLOW_EXPORT_",
        "BRIXFLOW_PROMETHEUS_",
        "BRIXFLOW_USERS_",
        "BRIXFLOW_LIMITS_",
        "AIBRIX_",
        "OTEL_",
        "PROMETHEUS_",
        "REDIS_",
        "ROUTING_",
    ),
}
EXISTING_TEMPORAL = ("TEMPORAL_",)
NODE_STOP_SECONDS = 15.0
OPERATOR_STOP_SECONDS = 20.0
GATEWAY_STOP_SECONDS = 20.0


def node_agent(settings: LocalSettings) -> Part:
    """The kubelet of this machine. Pods outlive it; its teardown ends them."""
    pki = settings.pki
    environment = {
        **settings.environment(),
        "KUBECONFIG": str(settings.node_kubeconfig),
        "BRIXFLOW_NODE_CERT": str(pki / "node.crt"),
        "BRIXFLOW_NODE_KEY": str(pki / "node.key"),
        "BRIXFLOW_CLIENT_CA": str(pki / "kubelet-client-ca.crt"),
    }
    address = f"https://127.0.0.1:{settings.node_port}"
    return _python_part(
        NODE_AGENT,
        environment,
        HttpCheck(f"{address}/healthz", str(pki / "ca.crt")),
        address,
        watched=[
            CHECKOUT / "local" / "node",
            CHECKOUT / "local" / "images.yaml",
            pki / "node.crt",
            settings.node_kubeconfig,
        ],
        after=("api-server",),
        teardown=(sys.executable, "-m", "local.node", "teardown"),
        stop_seconds=NODE_STOP_SECONDS,
    )


def operator(settings: LocalSettings) -> Part:
    """The operator, under its own ServiceAccount."""
    health = f"127.0.0.1:{settings.operator_health_port}"
    credentials = _starting_with(EXISTING_TEMPORAL, os.environ) if settings.external_temporal else {}
    environment = {
        **credentials,
        "KUBECONFIG": str(settings.operator_kubeconfig),
        "TEMPORAL_ADDRESS": settings.temporal_address,
        "BRIXFLOW_OPERATOR_METRICS_ADDRESS": f"127.0.0.1:{settings.operator_metrics_port}",
        "BRIXFLOW_OPERATOR_HEALTH_ADDRESS": health,
        "BRIXFLOW_OPERATOR_IDENTITY": f"{settings.node_name}-operator",
        "BRIXFLOW_OPERATOR_WEBHOOK_ADDRESS": f"0.0.0.0:{settings.operator_webhook_port}",
    }
    rooms = [CHECKOUT / room for room in ("crds", "planning", "activities", "workflows")]
    return _python_part(
        OPERATOR,
        environment,
        HttpCheck(f"http://{health}/healthz"),
        f"http://127.0.0.1:{settings.operator_metrics_port}/metrics",
        watched=[*rooms, settings.operator_kubeconfig],
        after=("api-server", "temporal"),
        stop_seconds=OPERATOR_STOP_SECONDS,
    )


def gateway(settings: LocalSettings) -> Part:
    """The gateway, under its own ServiceAccount. No HTTPRoute API is served here, hence a default strategy."""
    http = f"127.0.0.1:{settings.gateway_http_port}"
    environment = {
        "KUBECONFIG": str(settings.gateway_kubeconfig),
        "BRIXFLOW_SEGMENT_PATH": str(settings.segment_path),
        "BRIXFLOW_EXT_PROC_ADDRESS": f"127.0.0.1:{settings.ext_proc_port}",
        "BRIXFLOW_GATEWAY_HTTP_ADDRESS": http,
    }
    return _python_part(
        GATEWAY,
        environment,
        HttpCheck(f"http://{http}/healthz"),
        f"127.0.0.1:{settings.ext_proc_port}",
        defaults={"ROUTING_ALGORITHM": "least-request"},
        watched=[
            CHECKOUT / "gateway",
            CHECKOUT / "csrc",
            *(CHECKOUT / "csrc").glob("*.so"),
            settings.gateway_kubeconfig,
        ],
        after=("api-server",),
        stop_seconds=GATEWAY_STOP_SECONDS,
    )


def _python_part(
    name: str,
    environment: dict[str, str],
    check: HttpCheck,
    address: str,
    *,
    watched: Iterable[Path],
    after: tuple[str, ...],
    stop_seconds: float,
    defaults: Mapping[str, str] = MappingProxyType({}),
    teardown: tuple[str, ...] = (),
) -> Part:
    """`environment` is fixed by the settings; `defaults` give way to what the user set in the shell of `up`."""
    command = (sys.executable, "-m", "cli.main", name)
    complete = {**_base_environment(), **defaults, **_starting_with(PASSED_ON[name], os.environ), **environment}
    return Part(
        name=name,
        command=command,
        environment=complete,
        check=check,
        address=address,
        after=after,
        teardown=teardown,
        stop_seconds=stop_seconds,
        fingerprint=fingerprint_of(command, complete, watched),
    )


def _base_environment() -> dict[str, str]:
    return {
        "PATH": f"{bin_directory()}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(Path.home()),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _starting_with(prefixes: tuple[str, ...], shell: Mapping[str, str]) -> dict[str, str]:
    return {variable: value for variable, value in shell.items() if variable.startswith(prefixes)}
