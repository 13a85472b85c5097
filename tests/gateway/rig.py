"""The request path as tests see it: a real gateway and a real Envoy over a real API server, small engines behind it.

Pods are real objects without a node; their status is patched as a kubelet would. Each test uses a model of its own, so
that all tests of a session can share one gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
import yaml

from gateway.envoy import EnvoyValues, environment_for, render
from gateway.settings import GatewaySettings, Host
from tests.gateway.parts import ENGINE_PORT, Gate, Part, eventually, free_port

ENVOY = Path(os.environ.get("BRIXFLOW_TEST_ENVOY") or Path(sys.executable).parent / "envoy")
"""The pinned one; `make older-envoy` runs the folder with the version before it."""

OURS = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
"""Processes run the code of this checkout, wherever they run."""
only_grpc = pytest.mark.parametrize("host", [Host.GRPC], indirect=True, scope="session")
"""For what only ext_proc's own processes and messages can show."""

only_module = pytest.mark.parametrize("host", [Host.MODULE], indirect=True, scope="session")
"""For what only an Envoy that decides by itself can show."""

_names = itertools.count(1)


class ControlPlane(Protocol):
    """What the fixture `control_plane` gives."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, input: str | None = None) -> str: ...  # noqa: A002


def through(gate: Gate, control_plane: ControlPlane, home: Path) -> Path:
    """A kubeconfig of the gateway's own ServiceAccount, with just the shipped rights, that leads through the gate."""
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    gate.target = (host, int(port))
    cluster["server"] = f"https://127.0.0.1:{gate.port}"
    token = control_plane.kubectl("create", "token", "aibrix-gateway-plugins", "--namespace", "aibrix-system")
    config["users"][0]["user"] = {"token": token.strip()}
    changed = home / "kubeconfig"
    changed.write_text(yaml.safe_dump(config))
    return changed


@dataclass
class Rig:
    """One gateway and one Envoy. Use `Rig.running`."""

    control_plane: ControlPlane
    home: Path
    gate: Gate
    settings: GatewaySettings
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    namespace: str = ""
    mode_override: bool = True
    gateway: Part | None = None
    envoy: Part | None = None
    known_users: dict[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, control_plane: ControlPlane, host: Host, **variables: str) -> AsyncIterator[Rig]:
        """A rig that serves; everything of it is gone afterwards."""
        home = Path(tempfile.mkdtemp(prefix="brixgw-"))
        gate = Gate()
        kubeconfig = through(gate, control_plane, home)
        given = {
            "KUBECONFIG": str(kubeconfig),
            "BRIXFLOW_GATEWAY_HOST": host,
            "BRIXFLOW_SEGMENT_PATH": str(home / "shm" / "segment"),
            "BRIXFLOW_EXT_PROC_ADDRESS": f"127.0.0.1:{free_port()}",
            "BRIXFLOW_GATEWAY_HTTP_ADDRESS": f"127.0.0.1:{free_port()}",
            "ROUTING_ALGORITHM": "least-request",
            "AIBRIX_SHUTDOWN_DRAIN_SECONDS": "5",
            "POD_NAME": "gateway-under-test",
            "BRIXFLOW_USERS_FILE": str(home / "users.json"),
            **variables,
        }
        rig = cls(control_plane, home, gate, GatewaySettings.from_environment(given), {**os.environ, **OURS, **given})
        rig.namespace = f"gw-{home.name.rpartition('-')[2].lower().replace('_', 'x')}"
        try:
            await rig.up()
            yield rig
        finally:
            await rig.down()

    async def up(self) -> None:
        await self.gate.open()
        self.control_plane.kubectl("create", "namespace", self.namespace)
        self.start_gateway()
        self.start_envoy()
        await eventually(lambda: "default" in self.kubectl("get", "serviceaccounts", "-o", "name"), within=30)
        await eventually(self.is_healthy, within=20)
        await eventually(self.envoy_answers, within=10)

    def start_gateway(self) -> None:
        command = [sys.executable, "-m", "gateway.process"]
        self.gateway = Part.start("gateway", self.home, command, self.environment)

    def start_envoy(self) -> None:
        values = self.envoy_values()
        config = self.home / "envoy.yaml"
        config.write_text(self.envoy_config(values))
        command = [str(ENVOY), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
        command += ["--file-flush-interval-msec", "100"]
        self.envoy = Part.start("envoy", self.home, command, os.environ | environment_for(values))

    def restart_envoy(self) -> None:
        assert self.envoy is not None
        self.envoy.stop()
        self.start_envoy()

    def envoy_config(self, values: EnvoyValues) -> str:
        """Envoy's configuration; a rig of its own kind may change it."""
        return render(values)

    def envoy_values(self) -> EnvoyValues:
        return EnvoyValues(
            listen_port=self.port,
            admin_port=self.admin_port,
            host=self.settings.host,
            segment=self.settings.segment_path,
            ext_proc=self.settings.sockets,
            http=self.settings.http_address,
            access_log=self.home / "access.log",
            listen_address="127.0.0.1",
            body_limit_bytes=self.settings.message_limit_bytes,
            held_bytes=self.settings.held_bytes,
            idle_timeout=self.settings.idle_timeout,
            tracing=self.settings.tracing,
            mode_override=self.mode_override,
        )

    async def down(self) -> None:
        for part in (self.envoy, self.gateway):
            if part is not None:
                part.stop()
        self.gate.shut()
        await asyncio.sleep(0.05)  # its streams end
        self.control_plane.kubectl("delete", "namespace", self.namespace, "--wait=false")
        shutil.rmtree(self.home, ignore_errors=True)

    # Kubernetes

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        return self.control_plane.kubectl("--namespace", self.namespace, *arguments, input=given)

    def pod(self, model: str, host: str, *, ready: bool = True, name: str = "", **labels: str) -> str:
        """Create a pod that serves `model` at `host`; its name."""
        name = name or f"{model}-{next(_names)}"
        own = {"model.aibrix.ai/name": model, "model.aibrix.ai/port": str(ENGINE_PORT), **labels}
        spec = {"schedulerName": "none", "containers": [{"name": "engine", "image": "engine"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": own}, "spec": spec}
        self.kubectl("create", "-f", "-", given=json.dumps(pod))
        address = {"podIP": host, "podIPs": [{"ip": host}]} if host else {}
        self.patch(name, {"phase": "Running", **address, **readiness(ready)})
        return name

    def set_ready(self, name: str, ready: bool) -> None:
        self.patch(name, readiness(ready))

    def patch(self, name: str, status: Mapping[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)

    # Users

    async def users(self, **users: Mapping[str, int]) -> None:
        """Have these users with their limits, besides those that there are, and wait until they are known."""
        self.known_users |= users
        fresh = self.home / "users.new"
        fresh.write_text(json.dumps([{"name": name, **limits} for name, limits in self.known_users.items()]))
        fresh.replace(self.home / "users.json")

        async def are_known() -> bool:
            body = chat("no-such-model")
            async with aiohttp.ClientSession(self.url) as session:
                for name in users:
                    async with session.post("/v1/chat/completions", json=body, headers={"user": name}) as answer:
                        if answer.status == 401:
                            return False
            return True

        await eventually(are_known)

    # HTTP

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://{self.settings.http_address}"

    async def is_healthy(self) -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{self.http_url}/healthz") as got:
            return got.status == 200

    async def envoy_answers(self) -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/healthz") as got:
            return got.status == 200

    async def metrics(self) -> dict[str, float]:
        """All series of the gateway's page, by their text."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.http_url}/metrics") as got:
            lines = (await got.text()).splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line and line[0] != "#"}

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of the series of a metric that carry these labels; 0 when there is none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = await self.metrics()
        return sum(
            value for series, value in found.items()
            if re.split(r"[{ ]", series)[0] == name and all(label in series for label in wanted)
        )  # fmt: skip

    async def routable(self, model: str, count: int) -> None:
        """Wait until `count` pods of the model may be chosen."""

        async def reached() -> bool:
            return await self.metric("model_replicas", model=model) == count

        await eventually(reached)

    async def is_quiet(self) -> bool:
        """True when nothing runs anywhere: neither in a model nor on a pod."""
        found = await self.metrics()
        names = ("gateway_in_flight_requests", "gateway_model_in_flight_requests", "brixflow_pod_requests_running")
        return all(value == 0 for series, value in found.items() if series.startswith(names))

    # Processes

    def children(self) -> dict[str, int]:
        """Process ids of the gateway's children by name, those that live now."""
        assert self.gateway is not None
        found = {}
        for line in self.gateway.log.read_text().splitlines():
            if started := re.search(r"event=child_started child=(\S+) child_pid=(\d+)", line):
                found[started[1]] = int(started[2])
        return found

    def kill(self, child: str) -> int:
        pid = self.children()[child]
        os.kill(pid, signal.SIGKILL)
        return pid


def readiness(ready: bool) -> dict[str, Any]:
    """The part of a pod's status that says so."""
    return {"conditions": [{"type": "Ready", "status": str(ready)}]}


def chat(model: str, text: str = "hi", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}
