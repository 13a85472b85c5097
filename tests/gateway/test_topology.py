"""Which pods serve which model. Numbers in comments are acceptance cases of the spec's gateway-cache document."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.topology import Endpoint, endpoint_of, models_of, targets_of

NAME, PORT = "model.aibrix.ai/name", "model.aibrix.ai/port"
GROUP_INDEX = "stormservice.orchestration.aibrix.ai/pod-group-index"
READY = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]


def pod(
    labels: dict[str, str] | None = None,
    *,
    annotations: dict[str, str] | None = None,
    ip: str = "10.0.0.1",
    conditions: list[dict[str, str]] | None = None,
    deleted: bool = False,
    name: str = "a",
    env: dict[str, str] | None = None,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"uid": f"uid-{name}", "namespace": "default", "name": name}
    metadata |= {"labels": labels or {}, "annotations": annotations or {}}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "engine", "env": variables}]},
        "status": {"podIP": ip, "conditions": READY if conditions is None else conditions},
    }


def taken(subject: dict[str, Any]) -> Endpoint:
    endpoint = endpoint_of(subject)
    assert endpoint is not None
    return endpoint


def test_a_pod_that_names_no_model_is_left_out() -> None:  # 1
    assert endpoint_of(pod({"app": "x"})) is None


def test_a_ray_worker_is_left_out() -> None:  # 2
    assert endpoint_of(pod({NAME: "m", "ray.io/node-type": "worker"})) is None


@pytest.mark.parametrize(("index", "counts"), [("0", True), ("abc", True), ("1", False), ("7", False)])
def test_only_the_first_pod_of_a_group_answers_for_it(index: str, counts: bool) -> None:  # 3, 4
    assert (endpoint_of(pod({NAME: "m", GROUP_INDEX: index})) is not None) == counts


def test_a_model_may_be_named_by_annotation_and_the_label_wins() -> None:  # 5, 6
    assert taken(pod(annotations={NAME: "org/model"})).model == "org/model"
    assert taken(pod({NAME: "from-label"}, annotations={NAME: "org/model"})).model == "from-label"


@pytest.mark.parametrize("name", ["", "m" * 256, "\ud800", "ü" * 128])
def test_an_annotation_that_is_no_name_names_no_model(name: str) -> None:
    assert endpoint_of(pod(annotations={NAME: name})) is None


@pytest.mark.parametrize(
    ("subject", "ready"),
    [
        (pod({NAME: "m"}), True),
        (pod({NAME: "m"}, ip=""), False),
        (pod({NAME: "m"}, deleted=True), False),
        (pod({NAME: "m"}, conditions=[]), False),
        (pod({NAME: "m"}, conditions=[{"type": "Ready", "status": "False"}]), False),
    ],
)
def test_a_pod_may_be_chosen_with_an_address_and_ready_and_not_on_its_way_out(  # 13, 23
    subject: dict[str, Any], ready: bool
) -> None:
    assert taken(subject).ready == ready


@pytest.mark.parametrize(
    ("label", "size", "ports"),
    [
        (None, None, (8000,)),
        ("9000", None, (9000,)),
        ("abc", None, (8000,)),
        ("70000", None, (8000,)),
        ("8000", "4", (8000, 8001, 8002, 8003)),
        ("8000", "1", (8000,)),
        ("8000", "-1", (8000,)),
        ("8000", "x", (8000,)),
        (None, "4", (8000,)),
    ],
)
def test_ports_come_from_the_label_and_the_data_parallel_size(  # 24, 25
    label: str | None, size: str | None, ports: tuple[int, ...]
) -> None:
    labels = {NAME: "m"} | ({PORT: label} if label else {})
    env = {"data-parallel-size": size} if size else {}
    assert taken(pod(labels, env=env)).ports == ports


def test_the_kernel_gets_one_address_for_each_port_with_an_identity_of_its_own() -> None:
    endpoint = taken(pod({NAME: "m", PORT: "8000"}, env={"data-parallel-size": "2"}))
    listed = models_of([endpoint])["m"]
    assert [(each.key, each.address) for each in listed] == [
        ("uid-a/8000", "10.0.0.1:8000"),
        ("uid-a/8001", "10.0.0.1:8001"),
    ]


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert models_of([taken(pod({NAME: "m"}, ip="fd00::7"))])["m"][0].address == "[fd00::7]:8000"


def test_models_are_listed_in_an_order_that_does_not_depend_on_arrival() -> None:
    endpoints = [taken(pod({NAME: "m"}, name=name)) for name in ("c", "a", "b")]
    assert [each.name for each in models_of(endpoints)["m"]] == ["a", "b", "c"]
    assert models_of(endpoints) == models_of(reversed(endpoints))


def test_the_role_comes_from_the_label_before_the_environment() -> None:  # gateway-ops 31
    subject = pod({NAME: "m", "role-name": "prefill"}, env={"ROLE_NAME": "decode", "ROLESET_NAME": "rs-1"})
    assert (taken(subject).role, taken(subject).roleset) == ("prefill", "rs-1")


@pytest.mark.parametrize(
    ("labels", "env", "expected"),
    [
        ({PORT: "9000"}, {}, [(1, 9000, "/metrics")]),
        ({}, {}, [(1, 8000, "/metrics")]),
        ({PORT: "9000", "model.aibrix.ai/metric-port": "9400"}, {}, [(1, 9400, "/metrics")]),  # 38
        ({PORT: "9000", "model.aibrix.ai/metric-port": "none"}, {}, [(1, 8000, "/metrics")]),
        ({PORT: "9000"}, {"data-parallel-size": "2"}, [(1, 9000, "/metrics"), (1, 9001, "/metrics")]),
        ({PORT: "9000", "model.aibrix.ai/metric-port": "9400"}, {"data-parallel-size": "2"}, [(2, 9400, "/metrics")]),
        ({PORT: "9000", "model.aibrix.ai/engine": "trtllm"}, {}, [(1, 9000, "/prometheus/metrics")]),  # 37
    ],
)
def test_where_a_pod_is_asked_for_its_metrics(
    labels: dict[str, str], env: dict[str, str], expected: list[tuple[int, int, str]]
) -> None:
    endpoint = taken(pod({NAME: "m", **labels}, env=env))
    targets = list(targets_of([endpoint]))
    assert [(len(each.keys), each.port, each.path) for each in targets] == expected
    assert {each.host for each in targets} == {"10.0.0.1"}
    kernel = {each.key for each in models_of([endpoint])["m"]}
    assert {key for each in targets for key in each.keys} == kernel


def test_a_pod_that_may_not_be_chosen_is_not_asked() -> None:
    assert list(targets_of([taken(pod({NAME: "m"}, conditions=[]))])) == []
