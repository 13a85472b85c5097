"""kubectl logs, exec and port-forward through the API server, and who may call the node directly."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import ssl
import struct
import termios
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.node.rig import PORT, Agent, Pods, is_ready, is_running

COUNTER = "for i in 1 2 3 4 5; do echo line $i; sleep 0.3; done; echo error >&2; echo end"


def command(pods: Pods, *words: str) -> list[str]:
    return ["kubectl", "--kubeconfig", str(pods.agent.control_plane.kubeconfig), "-n", pods.namespace, *words]


async def finish(pods: Pods, *words: str, given: bytes = b"") -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command(pods, *words), stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(given), 30)
    return process.returncode or 0, out.decode(), err.decode()


async def test_logs_follow_a_container_to_its_end(pods: Pods) -> None:
    await pods.run("counts", "sh", "-c", COUNTER, spec={"restartPolicy": "Never"})
    await pods.text("counts", "line 1")
    code, out, _ = await finish(pods, "logs", "-f", "counts")
    assert code == 0
    assert out.splitlines() == [*(f"line {at}" for at in range(1, 6)), "error", "end"]
    assert (await finish(pods, "logs", "counts", "--tail=2"))[1].splitlines() == ["error", "end"]
    stamped = (await finish(pods, "logs", "counts", "--timestamps", "--tail=1"))[1]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z end\n", stamped)
    assert (await finish(pods, "logs", "counts", "--since=1h", "--limit-bytes=6"))[1] == "line 1"


async def test_a_log_is_bounded_and_can_be_followed_over_its_rotation(pods: Pods) -> None:
    script = "for i in $(seq 100); do head -c 299999 /dev/zero | tr '\\0' x; echo; done; echo end"
    await pods.run("floods", "sh", "-c", f"sleep 1; {script}", spec={"restartPolicy": "Never"})
    pod = await pods.until("floods", is_running)
    code, out, _ = await finish(pods, "logs", "-f", "floods")
    assert code == 0
    assert out.endswith("x\nend\n")
    folder = pods.agent.pod_folder(pod) / "logs" / "main"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 21 << 20


async def test_exec_carries_files_and_exit_codes(pods: Pods) -> None:
    await pods.run("shell", "sleep", "1000", env=[{"name": "A", "value": "kept"}])
    await pods.until("shell", is_running)
    assert await finish(pods, "exec", "shell", "--", "sh", "-c", "echo $A; echo bad >&2; exit 3") == (
        3,
        "kept\n",
        "bad\ncommand terminated with exit code 3\n",
    )
    text = os.urandom(200_000).hex().encode()
    code, out, _ = await finish(pods, "exec", "-i", "shell", "--", "cat", given=text)
    assert (code, out) == (0, text.decode())
    code, _, err = await finish(pods, "exec", "shell", "--", "no-such-program")
    assert code
    assert "no-such-program" in err


async def test_exec_on_a_terminal_knows_its_size(pods: Pods) -> None:
    await pods.run("shell", "sleep", "1000")
    await pods.until("shell", is_running)
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    words = command(
        pods, "exec", "-it", "shell", "--", "sh", "-c", "tty; sleep 0.5; stty size; read x; echo got $x; exit 4"
    )
    process = await asyncio.create_subprocess_exec(*words, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    await asyncio.sleep(2)
    os.write(outer, b"words\n")
    assert await asyncio.wait_for(process.wait(), 20) == 4
    shown = read_terminal(outer)
    assert "/dev/pts/0" in shown
    assert "33 99" in shown
    assert "got words" in shown


def read_terminal(descriptor: int) -> str:
    shown = b""
    try:
        while chunk := os.read(descriptor, 4096):
            shown += chunk
    except OSError:
        pass
    os.close(descriptor)
    return shown.decode()


async def test_a_command_ends_when_its_client_leaves(pods: Pods) -> None:
    await pods.run("shell", "sleep", "1000")
    await pods.until("shell", is_running)
    process = await asyncio.create_subprocess_exec(*command(pods, "exec", "shell", "--", "sleep", "777"))
    await asyncio.sleep(1.5)
    process.kill()
    await process.wait()
    for _ in range(50):
        if "777" not in (await finish(pods, "exec", "shell", "--", "cat", "/proc/2/cmdline", "/proc/3/cmdline"))[1]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the command still runs")


async def test_port_forward_reaches_a_pod(pods: Pods) -> None:
    await pods.run(
        "web",
        image="python:3.11",
        command=["python3", "-m", "http.server", "8000"],
        readinessProbe={"tcpSocket": {"port": 8000}, "periodSeconds": 1},
    )
    await pods.until("web", is_ready)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command(pods, "port-forward", "pod/web", ":8000"), stdout=pipe)
    assert process.stdout
    line = (await asyncio.wait_for(process.stdout.readline(), 10)).decode()
    address = f"http://127.0.0.1:{line.split(':')[1].split(' ')[0]}/etc/hostname"
    try:
        for _ in range(3):
            assert await asyncio.to_thread(fetch, address) == "web"
    finally:
        process.terminate()
        await process.wait()


def fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=5) as answer:
        return str(answer.read().decode().strip())


def ask_node(agent: Agent, path: str, certificate: Path | None = None, key: Path | None = None) -> int:
    context = ssl.create_default_context(cafile=str(agent.control_plane.ca))
    if certificate:
        context.load_cert_chain(certificate, key)
    address = f"https://{agent.settings.bridge_address}:{PORT}{path}"
    try:
        with urllib.request.urlopen(address, context=context, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_only_the_api_server_may_ask_the_node(agent: Agent) -> None:
    cluster = agent.control_plane
    assert ask_node(agent, "/healthz") == 200
    assert ask_node(agent, "/pods") == 401
    assert ask_node(agent, "/pods", cluster.kubelet_client_cert, cluster.kubelet_client_key) == 200
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        ask_node(agent, "/pods", cluster.node_cert, cluster.node_key)


def test_the_node_is_registered_and_renews_its_lease(agent: Agent) -> None:
    name = agent.settings.name
    query = "jsonpath={.metadata.labels} {.status.capacity} {.status.addresses}"
    shown = agent.control_plane.kubectl("get", "node", name, "-o", query)
    for text in ('"example.com/room":"node"', '"kubernetes.io/hostname"', '"nvidia.com/gpu":"8"', '"InternalIP"'):
        assert text in shown
    lease = ("get", "lease", "-n", "kube-node-lease", name, "-o", "jsonpath={.spec.renewTime}")
    first = agent.control_plane.kubectl(*lease)
    deadline = time.monotonic() + 15
    while agent.control_plane.kubectl(*lease) == first:
        assert time.monotonic() < deadline, "the lease is not renewed"
        time.sleep(0.5)
