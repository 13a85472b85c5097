"""Revisions and their history (orchestration cases 19 to 33; CRD cases B31, B32)."""

from __future__ import annotations

from typing import Any

import pytest

from planning.names import short_hash, template_digest
from planning.render import render_revision
from planning.revisions import carried_forward, next_number, superfluous, sync
from planning.wire import CreateRevision, Failure, Memory, RenumberRevision, RoleRevision
from tests.planning.world import START, role, storm


def stored(of: dict[str, Any], name: str, number: int, **role_revisions: RoleRevision) -> dict[str, Any]:
    step = CreateRevision(name=name, revision=number, hash="h", digest="d", role_revisions=role_revisions)
    return render_revision(of, step)


def at(image: str, **status: Any) -> dict[str, Any]:
    return storm(role(image=image)) | {"status": status}


@pytest.mark.parametrize(("numbers", "expected"), [([], 1), ([5], 6), ([1, 3, 7], 8), ([7, 1], 8)])
def test_19_the_next_number_follows_the_highest(numbers, expected):
    assert next_number([{"revision": number} for number in numbers]) == expected


def test_20_another_template_becomes_the_next_revision():
    found = sync(at("v2", currentRevision="r1"), [stored(at("v1"), "r1", 1)], Memory())
    assert (found.current, found.number, found.collision_count) == ("r1", 2, 0)
    assert isinstance(found.step, CreateRevision)
    assert found.step.name == found.update
    assert found.update.startswith("storm-")
    assert not found.exists


def test_21_the_collision_count_is_kept():
    found = sync(at("v1", collisionCount=1), [], Memory())
    assert (found.number, found.collision_count) == (1, 1)
    assert found.update == f"storm-{short_hash(template_digest(at('v1')['spec']['template']), 1)}"


def test_22_an_equal_revision_is_used_again():
    found = sync(at("v1"), [stored(at("v1"), "r1", 1)], Memory())
    assert (found.update, found.current, found.step, found.exists) == ("r1", "r1", None, True)


def test_23_a_name_that_a_stranger_has_moves_the_collision_count():
    first = sync(at("v1"), [], Memory())
    clash = Failure(
        step=f"create-revision/{first.update}", cause="name-conflict", message="", count=1, generation=1, retry_at=START
    )
    found = sync(at("v1"), [], Memory(failures=[clash]))
    assert found.collision_count == 1
    assert found.update != first.update
    again = sync(at("v1", collisionCount=1), [], Memory(failures=[clash]))
    assert again.update == found.update


def test_23_a_name_that_a_revision_of_ours_has_moves_it_too():
    name = sync(at("v1"), [], Memory()).update
    found = sync(at("v1"), [stored(at("v2"), name, 1)], Memory())
    assert (found.collision_count, found.number) == (1, 2)


def test_b31_going_back_raises_the_older_revision():
    known = [stored(at("v1"), "r1", 1), stored(at("v2"), "r2", 2)]
    found = sync(at("v1", currentRevision="r2"), known, Memory())
    assert (found.update, found.current, found.number) == ("r1", "r2", 3)
    assert isinstance(found.step, RenumberRevision)
    assert (found.step.target.name, found.step.revision) == ("r1", 3)
    assert found.exists


def test_the_current_revision_is_the_target_when_it_is_no_longer_stored():
    assert sync(at("v1", currentRevision="lost"), [stored(at("v1"), "r1", 1)], Memory()).current == "r1"


def test_replicas_of_roles_make_no_revision():
    known = [stored(storm(role(replicas=1)), "r1", 1)]
    assert sync(storm(role(replicas=9)), known, Memory()).step is None


def history(*numbers: int) -> list[dict[str, Any]]:
    return [stored(at("v1"), f"r{number}", number) for number in numbers]


def test_26_the_oldest_beyond_the_limit_are_forgotten():
    of = storm(role(), revisionHistoryLimit=1)
    found = superfluous(of, history(3, 1, 2, 9), live=["r9"])
    assert [target.name for target in found] == ["r1", "r2"]


def test_27_ten_are_kept_unless_something_else_is_asked_for():
    assert superfluous(storm(role()), history(1, 9), live=["r9"]) == []
    found = superfluous(storm(role()), history(*range(1, 14)), live=["r13"])
    assert [target.name for target in found] == ["r1", "r2"]


def test_a_limit_of_zero_keeps_only_what_is_in_use():
    of = storm(role(), revisionHistoryLimit=0)
    assert [target.name for target in superfluous(of, history(1, 2, 3), live=["r3", "r1"])] == ["r2"]


def two_roles(prefill: str, decode: str, **fields: Any) -> dict[str, Any]:
    return storm(role("prefill", image=prefill), role("decode", image=decode, **fields))


def carried(of: dict[str, Any], *known: dict[str, Any]) -> dict[str, RoleRevision]:
    return carried_forward(of["spec"]["template"], list(known))


def test_29_an_unchanged_role_keeps_its_revision():
    found = carried(two_roles("v2", "v1"), stored(two_roles("v1", "v1"), "r1", 1))
    assert found == {"decode": RoleRevision(number=1, name="r1")}


def test_the_revision_that_brought_a_template_is_carried_through_later_ones():
    first = stored(two_roles("v1", "v1"), "r1", 1)
    second = stored(two_roles("v2", "v1"), "r2", 2, decode=RoleRevision(number=1, name="r1"))
    found = carried(two_roles("v3", "v1"), first, second)
    assert found == {"decode": RoleRevision(number=1, name="r1")}


def test_30_31_new_and_changed_roles_are_of_the_new_revision():
    assert carried(two_roles("v1", "v1"), stored(storm(role("prefill", image="v0")), "r1", 1)) == {}
    assert carried(two_roles("v1", "v1")) == {}


def test_32_equal_copies_are_of_the_old_revision():
    found = carried(two_roles("v1", "v1", upgradeOrder=4), stored(two_roles("v1", "v1"), "r1", 1))
    assert set(found) == {"prefill", "decode"}


def test_33_a_template_without_roles_has_no_role_revisions():
    assert carried(storm(), stored(two_roles("v1", "v1"), "r1", 1)) == {}
