"""Steps of a StormService against a real API server: adoption, disruption budgets, deletion of what has changed."""

from __future__ import annotations

from typing import Any

import pytest

from activities import writes
from activities.kube import path_of
from activities.resources import BUDGETS, ROLESETS, STORM_SERVICES
from crds import labels
from planning.render import owner_reference
from planning.wire import Adopt, ApplyBudget, DeleteBudgets, DeleteRoleSets, ReleaseFinalizer, Target
from tests.activities.rig import Parts, ref_to
from tests.workflows.rig import World, eventually, role_set, storm_service


async def storm_in(world: World, parts: Parts) -> Any:
    made = await world.create(storm_service("llama"))

    async def is_cached() -> bool:
        return parts.cache.stores["stormservice"].get(world.namespace, "llama") is not None

    await eventually(is_cached, 5)
    return made


async def roleset_in(world: World, parts: Parts, **metadata: Any) -> Any:
    body = role_set("pair")
    body["metadata"] |= metadata
    made = await world.create(body)

    async def is_cached() -> bool:
        return parts.cache.stores["roleset"].by_uid(made["metadata"]["uid"]) is not None

    await eventually(is_cached, 5)
    return made


def target(obj: Any, version: str = "") -> Target:
    return Target(name=obj["metadata"]["name"], uid=obj["metadata"]["uid"], resource_version=version)


async def owners(world: World) -> list[str]:
    found = await world.client.get(ROLESETS, world.namespace, "pair")
    return [owner["uid"] for owner in found["metadata"].get("ownerReferences", ())]


async def test_a_roleset_without_controller_is_adopted_once(world: World, parts: Parts) -> None:
    storm = await storm_in(world, parts)
    roleset = await roleset_in(world, parts)
    step = Adopt(kind="roleset", targets=[target(roleset, roleset["metadata"]["resourceVersion"])])
    first = await parts.carry_out(ref_to(storm), step)
    again = await parts.carry_out(ref_to(storm), step)
    assert [each.outcome for each in (*first.outcomes, *again.outcomes)] == ["done", "done"]
    assert await owners(world) == [storm["metadata"]["uid"]]
    after = await world.client.get(ROLESETS, world.namespace, "pair")
    assert after["metadata"]["generation"] == roleset["metadata"]["generation"]


async def test_an_adoption_does_not_take_what_changed_or_belongs_to_somebody(world: World, parts: Parts) -> None:
    storm = await storm_in(world, parts)
    other = await world.create(storm_service("other"))
    reference = owner_reference(other, STORM_SERVICES.api_version, "StormService")
    roleset = await roleset_in(world, parts)
    version = roleset["metadata"]["resourceVersion"]
    await world.patch(ROLESETS, "pair", {"metadata": {"annotations": {"touched": "yes"}}})
    step = Adopt(kind="roleset", targets=[target(roleset, version)])
    assert [each.outcome for each in (await parts.carry_out(ref_to(storm), step)).outcomes] == ["stale"]
    assert await owners(world) == []

    taken = await world.patch(ROLESETS, "pair", {"metadata": {"ownerReferences": [reference]}})

    async def is_seen() -> bool:
        known = parts.cache.stores["roleset"].by_uid(roleset["metadata"]["uid"])
        return known is not None and "ownerReferences" in known["metadata"]

    await eventually(is_seen, 5)
    step = Adopt(kind="roleset", targets=[target(roleset, taken["metadata"]["resourceVersion"])])
    assert [each.outcome for each in (await parts.carry_out(ref_to(storm), step)).outcomes] == ["stale"]
    assert await owners(world) == [other["metadata"]["uid"]]


async def test_what_has_no_controller_is_found_by_the_name_it_was_made_for(world: World, parts: Parts) -> None:
    await roleset_in(world, parts, labels={"storm-service-name": "llama"})
    left = parts.cache.ownerless(world.namespace, "llama", [ROLESETS])
    assert [each["metadata"]["name"] for each in left["roleset"]] == ["pair"]
    assert parts.cache.ownerless(world.namespace, "other", [ROLESETS]) == {"roleset": []}


async def test_38_a_roleset_that_is_gone_already_counts_as_deleted(world: World, parts: Parts) -> None:
    storm = await storm_in(world, parts)
    roleset = await roleset_in(world, parts)
    await world.delete(ROLESETS, "pair")
    for _ in range(2):
        outcomes = await parts.carry_out(ref_to(storm), DeleteRoleSets(targets=[target(roleset)], disruptive=False))
        assert [each.outcome for each in outcomes.outcomes] == ["done"]


async def test_a_deletion_that_names_a_version_leaves_what_has_changed_since(world: World, parts: Parts) -> None:
    storm = await storm_in(world, parts)
    roleset = await roleset_in(world, parts)
    version = roleset["metadata"]["resourceVersion"]
    await world.patch(ROLESETS, "pair", {"metadata": {"annotations": {"touched": "yes"}}})
    (outcome,) = (await parts.carry_out(ref_to(storm), DeleteRoleSets(targets=[target(roleset, version)]))).outcomes
    assert (outcome.outcome, getattr(outcome, "cause", "")) == ("failed", "conflict")
    assert await world.get(ROLESETS, "pair") is not None


async def test_a_budget_is_made_corrected_and_taken_away(world: World, parts: Parts) -> None:
    storm = await storm_in(world, parts)
    step = ApplyBudget(name="llama", min_available=3, selector={"storm-service-name": "llama"})
    await parts.carry_out(ref_to(storm), step)
    made = await world.client.get(BUDGETS, world.namespace, "llama")
    assert made["spec"]["minAvailable"] == 3

    async def is_cached() -> bool:
        return parts.cache.stores["poddisruptionbudget"].get(world.namespace, "llama") is not None

    await eventually(is_cached, 5)
    await parts.carry_out(ref_to(storm), step.model_copy(update={"min_available": 1}), number=1)
    assert (await world.client.get(BUDGETS, world.namespace, "llama"))["spec"] == {
        "minAvailable": 1, "selector": {"matchLabels": {"storm-service-name": "llama"}},
    }  # fmt: skip
    await parts.carry_out(ref_to(storm), DeleteBudgets(targets=[target(made)]), number=2)
    assert await world.get(BUDGETS, "llama") is None


async def test_a_strangers_budget_stays_as_it_is(world: World, parts: Parts) -> None:
    storm = await storm_in(world, parts)
    spec = {"minAvailable": 7, "selector": {"matchLabels": {"app": "mine"}}}
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "llama"}, "spec": spec}
    await world.client.call("POST", path_of(BUDGETS, world.namespace), body=body)

    async def is_cached() -> bool:
        return parts.cache.stores["poddisruptionbudget"].get(world.namespace, "llama") is not None

    await eventually(is_cached, 5)
    step = ApplyBudget(name="llama", min_available=3, selector={"storm-service-name": "llama"})
    (outcome,) = (await parts.carry_out(ref_to(storm), step)).outcomes
    assert getattr(outcome, "cause", "") == "name-conflict"
    assert (await world.client.get(BUDGETS, world.namespace, "llama"))["spec"] == spec


async def test_52_a_slow_start_runs_all_and_stops_at_the_first_batch_that_fails() -> None:
    done: list[int] = []

    async def act(item: int, fails: int | None = None) -> None:
        if item == fails:
            raise ValueError(item)
        done.append(item)

    await writes.slow_start(range(5), act)
    assert len(done) == 5
    done.clear()
    with pytest.raises(ValueError, match="0"):
        await writes.slow_start(range(5), lambda item: act(item, fails=0))
    assert done == []


@pytest.mark.parametrize("others", [["tests/b"], []])
async def test_54_of_the_finalizers_only_ours_goes(world: World, parts: Parts, others: list[str]) -> None:
    ours = labels.ROLESET_FINALIZER
    roleset = await roleset_in(world, parts, finalizers=[ours, *others])
    await parts.client.delete(ROLESETS, world.namespace, "pair", roleset["metadata"]["uid"])

    async def is_leaving() -> bool:
        known = parts.cache.stores["roleset"].by_uid(roleset["metadata"]["uid"])
        return known is not None and "deletionTimestamp" in known["metadata"]

    await eventually(is_leaving, 5)
    outcomes = await parts.carry_out(ref_to(roleset), ReleaseFinalizer(finalizer=ours))
    assert [each.outcome for each in outcomes.outcomes] == ["done"]
    live = await world.get(ROLESETS, "pair")
    assert (live["metadata"]["finalizers"] if live else []) == others
