"""Endpoints from a file, without Kubernetes: what the file may say, and a whole gateway that runs on one."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from gateway import static
from gateway.envoy import EnvoyValues, environment_for, render
from gateway.settings import GatewaySettings, Host
from gateway.topology import models_of, targets_of
from tests.gateway.parts import Engine, Part, eventually, free_port
from tests.gateway.rig import ENVOY, OURS, chat

CHAT = "/v1/chat/completions"


def written(folder: Path, text: str) -> Path:
    path = folder / "endpoints.yaml"
    path.write_text(text)
    return path


def test_case_26_each_endpoint_is_a_pod(tmp_path: Path) -> None:
    path = written(tmp_path, "models: [{name: Org/My_Model, engine: sglang, endpoints: ['10.0.0.1:9000', '10.0.0.2']}]")
    found = [static.endpoint_of(place, index, place.host) for index, place in enumerate(static.read(path))]
    assert [(each.name, each.ip, each.ports) for each in found] == [
        ("org-my-model-10-0-0-1-0", "10.0.0.1", (9000,)),
        ("org-my-model-10-0-0-2-1", "10.0.0.2", (8000,)),
    ]
    assert {each.namespace for each in found} == {"standalone"}
    assert found[0].labels["model.aibrix.ai/name"] == "Org/My_Model"
    assert found[1].labels["model.aibrix.ai/port"] == "8000"
    ((model, pods),) = models_of(found).items()
    assert (model, [pod.ready for pod in pods], pods[0].engine) == ("Org/My_Model", [True, True], "sglang")
    assert [target.port for target in targets_of(found)] == [9000, 8000]


def test_case_27_rolesets_name_role_and_set_prefill_first(tmp_path: Path) -> None:
    text = "models: [{name: m, rolesets: [{name: a, decode: ['d:1'], prefill: ['p:2']}]}]"
    found = [static.endpoint_of(each, 0, "10.0.0.1") for each in static.read(written(tmp_path, text))]
    assert [(each.role, each.roleset) for each in found] == [("prefill", "a"), ("decode", "a")]
    assert [(each.labels["role-name"], each.labels["roleset-name"]) for each in found] == [
        ("prefill", "a"),
        ("decode", "a"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: [{name: m, endpoints: [a], rolesets: [{name: r}]}]",
         'model "m": endpoints and rolesets are mutually exclusive'),
        ("models: [{name: m, rolesets: [{name: '', prefill: [a]}]}]", 'model "m": roleset name is required'),
        ("models: [{name: m, endpoints: ['h:x']}]", 'model "m": endpoint "h:x": invalid port "x"'),
        ("models: [{name: m, rolesets: [{name: r, decode: ['h:0']}]}]",
         'model "m": roleset "r": decode "h:0": invalid port "0"'),
        ("models: [", "failed to parse config file: "),
        ("[1, 2]", "failed to parse config file: "),
        ("models: [{endpoints: [a]}]", "failed to parse config file: "),
    ],
)  # fmt: skip
def test_case_28_what_a_file_may_not_say(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(static.EndpointsRefused, match=f"^{re.escape(reason)}"):
        static.read(written(tmp_path, text))


def test_case_28_a_missing_file_ends_the_gateway(tmp_path: Path) -> None:
    given = os.environ | {"BRIXFLOW_ENDPOINTS_FILE": str(tmp_path / "absent.yaml")}
    command = [sys.executable, "-m", "gateway.process"]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == os.EX_CONFIG
    assert "failed to read config file: " in done.stderr


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("vllm-host", ("vllm-host", 8000)), ("h:9", ("h", 9)), ("::1", ("::1", 8000)),
        ("[::1]", ("::1", 8000)), ("[2001:db8::1]:81", ("2001:db8::1", 81)),
    ],
)  # fmt: skip
def test_case_29_where_an_endpoint_is(tmp_path: Path, text: str, where: tuple[str, int]) -> None:
    (place,) = static.read(written(tmp_path, f"models: [{{name: m, endpoints: ['{text}']}}]"))
    assert (place.host, place.port) == where


class Standalone:
    """Gateway and Envoy on a file of endpoints."""

    def __init__(self, host: Host, home: Path) -> None:
        self.file = home / "endpoints.yaml"
        given = {
            "BRIXFLOW_ENDPOINTS_FILE": str(self.file),
            "BRIXFLOW_GATEWAY_HOST": host,
            "BRIXFLOW_GATEWAY_PROCESSES": "1",
            "BRIXFLOW_SEGMENT_PATH": str(home / "shm" / "segment"),
            "BRIXFLOW_EXT_PROC_ADDRESS": f"127.0.0.1:{free_port()}",
            "BRIXFLOW_GATEWAY_HTTP_ADDRESS": f"127.0.0.1:{free_port()}",
            "AIBRIX_SHUTDOWN_DRAIN_SECONDS": "1",
        }
        self.settings = GatewaySettings.from_environment(given)
        self.environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"} | OURS | given
        self.home, self.port, self.parts = home, free_port(), list[Part]()

    def say(self, *engines: Engine, model: str = "m") -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"models: [{{name: {model}, endpoints: {[each.address for each in engines]}}}]")
        fresh.replace(self.file)

    def start(self) -> None:
        values = EnvoyValues(
            host=self.settings.host, segment=self.settings.segment_path, ext_proc=self.settings.sockets,
            listen_port=self.port, admin_port=free_port(), http=self.settings.http_address,
            access_log=Path("/dev/null"), listen_address="127.0.0.1",
        )  # fmt: skip
        config = self.home / "envoy.yaml"
        config.write_text(render(values))
        command = [str(ENVOY), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
        gateway = [sys.executable, "-m", "gateway.process"]
        self.parts.append(Part.start("gateway", self.home, gateway, self.environment))
        self.parts.append(Part.start("envoy", self.home, command, os.environ | environment_for(values)))

    def stop(self) -> None:
        for part in reversed(self.parts):
            part.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def standalone(host: Host) -> AsyncIterator[Standalone]:
    with tempfile.TemporaryDirectory(prefix="brixst-") as home:
        alone = Standalone(host, Path(home))
        yield alone
        alone.stop()


@pytest.mark.asyncio(loop_scope="session")
async def test_case_38_a_gateway_without_kubernetes_spreads_over_its_file(
    standalone: Standalone, start_engine: Callable[[], Awaitable[Engine]]
) -> None:
    first, second, third = [await start_engine() for _ in range(3)]
    standalone.say(first, second)
    standalone.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{standalone.port}") as client:

        async def served() -> set[str]:
            found = set()
            for _ in range(20):
                try:
                    async with client.post(CHAT, json=chat("m")) as answer:
                        found.add(answer.headers.get("target-pod-ip", str(answer.status)))
                except aiohttp.ClientError:
                    found.add("none")
            return found

        async def is_served_by(*engines: Engine) -> bool:
            return await served() == {each.address for each in engines}

        await eventually(lambda: is_served_by(first, second))
        async with client.post(CHAT, json=chat("m")) as answer:
            assert answer.headers["routing-strategy"] == "random"
        first.stop()
        await eventually(lambda: is_served_by(second))
        standalone.say(second, third)
        await eventually(lambda: is_served_by(second, third))
        standalone.file.write_text("models: [")
        await asyncio.sleep(1.5)  # longer than the file stays unread
        assert await is_served_by(second, third)
