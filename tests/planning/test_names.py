"""Names, hashes and digests (orchestration 4.3, case 53)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning import names
from tests.planning.world import role

LONG = "abcdefghijklmnopqrstuvwxyz-1234567890-1234567890-1234567890-1234567890"


@pytest.mark.parametrize(
    ("keep_prefix", "generate", "expected"),
    [
        (False, False, "aijklmnopqrstuvwxyz-1234567890-1234567890-1234567890-1234567890"),
        (False, True, "anopqrstuvwxyz-1234567890-1234567890-1234567890-1234567890"),
        (True, False, LONG[:63]),
        (True, True, LONG[:58]),
    ],
)
def test_long_names_are_cut_as_specified(keep_prefix, generate, expected):
    assert names.shorten(LONG, keep_prefix=keep_prefix, generate=generate) == expected


def test_a_name_of_exactly_the_limit_is_cut_and_a_shorter_one_kept():
    assert names.shorten("a" * 62, keep_prefix=False, generate=False) == "a" * 62
    assert len(names.shorten("b" + "a" * 62, keep_prefix=False, generate=False)) == 63


@given(st.text(min_size=1, max_size=40), st.integers(0, 20))
def test_hashes_are_six_safe_characters_and_each_collision_count_gives_another(text, collisions):
    first, second = names.short_hash(text, collisions), names.short_hash(text, collisions + 1)
    assert re.fullmatch("[a-z0-9]{6}", first)
    assert first != second


def test_a_changed_label_changes_the_role_hash():
    before, after = role(), role()
    after["template"]["metadata"]["labels"]["extra"] = "1"
    assert names.role_hash(before) != names.role_hash(after)


@pytest.mark.parametrize(
    "change", [{"replicas": 7}, {"upgradeOrder": 2}, {"stateful": True}, {"updateStrategy": {"maxSurge": 1}}]
)
def test_only_the_pod_template_makes_the_role_hash(change):
    assert names.role_hash(role()) == names.role_hash(role() | change)


def test_nulls_creation_times_and_key_order_do_not_count():
    assert names.digest({"b": 1, "a": {"creationTimestamp": None, "x": None}}) == names.digest({"a": {}, "b": 1})
    assert names.digest({"a": [1, 2]}) != names.digest({"a": [2, 1]})


def template(**fields):
    return {"metadata": {"labels": {"app": "t"}}, "spec": {"roles": [role() | fields]}}


@pytest.mark.parametrize("change", [{"replicas": 9}, {"stateful": False}, {"updateStrategy": {"type": "Recreate"}}])
def test_replicas_and_written_defaults_make_no_revision(change):
    assert names.template_digest(template()) == names.template_digest(template(**change))


@pytest.mark.parametrize(
    "change", [{"stateful": True}, {"upgradeOrder": 1}, {"updateStrategy": {"maxSurge": 1}}, {"template": {}}]
)
def test_everything_else_of_a_role_makes_a_revision(change):
    assert names.template_digest(template()) != names.template_digest(template(**change))


def test_suffixes_repeat_for_the_same_create_and_differ_for_others():
    assert names.suffix("uid", "run", 3, 0) == names.suffix("uid", "run", 3, 0)
    found = {names.suffix("uid", "run", decision, index) for decision in range(20) for index in range(20)}
    assert len(found) == 400
    assert all(re.fullmatch("[a-z0-9]{5}", text) for text in found)


def test_generated_names_fit_a_label_value():
    storm, role_name = "s" * 63, "r" * 40
    roleset = names.roleset_name(storm, "abcde")
    assert len(roleset) <= 63
    assert len(names.stateless_pod_name(roleset, role_name, "abcde")) <= 63
    assert len(names.stateful_pod_name(roleset, role_name, "abcdef", 12)) <= 63
    assert names.revision_name("x" * 253, "abcdef") == "x" * 223 + "-abcdef"
