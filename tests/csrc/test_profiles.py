"""Which strategy and which profile a request gets: lock, header, profile, default, and `auto`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import SegmentReader, SegmentWriter, Settings
from csrc.records import HINTS, ModelProfiles, Profile
from gateway.profiles import parse
from tests.csrc.messages import Answer, Request, chat, pod

Start = Callable[..., Request]
MODEL = "llama2-7b"


def publish(writer: SegmentWriter, configuration: Mapping[str, Any] | None, default: str = "least-request") -> None:
    parsed = parse(json.dumps(configuration))
    profiles = {MODEL: parsed} if parsed else {}
    writer.publish({MODEL: [pod(1)], "other": [pod(2)]}, Settings(default_strategy=default), profiles)


def ask(start: Start, members: Mapping[str, Any] | None = None, **headers: str) -> tuple[Answer, dict[str, str]]:
    """The reply to the body, and what the answer's headers say."""
    request = start()
    request.headers(**headers)
    body = request.body(chat(MODEL, **(members or {})))
    return body, {} if body.status else request.answer_headers().set


def strategy(start: Start, **headers: str) -> str | None:
    return ask(start, **headers)[0].set.get("routing-strategy")


TWO = {
    "profiles": {
        "default": {"routingStrategy": "random"},
        "fast": {"routingStrategy": " throughput ", "requestsPerSecond": 7},
        "none": {},
    }
}


def test_case_62_header_over_profile_over_default(writer: SegmentWriter, start: Start) -> None:
    publish(writer, TWO)
    assert strategy(start, config_profile="fast", routing_strategy="power-of-two") == "power-of-two"
    assert strategy(start, config_profile="fast") == "throughput"
    assert strategy(start, config_profile="none") == "least-request"
    assert strategy(start) == "random"
    publish(writer, None)
    assert strategy(start, config_profile="fast") == "least-request"


def test_case_63_an_unknown_profile_is_the_default_one(writer: SegmentWriter, start: Start) -> None:
    publish(writer, TWO)
    assert strategy(start, config_profile="Fast") == "random"
    publish(writer, TWO | {"defaultProfile": "fast"})
    assert strategy(start, config_profile="nobody") == "throughput"
    publish(writer, TWO | {"defaultProfile": "gone"})
    assert strategy(start, config_profile="nobody") == "least-request"


def test_cases_59_and_60_a_lock_beats_everything(writer: SegmentWriter, start: Start) -> None:
    publish(writer, TWO | {"lockedRoutingStrategy": " power-of-two "})
    for headers in ({"routing_strategy": "random"}, {"config_profile": "fast"}, {"config_profile": "nobody"}, {}):
        assert strategy(start, **headers) == "power-of-two"
    publish(writer, TWO | {"lockedRoutingStrategy": "power-of-two", "defaultProfile": "gone"})
    assert strategy(start, config_profile="nobody", routing_strategy="random") == "power-of-two"


def test_case_61_a_lock_that_is_no_strategy_is_refused(writer: SegmentWriter, start: Start) -> None:
    publish(writer, TWO | {"lockedRoutingStrategy": "fastest"})
    answer, _ = ask(start, routing_strategy="random")
    assert (answer.status, answer.set["x-error-routing"]) == (400, "true")
    assert answer.error["message"] == "incorrect routing strategy fastest"


def test_without_any_strategy_the_model_alone_routes(writer: SegmentWriter, start: Start) -> None:
    publish(writer, {"profiles": {"none": {}}}, default="")
    answer, told = ask(start, config_profile="none")
    assert answer.set["model"] == MODEL
    assert "routing-strategy" not in answer.set
    assert "target-pod" not in told


AUTO = {
    "profiles": {
        "long": {"routingStrategy": "throughput", "routingConfig": {"maxTokensGte": 1000}},
        "middle": {"routingStrategy": "random", "routingConfig": {"maxTokensGte": 100, "maxTokensLt": 1000}},
        "broken": {"routingStrategy": "random", "routingConfig": {"maxTokensGte": "1"}},
        "default": {"routingStrategy": "power-of-two"},
    }
}


@pytest.mark.parametrize(
    ("members", "named", "expected"),
    [
        ({"max_tokens": 1000}, "long", "throughput"),
        ({"max_tokens": 999}, "middle", "random"),
        ({"max_completion_tokens": 100}, "middle", "random"),
        ({"max_tokens": 5, "max_completion_tokens": 5000}, "default", "power-of-two"),
        ({"max_tokens": 1000.0}, "default", "power-of-two"),
        ({"max_tokens": "1000"}, "default", "power-of-two"),
        ({"max_tokens": -1000}, "default", "power-of-two"),
        ({"max_tokens": 10**30}, "long", "throughput"),
        ({}, "default", "power-of-two"),
    ],
)
def test_cases_64_and_65_auto_takes_the_profile_whose_hints_hold(
    writer: SegmentWriter, start: Start, members: dict[str, Any], named: str, expected: str
) -> None:
    publish(writer, AUTO)
    answer, told = ask(start, members, config_profile=" AUTO ")
    assert answer.set["routing-strategy"] == expected
    assert told["x-aibrix-config-profile"] == named
    assert "x-aibrix-config-profile" not in ask(start, members, config_profile="long")[1]


def test_case_66_auto_still_resolves_beside_a_strategy(writer: SegmentWriter, start: Start) -> None:
    publish(writer, AUTO)
    answer, told = ask(start, {"max_tokens": 2000}, config_profile="auto", routing_strategy="least-request")
    assert answer.set["routing-strategy"] == "least-request"
    assert told["x-aibrix-config-profile"] == "long"


BOUNDS = st.integers(0, 6)
hint_sets = st.dictionaries(st.sampled_from(HINTS[2:]), BOUNDS, max_size=2)
tables = st.dictionaries(st.sampled_from("abcdef"), hint_sets, min_size=1, max_size=6)


def best(table: Mapping[str, Mapping[str, int]], feature: int | None) -> str | None:
    """What the rules say, in words of their own."""

    def fits(hints: Mapping[str, int]) -> bool:
        low, high = hints.get(HINTS[2], 0), hints.get(HINTS[3], 10**9)
        return bool(hints) and feature is not None and low <= feature < high

    names = [name for name, hints in table.items() if fits(hints)]
    order = {n: (-len(table[n]), -table[n].get(HINTS[2], 0), table[n].get(HINTS[3], 10**9), n) for n in names}
    return min(names, key=lambda name: order[name], default=None)


@given(tables, st.none() | BOUNDS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_auto_prefers_as_the_rules_say(
    writer: SegmentWriter, reader: SegmentReader, table: dict[str, dict[str, int]], feature: int | None
) -> None:
    profiles = tuple(Profile(name, "random", hints=table[name]) for name in sorted(table))
    writer.publish({MODEL: [pod(1)]}, Settings("random"), {MODEL: ModelProfiles(profiles=profiles)})
    request = Request(reader)
    request.headers(config_profile="auto")
    request.body(chat(MODEL, **({} if feature is None else {"max_tokens": feature})))
    told = request.answer_headers().set
    request.close()
    assert told.get("x-aibrix-config-profile") == best(table, feature)


@pytest.mark.parametrize(
    "annotation",
    ["", "{", "[]", "{}", '{"profiles":{}}', '{"profiles":[]}', '{"profiles":{"a":{"routingStrategy":7}}}',
     '{"profiles":{"a":{"requestsPerSecond":"7"}}}', '{"profiles":{"a":7}}',
     '{"profiles":{"a":{}},"defaultProfile":1}'],
)  # fmt: skip
def test_an_annotation_that_is_none_is_as_if_it_were_not_there(annotation: str) -> None:
    assert parse(annotation) is None


def test_an_annotation_is_read_whole() -> None:
    found = parse(json.dumps(TWO | AUTO | {"lockedRoutingStrategy": "", "defaultProfile": "middle"}))
    assert found is not None
    assert [(each.name, each.is_default) for each in found.profiles] == [
        ("broken", False), ("default", False), ("long", False), ("middle", True),
    ]  # fmt: skip
    assert found.profiles[3].hints == {"max_tokens_at_least": 100, "max_tokens_below": 1000}
    assert found.profiles[0].hints == {}
    assert parse('{"profiles":{"a":{"requestsPerSecond":-3}}}') == ModelProfiles(profiles=(Profile("a"),))
