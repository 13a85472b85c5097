"""APIService objects of users work against the local API server (PodAutoscaler case A10 reads what they bring).

AIBrix ships none and neither does brixflow: an external metric is read from whatever adapter the cluster has
registered. A stand-in for one is registered here as in any cluster, behind a Service.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from crds.admission import certificates
from tests.crds.conftest import ADDRESS
from tests.crds.objects import NAMESPACE
from tests.slot import SLOT

PORT = 27910 + SLOT
GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
READY_SECONDS = 20.0
RESOURCES = {
    "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [{"name": "externalmetrics", "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList",
                   "verbs": ["get"]}],
}  # fmt: skip


class Adapter(BaseHTTPRequestHandler):
    """Answers any metric with 42, and discovery with what it has."""

    def do_GET(self) -> None:
        metric = {"metricName": self.path.split("?")[0].rsplit("/", 1)[-1], "metricLabels": {}, "value": "42"}
        values = {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}}
        found = values | {"items": [metric | {"timestamp": "2026-01-01T00:00:00Z"}]}
        body = json.dumps(found if "/namespaces/" in self.path else RESOURCES).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def adapter_service(control_plane, webhooks, tmp_path) -> Iterator[bytes]:
    """The adapter behind its Service; its authority. `webhooks` brings the address that is not the loopback one."""
    held = certificates.renewed({}, [f"metrics.{NAMESPACE}.svc"], datetime.now(UTC))
    pair = tmp_path / "pair.pem"
    pair.write_bytes(held[certificates.KEY] + held[certificates.CERT])
    server = ThreadingHTTPServer(("0.0.0.0", PORT), Adapter)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "metrics", "namespace": NAMESPACE}}
    slice_of = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "metrics", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "metrics"}},
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}],
    }  # fmt: skip
    objects = [service | {"spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]}}, slice_of]
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))
    yield held[certificates.CA_CERT]
    control_plane.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(objects))
    server.shutdown()
    server.server_close()


def test_a_registered_adapter_answers_the_external_metrics_api(api, control_plane, adapter_service):
    bundle = base64.b64encode(adapter_service).decode()
    manifest = {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"{VERSION}.{GROUP}"},
        "spec": {
            "group": GROUP, "version": VERSION, "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"namespace": NAMESPACE, "name": "metrics"}, "caBundle": bundle,
        },
    }  # fmt: skip
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(manifest))
    try:
        path = f"{api.server}/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/waiting_requests"
        deadline = time.monotonic() + READY_SECONDS
        while (answer := api.session.get(path, timeout=10)).status_code != 200:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)
        assert answer.json()["items"][0] | {"timestamp": ""} == {
            "metricName": "waiting_requests", "metricLabels": {}, "value": "42", "timestamp": "",
        }  # fmt: skip
    finally:
        control_plane.kubectl("delete", "apiservice", f"{VERSION}.{GROUP}")
