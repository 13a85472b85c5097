"""Small rules: how a step reads, what fits into a summary, when two statuses say the same."""

from __future__ import annotations

import pytest

from activities.blocked import BlockedNews
from activities.status import LONGEST_PAUSE_SECONDS, Pace, same_status
from activities.wording import SUMMARY_BYTES, cut_bytes, decision_line, step_line
from planning.wire import CreatePods, CreateRoleSets, Decision, DeletePods, StartRollout, Target, UnknownStep


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (CreateRoleSets(revision="r-7f3c", indexes=[0, 1], note="surge 1"), "create 2 RoleSets at r-7f3c (surge 1)"),
        (CreatePods(role="decode", template_hash="h", count=1), "create 1 pod of decode"),
        (CreatePods(role="decode", template_hash="h", slots=[0, 2]), "create 2 pods of decode"),
        (DeletePods(role="decode", targets=[Target(name="a", uid="u")]), "delete 1 pod of decode"),
        (StartRollout(revision="llama-7f3c"), "start rollout of llama-7f3c"),
        (UnknownStep(type="teleport"), "unknown step teleport"),
    ],
)  # fmt: skip
def test_a_step_reads_as_a_line(step: object, line: str) -> None:
    assert step_line(step) == line


def test_a_summary_is_cut_in_bytes_and_never_inside_a_character() -> None:
    cut = cut_bytes("ü" * 300)
    assert len(cut.encode()) <= SUMMARY_BYTES
    assert cut.endswith("ü…")
    assert cut_bytes("ü" * 200) == "ü" * 200


def test_a_decision_of_many_steps_still_fits_its_summary() -> None:
    steps = [CreateRoleSets(revision="llama-7f3c", indexes=[0], note="long" * 20) for _ in range(50)]
    assert len(decision_line(Decision(reason="", steps=steps)).encode()) <= SUMMARY_BYTES
    assert decision_line(Decision(reason="Ready at 7f3c")) == "Ready at 7f3c"


def test_condition_times_alone_are_no_difference() -> None:
    old = {"replicas": 1, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "a"}]}
    new = {"replicas": 1, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "b"}], "empty": []}
    assert same_status(old, new)
    assert not same_status(old, new | {"replicas": 2})
    assert not same_status(old, new | {"replicas": 0})
    assert not same_status({"replicas": 0}, {})


def test_what_blocks_is_told_once_it_lasts_and_again_only_when_it_is_another_trouble() -> None:
    news = BlockedNews()
    crash, longer, image = (
        f"pod p: container e waits: {why}" for why in ("CrashLoopBackOff: 10s", "CrashLoopBackOff: 20s", "ErrImagePull")
    )
    assert news.look("uid", crash, 0.0) == (False, 5.0)
    assert news.look("uid", crash, 5.0)[0]
    assert not news.look("uid", crash, 50.0)[0]
    assert news.look("uid", longer, 12.0) == (False, 53.0)  # the same trouble: a minute after it was told
    assert news.look("uid", image, 13.0) == (False, 5.0)  # another one
    assert news.look("uid", image, 18.0)[0]
    assert news.look("uid", "", 19.0) == (False, float("inf"))
    assert news.look("uid", image, 20.0) == (False, 5.0)


def test_a_status_is_written_at_once_after_a_quiet_moment_and_paced_in_a_burst() -> None:
    pace = Pace()
    assert pace.seconds_left("a", 100.0) <= 0
    pace.wrote("a", 100.0)
    assert 0 < pace.seconds_left("a", 100.0) < 0.3
    assert pace.seconds_left("b", 100.0) <= 0
    assert pace.seconds_left("a", 101.0) <= 0
    for number in range(60):
        pace.wrote(f"other-{number}", 101.0)
    pace.wrote("a", 101.0)
    assert pace.seconds_left("a", 101.0) == LONGEST_PAUSE_SECONDS
