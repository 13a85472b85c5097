"""Endpoints from a file, without Kubernetes: what the file may say, and a whole gateway that runs on one."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway import static
from gateway.settings import Host
from gateway.topology import models_of, targets_of
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import chat
from tests.gateway.standalone import Standalone, without_kubernetes

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


@pytest.fixture
def standalone(host: Host) -> Iterator[Standalone]:
    with without_kubernetes(host) as alone:
        yield alone


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
