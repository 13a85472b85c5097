"""API server, types and admission rules give one verdict on whatever can be made from the schemas.

`make test` asks about a few dozen objects of each kind, always the same; `make soak` about a thousand.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from random import Random

import pytest
from pydantic import ValidationError

from crds.admission.review import RULES
from crds.generate import DEFINITIONS
from crds.schema import structural
from tests.crds.generated import Grower
from tests.crds.test_kinds import OBJECTS

FEW, MANY = 60, 1000
KINDS = {each.model.__name__.lower(): each for each in DEFINITIONS}
BY_KIND = {rules.kind: rules for rules in RULES.values()}
ASKED = {rules.kind.lower(): path for path, rules in RULES.items()}


class Failures(logging.Handler):
    """The server's log: with the failure policy Ignore a failing rule shows nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


@pytest.fixture
def failures():
    handler = Failures()
    logging.getLogger("crds.admission.server").addHandler(handler)
    yield handler
    logging.getLogger("crds.admission.server").removeHandler(handler)


def types_accept(kind: str, obj: dict) -> bool:
    try:
        KINDS[kind].model.model_validate(obj)
    except ValidationError:
        return False
    return True


def rules_accept(obj: dict) -> bool:
    rules = BY_KIND.get(obj["kind"])
    return rules is None or not list(rules.faults(obj))


def compare(api, kind: str, count: int) -> Counter[bool]:
    """Ask about `count` objects; how many were valid and how many were not."""
    schema = structural(KINDS[kind].model)["properties"]["spec"]
    verdicts: Counter[bool] = Counter()
    for seed in range(count):
        base = OBJECTS[kind] | {"metadata": OBJECTS[kind]["metadata"] | {"name": "generated"}}
        made = base | {"spec": Grower(Random(f"{kind}/{seed}")).grow(base["spec"], schema)}
        reply = api.ask(made, validation="Ignore")
        assert reply.code in (201, 400, 403, 422), (seed, reply.message)
        expected = types_accept(kind, made) and rules_accept(made)
        assert reply.accepted == expected, (seed, reply.message, json.dumps(made["spec"])[:3000])
        verdicts[expected] += 1
    return verdicts


@pytest.mark.parametrize("kind", OBJECTS)
def test_all_three_agree_on_a_few(api, webhooks, failures, kind):
    verdicts = compare(api, kind, FEW)
    assert min(verdicts[True], verdicts[False]) > 2, verdicts
    assert failures.seen == []
    assert webhooks.calls(outcome="failed") == webhooks.calls(outcome="malformed") == 0
    assert kind not in ASKED or webhooks.calls(webhook=f"validate-{ASKED[kind]}") >= verdicts[True]


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTS)
def test_all_three_agree_on_a_thousand(api, webhooks, failures, kind):
    verdicts = compare(api, kind, MANY)
    assert sum(verdicts.values()) == MANY
    assert failures.seen == []
    assert webhooks.calls(outcome="failed") == webhooks.calls(outcome="malformed") == 0
