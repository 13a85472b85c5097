"""Steps on PodSets, their pods and leftovers of a role that was something else before (roleset spec case 47)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from activities.resources import PODS, PODSETS
from planning import names as naming
from planning.wire import (
    CreateGroupPods,
    CreatePods,
    CreatePodSets,
    DeleteGroupPods,
    DeletePods,
    DeletePodSets,
    Target,
    Told,
    UpdatePodSets,
)
from tests.activities.rig import Parts, ref_to
from tests.workflows.rig import World, eventually, names, role_set, uids
from tests.workflows.test_groups import events, pod_set, was_told


async def cached(world: World, parts: Parts, body: Any) -> Any:
    """The object, once the cache has seen it; there is no operator."""
    made = await world.create(body)

    async def is_cached() -> bool:
        return parts.cache.stores[body["kind"].lower()].by_uid(made["metadata"]["uid"]) is not None

    await eventually(is_cached, 5)
    return made


def target(obj: Any, uid: str | None = None) -> Target:
    return Target(name=obj["metadata"]["name"], uid=uid or obj["metadata"]["uid"])


async def grouped(world: World, parts: Parts) -> tuple[Any, CreatePodSets]:
    body = role_set("pair")
    body["spec"]["roles"][0]["podGroupSize"] = 2
    roleset = await cached(world, parts, body)
    return roleset, CreatePodSets(
        role="engine", template_hash=naming.role_hash(roleset["spec"]["roles"][0]), slots=[0, 1]
    )


async def test_47_one_leftover_that_cannot_go_keeps_none_of_the_others(world: World, parts: Parts) -> None:
    roleset = await cached(world, parts, role_set("pair"))
    template_hash = naming.role_hash(roleset["spec"]["roles"][0])
    await parts.carry_out(ref_to(roleset), CreatePods(role="engine", template_hash=template_hash, count=3))
    pods = sorted(await world.all(PODS), key=lambda pod: str(pod["metadata"]["name"]))
    targets = [target(pod, "somebody-else" if at == 1 else None) for at, pod in enumerate(pods)]
    outcomes = await parts.carry_out(ref_to(roleset), DeletePods(role="engine", targets=targets), number=1)
    (outcome,) = outcomes.outcomes
    assert outcome.outcome == "failed"
    assert len(outcome.written) == 2
    assert names(await world.all(PODS)) == {pods[1]["metadata"]["name"]}


async def test_pod_sets_are_made_once_whole_and_from_the_template_of_the_decision(world: World, parts: Parts) -> None:
    roleset, step = await grouped(world, parts)
    for _ in range(2):
        outcomes = await parts.carry_out(ref_to(roleset), step)
        assert [each.outcome for each in outcomes.outcomes] == ["done"]
    found = await world.all(PODSETS)
    assert len(found) == 2
    assert {each["spec"]["recoveryPolicy"] for each in found} == {"ReplaceUnhealthy"}
    stale = await parts.carry_out(ref_to(roleset), step.model_copy(update={"template_hash": "other"}), number=1)
    assert stale.outcomes[0].outcome == "stale"


async def test_a_policy_is_patched_into_pod_sets_that_are_still_the_same(world: World, parts: Parts) -> None:
    roleset, step = await grouped(world, parts)
    await parts.carry_out(ref_to(roleset), step)
    (first, second) = await world.all(PODSETS)
    strategy = {"coschedulingSchedulingStrategy": {"minMember": 2}}
    await world.patch(PODSETS, first["metadata"]["name"], {"spec": {"schedulingStrategy": strategy}})

    async def is_cached() -> bool:
        live = parts.cache.stores["podset"].by_uid(first["metadata"]["uid"])
        return live is not None and "schedulingStrategy" in live["spec"]

    await eventually(is_cached, 5)
    done = await parts.carry_out(ref_to(roleset), UpdatePodSets(role="engine", targets=[target(first)]), number=1)
    assert done.outcomes[0].outcome == "done"
    assert "schedulingStrategy" not in (await world.client.get(PODSETS, world.namespace, target(first).name))["spec"]
    gone = UpdatePodSets(role="engine", targets=[target(second, "another")])
    stale = await parts.carry_out(ref_to(roleset), gone, number=2)
    assert stale.outcomes[0].outcome == "stale"


async def test_a_ready_group_goes_only_by_a_young_decision(world: World, parts: Parts) -> None:
    roleset, step = await grouped(world, parts)
    await parts.carry_out(ref_to(roleset), step)
    found = await world.all(PODSETS)
    delete = DeletePodSets(role="engine", targets=[target(found[0])])
    old = datetime.now(UTC) - timedelta(minutes=1)
    stale = await parts.carry_out(ref_to(roleset), delete, number=1, decided_at=old)
    assert stale.outcomes[0].outcome == "stale"
    assert uids(await world.all(PODSETS)) == uids(found)


async def test_pods_of_a_group_come_from_one_spec_and_what_is_told_is_told_once(world: World, parts: Parts) -> None:
    podset = await cached(world, parts, pod_set("group", 2))
    told = Told(reason="ReplacingUnhealthy", message="create 2 missing of 2 pods")
    step = CreateGroupPods(indexes=[0, 1], restarts=3, tells=[told])
    stale = await parts.carry_out(ref_to(podset), step, generation=7)
    assert stale.outcomes[0].outcome == "stale"
    assert await world.all(PODS) == []
    done = await parts.carry_out(ref_to(podset), step, number=1)
    assert done.outcomes[0].outcome == "done"
    assert names(await world.all(PODS)) == {"group-0", "group-1"}
    await eventually(lambda: was_told(world, "group", "ReplacingUnhealthy"))
    delete = DeleteGroupPods(targets=[target(each) for each in await world.all(PODS)])
    await parts.carry_out(ref_to(podset), delete, number=2)
    assert await world.all(PODS) == []
    assert (await events(world, "group"))["ReplacingUnhealthy"] == 1
