"""What labels and annotations mean (CRD cases C22 to C36, C39, C40): read from objects as the API server has them."""

from __future__ import annotations

import json
import re

import pytest

from crds.metadata import (
    custom_paths,
    kv_connector,
    model_name,
    model_port,
    port_annotation,
    positive_annotation,
    reference_grant_name,
    route_name,
    sends_kv_events,
    text_annotation,
)
from crds.pool import Binding, PolicyFault, PoolPolicy, State, bindings, pool_policy
from tests.crds.objects import NAMESPACE, deployment, kvcache, pod

NAME = "model.aibrix.ai/name"
CACHE = "hpkv.kvcache.orchestration.aibrix.ai"
RDMA_PORT, BLOCK_COUNT = f"{CACHE}/rdma-port", f"{CACHE}/block-count"
LINK_TYPE = "infinistore.kvcache.orchestration.aibrix.ai/link-type"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def annotated(api, manifest: dict) -> dict[str, str]:
    """The annotations of `manifest` as the API server would have them, with the webhooks on."""
    return metadata_of(api, manifest).get("annotations", {})


def labelled(api, manifest: dict) -> dict[str, str]:
    return metadata_of(api, manifest).get("labels", {})


def metadata_of(api, manifest: dict) -> dict:
    reply = api.ask(manifest)
    assert reply.accepted, reply.message
    return reply.body["metadata"]


@pytest.mark.parametrize(("value", "port"), [("18515", 18515), ("99999", 18512), (None, 18512), ("0", 18512)])
def test_c22_a_port_that_is_none_is_the_default(api, webhooks, value, port):
    found = annotated(api, kvcache({RDMA_PORT: value} if value else {}))
    assert port_annotation(found, RDMA_PORT, 18512) == port


@pytest.mark.parametrize(
    ("value", "count"),
    [("notanint", 4096), ("0", 4096), ("-42", 4096), ("", 4096), ("1.5", 4096), ("٣", 4096), ("8", 8)],
)
def test_c23_a_count_is_a_number_above_0(api, webhooks, value, count):
    assert positive_annotation(annotated(api, kvcache({BLOCK_COUNT: value})), BLOCK_COUNT, 4096) == count


@pytest.mark.parametrize(("value", "text"), [("", "Ethernet"), ("IB", "IB")])
def test_c24_an_empty_text_is_the_default(api, webhooks, value, text):
    assert text_annotation(annotated(api, kvcache({LINK_TYPE: value})), LINK_TYPE, "Ethernet") == text


@pytest.mark.parametrize(
    ("labels", "annotations", "name"),
    [
        ({NAME: "label-model"}, {NAME: "annotation-model"}, "label-model"),
        ({}, {NAME: "/models/mock"}, "/models/mock"),
        ({NAME: ""}, {NAME: "a"}, "a"),
        ({}, {}, ""),
    ],
)
def test_c25_to_c27_a_label_wins_over_an_annotation(api, labels, annotations, name):
    found = metadata_of(api, pod(labels=labels, annotations=annotations))
    assert model_name(found.get("labels", {}), found.get("annotations", {})) == name


@pytest.mark.parametrize(("value", "port"), [("9000", 9000), ("x", 8000), ("70000", 8000), (None, 8000)])
def test_a_port_label_that_is_none_means_8000(value, port):
    assert model_port({"model.aibrix.ai/port": value} if value else {}) == port


def is_taken_as_a_name(api, name: str) -> bool:
    """Whether the API server takes `name` for an object whose name is a DNS subdomain, as an HTTPRoute's is."""
    return api.ask(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}}
    ).accepted


def test_c28_a_plain_name_is_the_routes_name(api):
    assert route_name("llama2-7b") == "llama2-7b-router"
    assert is_taken_as_a_name(api, "llama2-7b-router")
    assert not is_taken_as_a_name(api, "Llama-router")


@pytest.mark.parametrize("model", ["/models/mock", "///", "model/" * 100, "Llama", "a_b", "é", "x" * 250])
def test_c29_any_name_becomes_a_subdomain(api, model):
    name = route_name(model)
    assert name == route_name(model)
    assert len(name) <= 253
    assert SUBDOMAIN.fullmatch(name)
    assert is_taken_as_a_name(api, name)
    assert re.search(r"-[0-9a-f]{12}-router$", name)


def test_c29_two_models_never_share_a_route():
    assert route_name("a/b") != route_name("a_b")
    assert route_name("/models/mock") == "models-mock-46c4aacefda4-router"
    assert route_name("Qwen3-8B") == "qwen3-8b-39aa66154878-router"
    assert route_name("///").startswith("model-")


def test_c30_the_grant_is_named_by_its_namespace(api):
    assert reference_grant_name("default") == "aibrix-system-reserved-referencegrant-in-default"
    assert is_taken_as_a_name(api, reference_grant_name("n" * 63))


def test_c31_custom_paths_lose_blanks_and_doubles(api, webhooks):
    listed = {"model.aibrix.ai/model-router-custom-paths": "/foo, /bar, ,/baz/,/foo"}
    assert custom_paths(annotated(api, deployment(annotations=listed))) == ["/foo", "/bar", "/baz/"]
    assert custom_paths({}) == []


def test_c32_annotations_bind_models_to_ports(api):
    annotations = {
        "modelclaim.aibrix.ai/qwen": '{"model": "qwen-0.5b", "port": 9001}',
        "modelclaim.aibrix.ai/llama": '{"model": "llama-1b", "port": 9002, "state": "active"}',
        "unrelated": "{}",
    }
    assert bindings(annotated(api, pod(annotations=annotations))) == [
        Binding("llama", "llama-1b", 9002, State.ACTIVE),
        Binding("qwen", "qwen-0.5b", 9001, State.ACTIVE),
    ]


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        ({"model": "served-m1", "port": 0}, State.ACTIVATING),
        ({"model": "m", "port": 0, "state": "sleeping"}, State.SLEEPING),
    ],
)
def test_c33_c34_a_binding_without_port_is_known(api, entry, state):
    found = bindings(annotated(api, pod(annotations={"modelclaim.aibrix.ai/c": json.dumps(entry)})))
    assert [(each.port, each.state) for each in found] == [(0, state)]


@pytest.mark.parametrize(
    "text",
    ['{"model": "m", "port": 9001, "state": "sleeping"}', '{"model": "m", "port": 0, "state": "active"}', "nonsense",
     '{"model": "", "port": 1}', '{"model": "m", "port": 70000}', '{"model": "m", "port": 1, "state": "x"}', "[]"],
)  # fmt: skip
def test_c35_a_binding_that_cannot_be_is_left_out(api, text):
    assert bindings(annotated(api, pod(annotations={"modelclaim.aibrix.ai/c": text}))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"reclaim": {"mode": "kv-first", "capacityBytes": 17179869184}}', PoolPolicy(capacity_bytes=17179869184)),
        ("{}", PoolPolicy()),
        ("{", PolicyFault.INVALID_JSON),
        ("{} {}", PolicyFault.INVALID_JSON),
        ('{"other": 1}', PolicyFault.UNKNOWN_FIELD),
        ('{"reclaim": {"other": 1}}', PolicyFault.UNKNOWN_FIELD),
        ('{"reclaim": {"mode": "x"}}', PolicyFault.UNSUPPORTED_MODE),
        ('{"reclaim": {"capacityBytes": 0}}', PolicyFault.INVALID_CAPACITY),
        ('{"reclaim": {"guaranteedFloorPercent": 101}}', PolicyFault.INVALID_FLOOR),
        ('{"lifecycle": {"sleepAfterSeconds": 0}}', PolicyFault.INVALID_SLEEP_WINDOW),
    ],
)
def test_c36_a_pools_policy_is_read_or_its_fault_named(api, webhooks, text, expected):
    found = annotated(api, deployment(annotations={"pool.aibrix.ai/policy": text}))
    assert pool_policy(found) == expected
    assert pool_policy({}) is None


@pytest.mark.parametrize(("value", "sends"), [("true", True), ("True", False), ("1", False), (None, False)])
def test_c39_only_the_exact_word_subscribes(api, value, sends):
    found = labelled(api, pod(labels={"model.aibrix.ai/kv-events-enabled": value} if value else {}))
    assert sends_kv_events(found) is sends


@pytest.mark.parametrize(("value", "connector"), [("NIXL", "nixl"), ("shfs", "shfs"), ("other", "mooncake")])
def test_c40_a_connector_in_any_case(api, value, connector):
    found = labelled(api, pod(labels={"model.aibrix.ai/kv-connector-type": value}))
    assert kv_connector(found, "mooncake") == connector
