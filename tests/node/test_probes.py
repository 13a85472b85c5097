"""Probes of all kinds against real containers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.rig import Pods, condition, container, is_ready, restarts

GRPC_SERVER = """
import grpc, time
from concurrent import futures
answer = lambda request, context: b"\\x08\\x01" if request == b"\\x0a\\x02up" else b"\\x08\\x02"
method = grpc.unary_unary_rpc_method_handler(answer)
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})])
server.add_insecure_port("0.0.0.0:5000")
server.start()
time.sleep(1000)
"""
HTTP_SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.path == "/deep/health" and self.headers["X-Probe"] == "yes"
        self.send_response(200 if wanted else 500); self.end_headers()
    def log_message(self, *words): pass
http.server.HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
HTTP_PROBE = {"httpGet": {"path": "/deep/health", "port": "web", "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}}


@pytest.mark.parametrize(
    ("kind", "program", "probe"),
    [
        ("http", HTTP_SERVER, HTTP_PROBE),
        ("tcp", HTTP_SERVER, {"tcpSocket": {"port": 8080}}),
        ("grpc", GRPC_SERVER, {"grpc": {"port": 5000, "service": "up"}}),
        ("exec", "import time; time.sleep(1000)", {"exec": {"command": ["python3", "-c", "import sys; sys.exit(0)"]}}),
    ],
)
async def test_a_container_is_ready_once_its_probe_succeeds(
    pods: Pods, kind: str, program: str, probe: dict[str, Any]
) -> None:
    probe = {**probe, "periodSeconds": 1, "timeoutSeconds": 2}
    ports = [{"name": "web", "containerPort": 8080}]
    await pods.run(kind, image="python:3.11", command=["python3", "-c", program], ports=ports, readinessProbe=probe)
    pod = await pods.until(kind, is_ready)
    assert restarts(pod) == 0


async def test_readiness_comes_and_goes_by_its_thresholds(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    await pods.run("swings", "sleep", "1000", readinessProbe=probe)
    pod = await pods.until("swings", lambda pod: container(pod).get("started"))
    assert condition(pod, "Ready") == "False"
    await asyncio.to_thread(pods.kubectl, "exec", "swings", "--", "touch", "/tmp/ready")
    await pods.until("swings", is_ready)
    await asyncio.to_thread(pods.kubectl, "exec", "swings", "--", "rm", "/tmp/ready")
    pod = await pods.until("swings", lambda pod: condition(pod, "Ready") == "False")
    assert restarts(pod) == 0


async def test_a_failed_liveness_probe_restarts_the_container(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    await pods.run("sick", "sh", "-c", "sleep 1; touch /tmp/sick; sleep 1000", livenessProbe=probe)
    pod = await pods.until("sick", lambda pod: restarts(pod) == 1)
    assert container(pod)["lastState"]["terminated"]["exitCode"] in (137, 143)
    events = (await pods.api.get(f"{pods.path}/events"))["items"]
    assert {"Unhealthy", "Killing"} <= {event["reason"] for event in events}


async def test_a_startup_probe_holds_the_other_probes_back(pods: Pods) -> None:
    startup = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 30}
    liveness = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1}
    await pods.run(
        "late", "sh", "-c", "sleep 2; touch /tmp/up; sleep 1000", startupProbe=startup, livenessProbe=liveness
    )
    pod = await pods.until("late", is_ready)
    assert restarts(pod) == 0


async def test_a_readiness_gate_is_respected(pods: Pods) -> None:
    gate = "example.com/open"
    await pods.run("gated", "sleep", "1000", spec={"readinessGates": [{"conditionType": gate}]})
    await pods.until("gated", lambda pod: condition(pod, "ContainersReady") == "True")
    assert not is_ready(await pods.get("gated"))
    body = {"status": {"conditions": [{"type": gate, "status": "True"}]}}
    kind = "application/strategic-merge-patch+json"
    await pods.api.request("PATCH", f"{pods.path}/pods/gated/status", body, kind)
    pod = await pods.until("gated", is_ready)
    assert condition(pod, gate) == "True"
