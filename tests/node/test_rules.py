"""The pure rules: expansion, quantities, back-off, phase, images, addresses."""

from __future__ import annotations

import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from local.node.addresses import AddressPool
from local.node.environment import (
    ConfigError,
    NodeFacts,
    PodFacts,
    command_line,
    environment,
    expand,
    field_value,
    resource_value,
)
from local.node.images import Image, ImageTable
from local.node.objects import renewal_time
from local.node.quantity import divide_quantity, parse_quantity
from local.node.records import Backoff, ContainerRecord, Running, Terminated, Waiting
from local.node.status import qos_class, timestamp

NODE = NodeFacts("n1", "10.0.0.1", {"memory": "4Ti", "cpu": "512"})
POD = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"b": "2", "a": 'say "x"'}},
    "spec": {
        "containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}}]
    },
}
FACTS = PodFacts(POD, "10.0.0.7", NODE)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "one"),
        ("x-$(A)-$(B)", "x-one-two"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$one"),
        ("$(NO)", "$(NO)"),
        ("$(A", "$(A"),
        ("$A $", "$A $"),
        ("$$$$", "$$"),
    ],
)
def test_references_expand_as_the_api_says(text: str, expanded: str) -> None:
    assert expand(text, {"A": "one", "B": "two"}) == expanded


@given(some.text())
def test_text_without_a_dollar_stays(text: str) -> None:
    kept = text.replace("$", "")
    assert expand(kept, {"A": "one"}) == kept


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'a="say \\"x\\""\nb="2"'),
        ("spec.nodeName", "n1"),
        ("status.podIP", "10.0.0.7"),
        ("status.hostIP", "10.0.0.1"),
        ("spec.serviceAccountName", "default"),
    ],
)
def test_fields_of_the_downward_api(path: str, value: str) -> None:
    assert field_value(FACTS, path) == value


def test_a_missing_limit_is_what_the_node_has() -> None:
    container = POD["spec"]["containers"][0]
    assert resource_value(FACTS, {"resource": "limits.memory", "divisor": "1Mi"}, container) == "64"
    assert resource_value(FACTS, {"resource": "limits.cpu"}, container) == "512"
    assert resource_value(FACTS, {"resource": "requests.cpu", "divisor": "1m"}, container) == "250"


@pytest.mark.parametrize(("text", "value"), [("500m", 0.5), ("1Gi", 2**30), ("2e3", 2000), ("3", 3), ("1E", 10**18)])
def test_quantities(text: str, value: float) -> None:
    assert float(parse_quantity(text)) == value


def test_a_divided_quantity_is_rounded_up() -> None:
    assert divide_quantity("1500m", "1") == "2"


def test_later_variables_see_earlier_ones_and_sources_are_prefixed() -> None:
    container = {
        "name": "main",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "no", "optional": True}}],
        "env": [
            {"name": "A", "value": "$(P_k)!"},
            {"name": "B", "value": "$(A)$(LATER)"},
            {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": True}}},
        ],
    }
    found = {("ConfigMap", "cm"): {"k": "v"}}
    values = environment(FACTS, container, {"BASE": "1"}, lambda kind, name: found.get((kind, name)))
    assert values == {"BASE": "1", "P_k": "v", "A": "v!", "B": "v!$(LATER)"}


def test_a_missing_object_or_key_is_named() -> None:
    container = {"name": "main", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}
    with pytest.raises(ConfigError, match='configmap "cm" not found'):
        environment(FACTS, container, {}, lambda _kind, _name: None)
    with pytest.raises(ConfigError, match="couldn't find key k in ConfigMap cm"):
        environment(FACTS, container, {}, lambda _kind, _name: {})


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({}, ["serve", "now"]),
        ({"args": ["later"]}, ["serve", "now", "later"]),
        ({"command": ["sh"]}, ["sh"]),
        ({"command": ["sh"], "args": ["-c", "$(X)"]}, ["sh", "-c", "y"]),
    ],
)
def test_command_and_args(container: dict[str, list[str]], words: list[str]) -> None:
    assert command_line(container, Image("i:1", ("serve", "now")), {"X": "y"}) == words


# ---- back-off ----------------------------------------------------------------------------------


def test_the_first_restart_is_immediate_then_delays_double_to_five_minutes() -> None:
    backoff, now, delays = Backoff(), 1000.0, []
    for _ in range(8):
        start = backoff.waits_until(now)
        delays.append(start - now)
        backoff = backoff.next(10, start, now)
        now = start + 1
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


def test_ten_quiet_minutes_reset_the_back_off() -> None:
    used = Backoff(delay=160, used_at=1000)
    assert used.waits_until(1000 + 601) == 1601
    assert used.next(10, 1601, 1601).delay == 10


def test_a_record_survives_its_state_file() -> None:
    ended = Terminated(7, "Error", 1.0, 2.0, "id", "bye")
    for state in (Waiting("CrashLoopBackOff", "m"), Running(3.0), ended):
        record = ContainerRecord("main", "main", 3, state=state, last=ended, backoff=Backoff(10, 5))
        assert ContainerRecord.from_json(record.to_json()) == record


# ---- the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}}, "Burstable"),
        ({"limits": {"nvidia.com/gpu": "1"}}, "BestEffort"),
    ],
)
def test_quality_of_service(resources: dict[str, dict[str, str]], expected: str) -> None:
    assert qos_class({"containers": [{"name": "main", "resources": resources}]}) == expected


def test_tokens_are_renewed_at_four_fifths_of_their_life_and_daily() -> None:
    now = time.time() // 1 + 0.0
    assert renewal_time(timestamp(now + 1000), now) == now + 800
    assert renewal_time(timestamp(now + 10**7), now) == now + 86400


def test_freed_addresses_rest_before_they_are_used_again() -> None:
    pool = AddressPool(IPv4Network("10.9.0.0/29"))
    first, second = pool.take("a"), pool.take("b")
    assert [first, second] == ["10.9.0.2", "10.9.0.3"]
    pool.release("a")
    assert pool.take("c") == "10.9.0.4"
    assert not pool.claim(second, "d")
    assert pool.claim(second, "b")


def test_a_used_up_range_is_said() -> None:
    pool = AddressPool(IPv4Network("10.9.0.0/30"))
    pool.take("a")
    with pytest.raises(RuntimeError, match="no free address"):
        pool.take("b")


def test_the_first_matching_pattern_wins_and_the_digest_follows_the_name(tmp_path: Path) -> None:
    table = tmp_path / "images.yaml"
    table.write_text('- {pattern: "a/b:*", command: ["{venv}/x"]}\n- {pattern: "a/*", command: [y]}\n')
    images = ImageTable(table)
    one, two = images.find("a/b:1"), images.find("host.example:5000/a/b:2")
    assert one
    assert two
    assert one.command[0].endswith("/x")
    assert "{venv}" not in one.command[0]
    assert one.digest != two.digest
    assert images.find("a/c:1").command == ("y",)
    assert images.find("other:1") is None


def test_an_image_whose_program_is_missing_is_unknown(tmp_path: Path) -> None:
    table = tmp_path / "images.yaml"
    table.write_text('- {pattern: "x:*", requires: [no-such-program-here], command: [x]}\n')
    assert ImageTable(table).find("x") is None
