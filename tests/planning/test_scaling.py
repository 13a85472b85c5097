"""Scaling of RoleSets (orchestration 10.2, cases 3 to 6, 12, 14, 17; CRD case B22)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crds.intorstr import Budget
from planning.fleet import Fleet, Replica
from planning.scaling import scale, split


def replicas(text: str, first: int = 0) -> list[Replica]:
    """`O` old ready, `o` old not ready, `U` updated ready, `u` updated not ready, `x` leaving (updated)."""
    return [
        Replica(
            name=f"{letter}{place}",
            revision="new" if letter in "Uux" else "old",
            ready=letter in "OU",
            settled=letter in "OU",
            leaving=letter == "x",
            index=place,
        )
        for place, letter in enumerate(text, first)
    ]


def fleet(text: str, desired: int, surge: int = 0, unavailable: int = 1, **fields) -> Fleet:
    current = "old" if "O" in text.upper().replace("U", "") else "new"
    budget = Budget(desired, surge, unavailable)
    return Fleet(replicas(text), fields.pop("current", current), "new", budget, **fields)


@pytest.mark.parametrize(
    ("current", "updated", "desired", "expected"),
    [
        (1, 1, 4, (2, 2)), (2, 1, 9, (6, 3)), (6, 3, 3, (2, 1)), (1, 10, 10, (1, 9)), (1, 20, 25, (1, 24)),
        (1, 20, 100, (5, 95)), (10, 1, 10, (9, 1)), (2, 2, 5, (3, 2)), (5, 5, 3, (2, 1)), (0, 0, 5, (0, 5)),
        (2, 3, 0, (0, 0)), (2, 1, 3, (2, 1)),
    ],
)  # fmt: skip
def test_12_a_number_is_split_in_proportion(current, updated, desired, expected):
    assert split(desired, current, updated) == expected


def test_a_nothing_is_done_when_the_number_fits():
    assert not scale(fleet("UU", 2))


@pytest.mark.parametrize(
    ("text", "desired", "surge", "created"),
    [("", 3, 0, 3), ("U", 3, 0, 2), ("Ux", 3, 0, 1), ("Uxx", 3, 0, 0), ("Uxx", 3, 1, 1)],
)
def test_b_missing_ones_are_created_and_leaving_ones_still_take_their_place(text, desired, surge, created):
    found = scale(fleet(text, desired, surge))
    assert sum(count for _, count in found.creates) == created
    assert found.acted == (created > 0)


def test_c_a_paused_rollout_grows_in_proportion():
    found = scale(fleet("OU", 4, paused=True, shown_current=1, shown_updated=1))
    assert found.creates == [("old", 1), ("new", 1)]


def test_6_the_one_that_is_not_ready_goes_first():
    found = scale(fleet("Uu", 1))
    assert [member.name for member in found.deletes] == ["u1"]


def test_14_old_ones_that_are_not_ready_go_first_and_updated_ready_ones_last():
    seen = fleet("UOou", 4)
    assert [member.name for member in seen.deletion_order(seen.members)] == ["o2", "O1", "u3", "U0"]


def test_d_the_walk_stops_at_the_floor_of_ready_ones():
    assert [m.name for m in scale(fleet("OOOU", 3, 1, 0)).deletes] == ["O0"]
    assert not scale(fleet("OOOu", 3, 1, 0))


def test_d_a_scale_in_takes_its_rest_although_the_floor_is_reached():
    found = scale(fleet("Ouuu", 1, 1, 0))
    assert [member.name for member in found.deletes] == ["u1", "u2"]


def test_e_a_paused_scale_in_starts_with_what_is_not_ready():
    found = scale(fleet("OoUu", 3, paused=True))
    assert [member.name for member in found.deletes] == ["o1"]
    assert not found.acted


def test_f_then_ready_ones_go_in_proportion():
    found = scale(fleet("OOOOUUu", 3, paused=True))
    assert sorted(member.name for member in found.deletes) == ["O0", "O1", "U4", "u6"]
    assert found.acted


def test_the_lowest_free_indexes_are_handed_out():
    seen = Fleet(replicas("U") + replicas("x", 2), "new", "new", Budget(5, 0, 1))
    assert seen.free_indexes(3) == [1, 3, 4]


def test_in_place_fleets_scale_without_surge_or_floor():
    assert scale(fleet("UUU", 1, 2, 0, in_place=True)).deletes
    assert scale(fleet("Ux", 3, 2, 0, in_place=True)).creates == [("new", 1)]


@pytest.mark.parametrize(
    ("text", "desired", "surge", "unavailable", "gone"),
    [
        ("OOuuu", 2, 1, 0, ["u2", "u3"]),
        ("OOuuuu", 2, 1, 0, ["u2", "u3", "u4"]),
        ("UUuuuu", 2, 1, 0, ["u2", "u3", "u4", "u5"]),
        ("OOOu", 3, 1, 0, []),
        ("OOOuu", 3, 2, 0, []),
        ("OOOOuu", 2, 1, 0, ["O0", "O1", "u4"]),
    ],
)
def test_what_is_not_ready_and_beyond_the_surge_goes_even_behind_a_ready_one(text, desired, surge, unavailable, gone):
    assert [member.name for member in scale(fleet(text, desired, surge, unavailable)).deletes] == gone


@pytest.mark.parametrize(
    ("text", "desired", "gone", "created"),
    [
        ("OOOu", 3, [], []),
        ("OOu", 3, [], []),
        ("Ou", 3, [], [("old", 1)]),
        ("OOO", 4, [], [("old", 1)]),
        ("OOux", 4, [], [("old", 1)]),
        ("OOuu", 1, ["O0", "u2"], []),
        ("OOu", 0, ["O0", "O1"], []),
        ("OOou", 2, ["u3"], []),
        ("OUu", 1, ["O0"], []),
    ],
)
def test_a_failed_revision_is_held_and_what_serves_is_made_up_for(text, desired, gone, created):
    found = scale(fleet(text, desired, 1, 0, stalled=True))
    assert sorted(member.name for member in found.deletes) == gone
    assert list(found.creates) == created


@pytest.mark.parametrize(
    ("text", "desired", "shown", "created"),
    [
        ("OU", 4, (1, 1), [("old", 1), ("new", 1)]),
        ("OOU", 9, (2, 1), [("old", 4), ("new", 2)]),
        ("OUU", 6, (1, 2), [("old", 1), ("new", 2)]),
        ("OU", 3, (0, 0), [("new", 1)]),
    ],
)
def test_c_the_shortfall_of_each_revision_is_made_within_the_surge(text, desired, shown, created):
    found = scale(fleet(text, desired, 0, 1, paused=True, shown_current=shown[0], shown_updated=shown[1]))
    assert found.creates == created
    assert found.acted


def test_17_those_that_leave_are_told_apart_and_none_is_lost():
    seen = fleet("OxUx", 4)
    assert [member.name for member in seen.active] == ["O0", "U2"]
    assert len(seen.members) == 4


fleets = st.builds(
    lambda text, desired, surge, unavailable, stalled: fleet(
        text, desired, surge, min(unavailable, desired), stalled=stalled
    ),
    st.text("OoUu", max_size=12),
    st.integers(0, 6),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
)


@given(fleets)
@settings(max_examples=300, deadline=None)
def test_no_scaling_takes_what_serves_or_leaves_an_idle_one_beyond_the_surge(seen):
    found = scale(seen)
    gone = {member.name for member in found.deletes}
    kept = [member for member in seen.active if member.name not in gone]
    serving, floor = (
        sum(member.ready for member in kept),
        seen.budget.desired if seen.stalled else seen.budget.min_available,
    )
    assert serving >= min(seen.ready, floor)
    made = sum(count for _, count in found.creates)
    assert len(kept) + made <= max(len(kept), seen.budget.most)
    if not all(member.ready for member in kept):
        assert len(kept) <= seen.budget.most
