"""What a client of the endpoint sees: answers, streams, errors, and nothing of the machinery's troubles."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.system.harness import System, eventually, service_manifest
from tests.system.load import SteadyLoad
from tests.system.processes import pid_on_host

pytestmark = pytest.mark.system
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}


def chat(system: System, model: str = "llama2-7b", stream: bool = False, **headers: str) -> requests.Response:
    body = {**CHAT, "model": model, "stream": stream}
    return requests.post(
        f"{system.endpoint}/v1/chat/completions", json=body, headers=headers, stream=stream, timeout=30
    )


@pytest.fixture(scope="module", params=["module", "grpc"])
def either_host(system: System, request: pytest.FixtureRequest) -> Iterator[str]:
    """The system with requests decided inside Envoy, as `up` has it, or beside it."""
    host: str = request.param
    if host == "module":
        yield host
        return
    system.environment["BRIXFLOW_GATEWAY_HOST"] = host
    system.brixflow("up")
    yield host
    del system.environment["BRIXFLOW_GATEWAY_HOST"]
    system.brixflow("up")


on_either_host = pytest.mark.usefixtures("either_host")


@on_either_host
def test_the_printed_curl_gets_an_answer_from_a_named_pod(system: System) -> None:
    assert "curl" in system.up_output
    answer = chat(system)
    assert answer.status_code == 200
    assert answer.json()["object"] == "chat.completion"
    names = {pod["metadata"]["name"] for pod in system.pods("llama2-7b")}
    assert answer.headers["target-pod"] in names


@on_either_host
def test_a_stream_begins_before_it_ends(system: System) -> None:
    with chat(system, stream=True) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        arrivals = [(time.monotonic(), line) for line in answer.iter_lines() if line.startswith(b"data:")]
    assert arrivals[-1][1] == b"data: [DONE]"
    assert json.loads(arrivals[0][1][5:])["object"] == "chat.completion.chunk"
    assert arrivals[-1][0] - arrivals[0][0] > 0.01


@on_either_host
@pytest.mark.parametrize(
    ("model", "strategy", "status", "header"),
    [
        ("no-such-model", "random", 400, "x-error-no-model-backends"),
        ("llama2-7b", "no-such-strategy", 400, "x-error-routing"),
    ],
)
def test_refusals_are_openai_errors(system: System, model: str, strategy: str, status: int, header: str) -> None:
    answer = chat(system, model, **{"routing-strategy": strategy})
    assert answer.status_code == status
    assert header in answer.headers
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@on_either_host
def test_a_target_pod_from_a_client_is_never_trusted(system: System) -> None:
    for stranger in ("127.0.0.1:1", "10.255.255.1:80"):
        answer = chat(system, **{"target-pod": stranger})
        assert answer.status_code == 200
        headers = {"routing-strategy": "random", "target-pod": stranger}
        bodyless = requests.get(f"{system.endpoint}/x", headers=headers, timeout=10)
        assert bodyless.status_code in {404, 405, 501}


def test_models_are_listed(system: System) -> None:
    listed = requests.get(f"{system.endpoint}/v1/models", timeout=10).json()
    assert listed["object"] == "list"
    assert "llama2-7b" in {model["id"] for model in listed["data"]}


@on_either_host
def test_a_model_without_ready_pods_is_503(system: System, service: str) -> None:
    manifest = service_manifest(service, 1)
    role = manifest["spec"]["template"]["spec"]["roles"][0]
    role["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] = "/never"
    system.apply(manifest)
    eventually(lambda: system.pods(service)[0]["status"]["phase"] == "Running")
    answer = eventually(lambda: (got := chat(system, service)).status_code == 503 and [got])[0]
    assert answer.json()["error"]["code"] == "service_unavailable"
    assert answer.headers["x-error-no-model-backends"] == "true"


def test_one_setting_moves_the_decision_out_of_envoy(system: System, either_host: str) -> None:
    processes = system.parts()["gateway"]["pid"]
    children = Path(f"/proc/{processes}/task/{processes}/children").read_text().split()
    assert len(children) == (1 if either_host == "module" else 3)


def test_a_killed_engine_restarts_and_is_left_out_meanwhile(system: System, service: str) -> None:
    system.apply(service_manifest(service, 2))
    system.wait_ready(service)
    victim = system.pods(service)[0]["metadata"]["name"]
    with SteadyLoad(system.endpoint, service) as load:
        eventually(lambda: load.pods[victim], within=20)
        pid = int(system.kubectl("exec", victim, "--", "python3", "-c", OWN_ENGINE_PID).strip())
        os.kill(host_pid(system, victim, pid), signal.SIGKILL)
        time.sleep(2)
        away = load.pods_since(0.5)
        status = eventually(lambda: restarted(system, victim))
        ready_again = victim in away
        assert not ready_again or status["ready"]
        eventually(lambda: load.pods[victim] > 5, within=30)
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 137


# Prints the pid, within the pod, of its engine: the process that listens on port 8000.
OWN_ENGINE_PID = """
import os
for pid in filter(str.isdigit, os.listdir('/proc')):
    command = open(f'/proc/{pid}/cmdline').read().replace(chr(0), ' ')
    if 'app.py' in command or 'simulator' in command:
        print(pid)
        break
"""


def restarted(system: System, pod: str) -> dict[str, object] | None:
    status: dict[str, object] = system.get("pod", pod)["status"]["containerStatuses"][0]
    return status if status["restartCount"] and status["ready"] else None


def host_pid(system: System, pod: str, inner: int) -> int:
    """The pid outside of the pod's process `inner`, found by the pod's PID namespace and address."""
    return pid_on_host(system.get("pod", pod)["metadata"]["uid"], inner, system.settings.home)


@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_requests_flow_while_temporal_is_away(system: System, service: str, seconds: int) -> None:
    system.apply(service_manifest(service, 2))
    system.wait_ready(service)
    with SteadyLoad(system.endpoint, service) as load:
        system.brixflow("kill", "temporal", "--hold", f"{seconds}s")
        system.kubectl("scale", f"stormservice/{service}", "--replicas=3")
        time.sleep(seconds + 2)
        eventually(lambda: len(system.pods(service)) == 3, within=60)
        system.wait_ready(service)
    assert load.failures == 0, load.details
    assert load.outcomes["200"] > 15 * seconds
