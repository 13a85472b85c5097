"""What labels and annotations mean (CRD cases C22 to C36, C39, C40)."""

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

NAME = "model.aibrix.ai/name"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("annotations", "port"), [({"p": "18515"}, 18515), ({"p": "99999"}, 18512), ({}, 18512), ({"p": "0"}, 18512)]
)
def test_c22_a_port_that_is_none_is_the_default(annotations, port):
    assert port_annotation(annotations, "p", 18512) == port


@pytest.mark.parametrize("value", ["notanint", "0", "-42", "", "1.5", "٣"])
def test_c23_a_count_is_a_number_above_0(value):
    assert positive_annotation({"n": value}, "n", 4096) == 4096
    assert positive_annotation({"n": "8"}, "n", 4096) == 8


def test_c24_an_empty_text_is_the_default():
    assert text_annotation({"t": ""}, "t", "Ethernet") == "Ethernet"


@pytest.mark.parametrize(
    ("labels", "annotations", "name"),
    [
        ({NAME: "label-model"}, {NAME: "annotation-model"}, "label-model"),
        ({}, {NAME: "/models/mock"}, "/models/mock"),
        ({NAME: ""}, {NAME: "a"}, "a"),
        ({}, {}, ""),
    ],
)
def test_c25_to_c27_a_label_wins_over_an_annotation(labels, annotations, name):
    assert model_name(labels, annotations) == name


@pytest.mark.parametrize(("value", "port"), [("9000", 9000), ("x", 8000), ("70000", 8000), (None, 8000)])
def test_a_port_label_that_is_none_means_8000(value, port):
    assert model_port({"model.aibrix.ai/port": value} if value else {}) == port


def test_c28_a_plain_name_is_the_routes_name():
    assert route_name("llama2-7b") == "llama2-7b-router"


@pytest.mark.parametrize("model", ["/models/mock", "///", "model/" * 100, "Llama", "a_b", "é", "x" * 250])
def test_c29_any_name_becomes_a_subdomain(model):
    name = route_name(model)
    assert name == route_name(model)
    assert len(name) <= 253
    assert SUBDOMAIN.fullmatch(name)
    assert re.search(r"-[0-9a-f]{12}-router$", name)


def test_c29_two_models_never_share_a_route():
    assert route_name("a/b") != route_name("a_b")
    assert route_name("///").startswith("model-")


def test_c30_the_grant_is_named_by_its_namespace():
    assert reference_grant_name("default") == "aibrix-system-reserved-referencegrant-in-default"


def test_c31_custom_paths_lose_blanks_and_doubles():
    listed = {"model.aibrix.ai/model-router-custom-paths": "/foo, /bar, ,/baz/,/foo"}
    assert custom_paths(listed) == ["/foo", "/bar", "/baz/"]
    assert custom_paths({}) == []


def test_c32_annotations_bind_models_to_ports():
    annotations = {
        "modelclaim.aibrix.ai/qwen": '{"model": "qwen-0.5b", "port": 9001}',
        "modelclaim.aibrix.ai/llama": '{"model": "llama-1b", "port": 9002, "state": "active"}',
        "unrelated": "{}",
    }
    assert bindings(annotations) == [
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
def test_c33_c34_a_binding_without_port_is_known(entry, state):
    found = bindings({"modelclaim.aibrix.ai/c": json.dumps(entry)})
    assert [(each.port, each.state) for each in found] == [(0, state)]


@pytest.mark.parametrize(
    "text",
    ['{"model": "m", "port": 9001, "state": "sleeping"}', '{"model": "m", "port": 0, "state": "active"}', "nonsense",
     '{"model": "", "port": 1}', '{"model": "m", "port": 70000}', '{"model": "m", "port": 1, "state": "x"}', "[]"],
)  # fmt: skip
def test_c35_a_binding_that_cannot_be_is_left_out(text):
    assert bindings({"modelclaim.aibrix.ai/c": text}) == []


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
def test_c36_a_pools_policy_is_read_or_its_fault_named(text, expected):
    assert pool_policy({"pool.aibrix.ai/policy": text}) == expected
    assert pool_policy({}) is None


@pytest.mark.parametrize(("value", "sends"), [("true", True), ("True", False), ("1", False), (None, False)])
def test_c39_only_the_exact_word_subscribes(value, sends):
    assert sends_kv_events({"model.aibrix.ai/kv-events-enabled": value} if value else {}) is sends


@pytest.mark.parametrize(("value", "connector"), [("NIXL", "nixl"), ("shfs", "shfs"), ("other", "mooncake")])
def test_c40_a_connector_in_any_case(value, connector):
    assert kv_connector({"model.aibrix.ai/kv-connector-type": value}, "mooncake") == connector
