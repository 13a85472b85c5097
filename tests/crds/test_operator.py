"""The operator process serves admission beside its work, and says so (deployment cases D12, D13, D14)."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from local.cluster import OPERATOR_ACCOUNT
from local.kubeconfig import ensure_token_kubeconfig
from tests.crds.test_edits import secret_of

START_SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("webhook", "health", "metrics")}


def answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def wait_until_ready(ports: dict[str, int]) -> None:
    """Healthy from the first answer on, ready within START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while answer(ports["health"], "/readyz")[0] != 200:
        code, text = answer(ports["health"], "/healthz")
        assert code in (0, 200), text
        assert time.monotonic() < deadline, answer(ports["health"], "/readyz")
        time.sleep(0.1)


def ask_for_review(control_plane, ports: dict[str, int]) -> dict[str, Any]:
    """What the webhook answers to an adapter without a pod selector, over a connection that checks its certificate."""
    authority = secret_of(control_plane)["ca.crt"].decode()
    trust = ssl.create_default_context(cadata=authority)
    name = "aibrix-webhook-service.aibrix-system.svc"
    with (
        socket.create_connection(("127.0.0.1", ports["webhook"]), timeout=5) as plain,
        trust.wrap_socket(plain, server_hostname=name) as secure,
    ):
        body = json.dumps({"request": {"uid": "u", "operation": "CREATE", "object": {"spec": {}}}})
        head = f"POST /validate-model-aibrix-ai-v1alpha1-modeladapter HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n"
        secure.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        said = b""
        while part := secure.recv(65536):
            said += part
    answered: dict[str, Any] = json.loads(said.split(b"\r\n\r\n", 1)[1])["response"]
    return answered


def counted(text: str, series: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(series))


@pytest.fixture(scope="module")
def operator(control_plane, ports, tmp_path_factory) -> Iterator[subprocess.Popen]:
    """A process that is ready: each test may be the first of its worker."""
    folder = tmp_path_factory.mktemp("process")
    ensure_token_kubeconfig(folder / "kubeconfig", control_plane.kubeconfig, OPERATOR_ACCOUNT)
    environment = os.environ | {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "TEMPORAL_ADDRESS": control_plane.temporal_address,
        "BRIXFLOW_OPERATOR_WEBHOOK_ADDRESS": f"127.0.0.1:{ports['webhook']}",
        "BRIXFLOW_OPERATOR_HEALTH_ADDRESS": f"127.0.0.1:{ports['health']}",
        "BRIXFLOW_OPERATOR_METRICS_ADDRESS": f"127.0.0.1:{ports['metrics']}",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "cli.main", "operator"], env=environment, stderr=log)
    try:
        wait_until_ready(ports)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def test_d13_d14_it_is_healthy_at_once_and_ready_with_its_certificate(control_plane, operator, ports):
    response = ask_for_review(control_plane, ports)
    assert response["uid"] == "u"
    assert response["allowed"] is False


def test_every_call_of_a_webhook_is_counted_and_timed(control_plane, operator, ports):
    """With the failure policy Ignore nothing else tells of a rule that fails."""
    webhook = 'webhook="validate-model-aibrix-ai-v1alpha1-modeladapter"'
    refused = f'brixflow_admission_requests_total{{outcome="refused",{webhook}}}'
    timed = f"brixflow_admission_seconds_count{{{webhook}}}"
    before = answer(ports["metrics"], "/metrics")[1]
    ask_for_review(control_plane, ports)
    after = answer(ports["metrics"], "/metrics")[1]
    for series in (refused, timed):
        assert counted(after, series) == counted(before, series) + 1, series
    expires = next(line for line in after.splitlines() if line.startswith("brixflow_admission_certificate_not_after"))
    assert float(expires.split()[1]) > time.time() + 300 * 86400


def test_an_address_that_is_taken_ends_the_process_with_a_reason(control_plane, operator, ports, tmp_path):
    environment = os.environ | {
        "KUBECONFIG": str(control_plane.kubeconfig),
        "TEMPORAL_ADDRESS": control_plane.temporal_address,
        "BRIXFLOW_OPERATOR_WEBHOOK_ADDRESS": f"127.0.0.1:{ports['webhook']}",
        "BRIXFLOW_OPERATOR_HEALTH_ADDRESS": f"127.0.0.1:{free_port()}",
        "BRIXFLOW_OPERATOR_METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    command = [sys.executable, "-m", "cli.main", "operator"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "cannot listen" in ended.stderr
