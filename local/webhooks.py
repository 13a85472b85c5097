"""Lets the API server of this machine find the operator's webhooks through their Service, as it does in a cluster.

The operator is no pod here, so no controller fills the Service's EndpointSlices. This one names the bridge's address:
a loopback address is refused there. The API server asks endpoints directly (`--enable-aggregator-routing`), so that
the Service needs no address that answers.
"""

from __future__ import annotations

import json
from typing import Any

from local.cluster import NAMESPACE, apply
from local.errors import ClusterError, KubectlError
from local.settings import LocalSettings

SERVICE = "aibrix-webhook-service"
PORT_NAME = "webhook"


def publish_webhook_endpoint(settings: LocalSettings, address: str | None = None) -> None:
    """Point the webhooks' Service at `address`, by default the bridge's. Raises ClusterError.

    In a cluster that the user brings nothing is done: it cannot reach this machine, and its own operator answers.
    """
    if settings.external_kubeconfig is not None:
        return
    try:
        apply(settings, "-f", "-", stdin=json.dumps(endpoint_slice(address or settings.bridge_address, settings)))
    except KubectlError as error:
        raise ClusterError(f"the EndpointSlice of the webhooks cannot be applied: {error}") from None


def endpoint_slice(address: str, settings: LocalSettings) -> dict[str, Any]:
    """Its only endpoint is the operator's webhook port at `address`."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{SERVICE}-local",
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": SERVICE,
                "endpointslice.kubernetes.io/managed-by": "brixflow-local",
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": PORT_NAME, "port": settings.operator_webhook_port, "protocol": "TCP"}],
    }
