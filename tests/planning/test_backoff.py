"""What a workflow remembers, and how long what failed waits."""

from __future__ import annotations

from datetime import timedelta

import pytest

from planning.backoff import after, held_back, step_key, wait_after
from planning.wire import (
    CreatePods,
    CreateRevision,
    CreateRoleSets,
    Decision,
    DeletePods,
    Done,
    Failed,
    Memory,
    ObjectVersion,
    Stale,
    View,
)
from tests.planning.world import START

PODS = CreatePods(role="worker", template_hash="h", count=1)
DECISION = Decision(reason="create", steps=[PODS], generation=3, view=View(phase="Creating"))
QUOTA = Failed(step="create-pods/worker", cause="quota", message="exceeded")


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (500, 300)])
def test_waits_double_from_a_second_to_five_minutes(failures, seconds):
    assert wait_after(failures) == timedelta(seconds=seconds)


def test_failures_are_counted_until_the_step_succeeds():
    once = after(Memory(), DECISION, [QUOTA], START)
    twice = after(once, DECISION, [QUOTA], START)
    assert [(failure.count, failure.retry_at - START) for failure in twice.failures] == [(2, timedelta(seconds=2))]
    assert after(twice, DECISION, [Done(step="create-pods/worker")], START).failures == []
    assert len(after(twice, DECISION, [Done(step="create-pods/other")], START).failures) == 1


def test_what_the_world_moved_on_from_is_no_failure():
    stale = Stale(step="create-pods/worker", reason="the generation changed")
    conflict = Failed(step="create-pods/worker", cause="conflict", message="modified")
    assert after(Memory(), DECISION, [stale], START).failures == []
    assert after(Memory(), DECISION, [conflict], START).failures == []


def test_a_failed_step_is_held_back_until_its_time_or_an_edit():
    memory = after(Memory(), DECISION, [QUOTA], START)
    other = CreatePods(role="other", template_hash="h", count=1)
    assert held_back([PODS, other], memory, 3, START) == [other]
    assert held_back([PODS, other], memory, 4, START) == [PODS, other]
    assert held_back([PODS, other], memory, 3, START + timedelta(seconds=1)) == [PODS, other]


def test_an_edit_starts_the_count_anew():
    memory = after(after(Memory(), DECISION, [QUOTA], START), DECISION, [QUOTA], START)
    edited = DECISION.model_copy(update={"generation": 4})
    assert [failure.count for failure in after(memory, edited, [QUOTA], START).failures] == [1]


def test_memory_stays_small_over_a_long_life():
    memory = Memory()
    for number in range(500):
        outcome = Failed(step=f"create-revision/{number}", cause="name-conflict", message="m" * 5000)
        memory = after(memory, Decision(reason="r" * 5000), [outcome], START)
    assert memory.number == 500
    assert len(memory.model_dump_json()) < 32_000


def test_the_next_pass_waits_for_everything_that_was_written():
    written = [ObjectVersion(kind="pod", name="p", uid="u", resource_version="7")]
    memory = after(Memory(), DECISION, [Done(step="create-pods/worker", written=written)], START)
    assert memory.written == written
    assert memory.shown == DECISION.view
    assert memory.recent[-1].reason == "create"
    assert after(memory, DECISION, [QUOTA], START).recent[-1].result == "create-pods/worker failed: exceeded"


@pytest.mark.parametrize(
    ("step", "key"),
    [
        (PODS, "create-pods/worker"),
        (DeletePods(role="a", targets=[]), "delete-pods/a"),
        (CreateRevision(name="s-1", revision=1, hash="h", digest="d"), "create-revision/s-1"),
        (CreateRoleSets(revision="r", indexes=[0]), "create-rolesets"),
    ],
)
def test_steps_are_remembered_by_what_they_were_about(step, key):
    assert step_key(step) == key
