"""Adapters are models of the pods that they are loaded into (gateway-cache 3)."""

from __future__ import annotations

import json
from collections.abc import Iterable

import aiohttp
import pytest

from gateway.topology import Adapter, Endpoint, endpoint_of, models_of, targets_of, with_adapters
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig, chat

CHAT = "/v1/chat/completions"


def endpoint(name: str, model: str = "base") -> Endpoint:
    metadata = {"uid": f"uid-{name}", "namespace": "ns", "name": name, "labels": {"model.aibrix.ai/name": model}}
    ready = {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    found = endpoint_of({"metadata": metadata, "status": ready})
    assert found
    return found


def pods(endpoints: Iterable[Endpoint]) -> dict[str, list[str]]:
    return {model: [pod.name for pod in members] for model, members in models_of(endpoints).items()}


def test_cases_7_and_8_an_adapter_is_a_model_of_the_pods_that_are_known() -> None:
    known = [endpoint("p1"), endpoint("p2")]
    adapters = [Adapter("ns", "lora", ("p1", "absent")), Adapter("ns", "nowhere", ("absent",))]
    assert pods(with_adapters(known, adapters)) == {"base": ["p1", "p2"], "lora": ["p1"]}
    assert pods(with_adapters(known, [Adapter("elsewhere", "lora", ("p1",))])) == {"base": ["p1", "p2"]}


def test_an_adapter_of_its_base_models_name_lists_no_pod_twice() -> None:
    assert pods(with_adapters([endpoint("p1")], [Adapter("ns", "base", ("p1", "p1"))])) == {"base": ["p1"]}


def test_a_pod_is_asked_once_for_its_metrics_whatever_is_loaded() -> None:
    known = [endpoint("p1")]
    served = with_adapters(known, [Adapter("ns", "lora", ("p1",))])
    assert {pod.key for members in models_of(served).values() for pod in members} == {"uid-p1"}
    assert len(list(targets_of(known))) == 1


def adapter(rig: Rig, name: str, *instances: str) -> None:
    spec = {"podSelector": {"matchLabels": {"a": "b"}}, "artifactURL": "huggingface://x/y"}
    made = {"apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": name}, "spec": spec}
    rig.kubectl("apply", "-f", "-", given=json.dumps(made))
    place(rig, name, *instances)


def place(rig: Rig, name: str, *instances: str) -> None:
    status = json.dumps({"status": {"instances": instances}})
    rig.kubectl("patch", "modeladapter", name, "--subresource=status", "--type=merge", "-p", status)


@pytest.mark.asyncio(loop_scope="session")
async def test_cases_9_to_14_an_adapter_follows_its_instances(
    rig: Rig, client: aiohttp.ClientSession, engines: list[Engine], model: str
) -> None:
    lora = f"{model}-lora"
    adapter(rig, lora, f"{model}-1")
    first, second = (rig.pod(model, engine.host, name=f"{model}-{n}") for n, engine in enumerate(engines[:2], 1))
    await rig.routable(model, 2)
    await rig.routable(lora, 1)
    async with client.post(CHAT, json=chat(lora)) as answer:
        assert (answer.status, answer.headers["target-pod"]) == (200, first)
    async with client.get(f"/v1/models/{lora}") as answer:
        assert answer.status == 200
    rig.kubectl("label", "pod", first, "harmless=change")
    rig.set_ready(first, False)
    await rig.routable(lora, 0)
    rig.set_ready(first, True)
    await rig.routable(lora, 1)
    place(rig, lora, second)

    async def is_on_the_second() -> bool:
        async with client.post(CHAT, json=chat(lora)) as answer:
            return answer.headers.get("target-pod") == second

    await eventually(is_on_the_second)
    rig.kubectl("delete", "modeladapter", lora)

    async def is_unknown() -> bool:
        async with client.post(CHAT, json=chat(lora)) as answer:
            return answer.status == 400

    await eventually(is_unknown)
    async with client.post(CHAT, json=chat(model)) as answer:
        assert answer.status == 200
