"""Conditions side by side (roleset case 67)."""

from __future__ import annotations

from datetime import timedelta

from planning.conditions import Condition, merged
from tests.planning.world import START

LATER = START + timedelta(hours=1)


def test_67_a_condition_that_says_the_same_stays_as_it_is_and_is_one():
    ready = Condition("Ready", "True", "RoleSetReady")
    first = merged([], [ready], ["Ready"], START)
    assert merged(first, [ready], ["Ready"], LATER) == first
    assert len(first) == 1


def test_67_a_condition_that_is_no_longer_wanted_goes_and_those_of_others_stay():
    theirs = {"type": "Theirs", "status": "True", "reason": "x"}
    first = merged([theirs], [Condition("Ready", "True", "RoleSetReady")], ["Ready"], START)
    assert merged(first, [], ["Ready"], LATER) == [theirs]


def test_another_reason_or_message_keeps_the_time_of_the_last_transition():
    first = merged([], [Condition("Ready", "False", "A", "one")], ["Ready"], START)
    (found,) = merged(first, [Condition("Ready", "False", "A", "two")], ["Ready"], LATER)
    assert (found["message"], found["lastTransitionTime"]) == ("two", first[0]["lastTransitionTime"])
    (turned,) = merged(first, [Condition("Ready", "True", "B")], ["Ready"], LATER)
    assert turned["lastTransitionTime"] != first[0]["lastTransitionTime"]
