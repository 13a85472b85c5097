"""Steps happen once and only while they are right: fences, names, ownership, outcomes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities import writes
from activities.errors import KubeAmbiguous
from activities.events import EVENTS
from activities.kube import KubeClient
from activities.resources import PODS, ROLESETS
from crds import labels
from planning import names as naming
from planning import render
from planning.wire import AddFinalizer, CreatePods, DeletePods, ReleaseFinalizer, Target, UnknownStep
from tests.activities.rig import Parts, ref_to
from tests.workflows.rig import World, eventually, names, role_set, uids


async def roleset_in(world: World, parts: Parts, *, stateful: bool = False) -> Any:
    """A RoleSet that the cache has seen, without an operator."""
    body = role_set("pair", replicas=2)
    body["spec"]["roles"][0]["stateful"] = stateful
    made = await world.create(body)

    async def is_cached() -> bool:
        return parts.cache.stores["roleset"].get(world.namespace, "pair") is not None

    await eventually(is_cached, 5)
    return made


def create_pods(roleset: Any, count: int = 2, slots: list[int] | None = None) -> CreatePods:
    template_hash = naming.role_hash(roleset["spec"]["roles"][0])
    return CreatePods(role="engine", template_hash=template_hash, count=0 if slots else count, slots=slots or [])


async def test_a_body_that_runs_twice_makes_each_object_once(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts)
    first = await parts.carry_out(ref_to(roleset), create_pods(roleset))
    again = await parts.carry_out(ref_to(roleset), create_pods(roleset))
    assert [each.outcome for each in (*first.outcomes, *again.outcomes)] == ["done", "done"]
    assert uids(await world.all(PODS)) == {each.uid for each in first.outcomes[0].written}
    assert {each.uid for each in again.outcomes[0].written} == {each.uid for each in first.outcomes[0].written}


async def test_another_decision_makes_other_objects(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts)
    await parts.carry_out(ref_to(roleset), create_pods(roleset, 1), number=0)
    await parts.carry_out(ref_to(roleset), create_pods(roleset, 1), number=1)
    await parts.carry_out(ref_to(roleset), create_pods(roleset, 1), number=1, run="run-2")
    assert len(await world.all(PODS)) == 3


async def test_a_lost_answer_makes_no_second_object(
    world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    roleset = await roleset_in(world, parts)
    real, lost = KubeClient.create, 1

    async def loses_one(self: KubeClient, *args: Any, **kwargs: Any) -> Any:
        nonlocal lost
        made = await real(self, *args, **kwargs)
        if args[0] == PODS and lost:
            lost -= 1
            raise KubeAmbiguous("the connection broke")
        return made

    monkeypatch.setattr(KubeClient, "create", loses_one)
    found = await parts.carry_out(ref_to(roleset), create_pods(roleset))
    assert found.outcomes[0].outcome == "done"
    assert len(await world.all(PODS)) == 2


async def test_a_strangers_object_of_the_name_is_a_conflict_and_stays(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts, stateful=True)
    name = naming.stateful_pod_name("pair", "engine", naming.role_hash(roleset["spec"]["roles"][0]), 0)
    pod = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "other"}]}}
    await world.client.create(PODS, world.namespace, pod)
    found = await parts.carry_out(ref_to(roleset), create_pods(roleset, slots=[0]))
    outcome = found.outcomes[0]
    assert outcome.outcome == "failed"
    assert outcome.cause == "name-conflict"
    assert len(await world.all(PODS)) == 1


async def test_our_own_object_of_another_decision_is_stale_not_success(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts, stateful=True)
    await parts.carry_out(ref_to(roleset), create_pods(roleset, slots=[0]), number=0)
    found = await parts.carry_out(ref_to(roleset), create_pods(roleset, slots=[0]), number=1)
    assert found.outcomes[0].outcome == "stale"


async def test_our_own_terminating_object_is_waited_for_and_then_stale(
    world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "CREATE_SECONDS", 1.0)
    roleset = await roleset_in(world, parts, stateful=True)
    first = await parts.carry_out(ref_to(roleset), create_pods(roleset, slots=[0]), number=0)
    name = first.outcomes[0].written[0].name
    await world.patch(PODS, name, {"metadata": {"finalizers": ["test/hold"]}})
    await world.delete(PODS, name)
    found = await parts.carry_out(ref_to(roleset), create_pods(roleset, slots=[0]), number=1)
    await world.patch(PODS, name, {"metadata": {"finalizers": None}})
    assert found.outcomes[0].outcome == "stale"
    assert "terminating" in found.outcomes[0].reason
    await parts.carry_out(ref_to(roleset), create_pods(roleset, slots=[0]), number=2)
    assert names(await world.all(PODS)) == {name}


async def one_pod(world: World, parts: Parts) -> tuple[Any, Target]:
    roleset = await roleset_in(world, parts)
    found = await parts.carry_out(ref_to(roleset), create_pods(roleset, 1))
    written = found.outcomes[0].written[0]
    return roleset, Target(name=written.name, uid=written.uid)


@pytest.mark.parametrize(
    "fences",
    [
        pytest.param({"generation": 7}, id="another generation"),
        pytest.param({"decided_at": datetime.now(UTC) - timedelta(seconds=31)}, id="an old decision"),
        pytest.param({"decided_at": None}, id="a decision without a time"),
    ],
)
async def test_a_disruptive_step_is_held_back_by(world: World, parts: Parts, fences: dict[str, Any]) -> None:
    roleset, target = await one_pod(world, parts)
    if fences.get("decided_at"):
        fences = {"decided_at": datetime.now(UTC) - timedelta(seconds=31)}
    found = await parts.carry_out(ref_to(roleset), DeletePods(role="engine", targets=[target]), **fences)
    assert found.outcomes[0].outcome == "stale"
    assert len(await world.all(PODS)) == 1


async def test_a_generation_that_only_the_api_server_knows_holds_a_delete_back(world: World, parts: Parts) -> None:
    roleset, target = await one_pod(world, parts)
    for store in parts.cache.stores.values():
        store.put = lambda _: None  # type: ignore[method-assign] # the watch has fallen behind
    roles = roleset["spec"]["roles"]
    roles[0]["replicas"] = 5
    await world.patch(ROLESETS, "pair", {"spec": {"roles": roles}})
    found = await parts.carry_out(ref_to(roleset), DeletePods(role="engine", targets=[target]))
    assert found.outcomes[0].outcome == "stale"
    assert "generation is 2" in found.outcomes[0].reason


async def test_a_delete_names_its_uid(world: World, parts: Parts) -> None:
    roleset, target = await one_pod(world, parts)
    stranger = target.model_copy(update={"uid": "00000000-0000-0000-0000-000000000000"})
    found = await parts.carry_out(ref_to(roleset), DeletePods(role="engine", targets=[stranger]))
    outcome = found.outcomes[0]
    assert outcome.outcome == "failed"
    assert outcome.cause == "conflict"
    assert len(await world.all(PODS)) == 1
    again = [await parts.carry_out(ref_to(roleset), DeletePods(role="engine", targets=[target])) for _ in range(2)]
    assert [each.outcomes[0].outcome for each in again] == ["done", "done"]
    assert await world.all(PODS) == []


async def test_47_of_several_deletions_one_that_fails_keeps_no_other_back(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts)
    made = await parts.carry_out(ref_to(roleset), create_pods(roleset, 3))
    targets = [Target(name=each.name, uid=each.uid) for each in made.outcomes[0].written]
    targets[1] = targets[1].model_copy(update={"uid": "00000000-0000-0000-0000-000000000000"})
    found = await parts.carry_out(ref_to(roleset), DeletePods(role="engine", targets=targets))
    outcome = found.outcomes[0]
    assert (outcome.outcome, outcome.cause) == ("failed", "conflict")
    assert {each.name for each in outcome.written} == {targets[0].name, targets[2].name}
    assert names(await world.all(PODS)) == {targets[1].name}


async def test_a_changed_template_makes_no_pods(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts)
    step = create_pods(roleset).model_copy(update={"template_hash": "other"})
    found = await parts.carry_out(ref_to(roleset), step)
    assert found.outcomes[0].outcome == "stale"


async def test_the_first_failure_is_the_last_step_and_an_event(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts)
    found = await parts.carry_out(ref_to(roleset), UnknownStep(type="teleport"), create_pods(roleset))
    assert [each.outcome for each in found.outcomes] == ["failed"]
    assert found.outcomes[0].cause == "unknown-step"
    assert await world.all(PODS) == []

    async def event() -> Any:
        return [each for each in await world.all(EVENTS) if each["reason"] == labels.EVENT_SCALING]

    events = await eventually(event, 5)
    assert events[0]["type"] == "Warning"
    assert "teleport" in events[0]["message"]


async def test_a_repeated_event_raises_a_count(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts)
    for _ in range(3):
        parts.recorder.record(roleset, "Warning", "Scaling", "the same again")

    async def counts() -> Any:
        found = [each for each in await world.all(EVENTS) if each["message"] == "the same again"]
        return len(found) == 1 and found[0]["count"] == 3

    await eventually(counts, 5)


async def test_a_quota_is_an_outcome_with_its_cause(world: World, parts: Parts) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}},
    }
    await world.client.call("POST", f"/api/v1/namespaces/{world.namespace}/resourcequotas", body=quota)
    roleset = await roleset_in(world, parts)

    async def is_refused() -> Any:
        found = await parts.carry_out(ref_to(roleset), create_pods(roleset, 4))
        return found.outcomes[0].outcome == "failed" and found.outcomes[0]

    outcome = await eventually(is_refused, 10)
    assert outcome.cause == "quota"
    assert len(outcome.written) <= 1


async def test_finalizers_of_others_survive_ours(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts)
    await world.patch(ROLESETS, "pair", {"metadata": {"finalizers": ["test/theirs"]}})
    ours = labels.ROLESET_FINALIZER
    assert (await parts.carry_out(ref_to(roleset), AddFinalizer(finalizer=ours))).outcomes[0].outcome == "done"
    live = await world.get(ROLESETS, "pair")
    assert live is not None
    assert live["metadata"]["finalizers"] == ["test/theirs", ours]
    held = await parts.carry_out(ref_to(roleset), ReleaseFinalizer(finalizer=ours))
    assert held.outcomes[0].outcome == "stale", "nobody is deleting the object"


async def test_pods_carry_what_makes_them_ours(world: World, parts: Parts) -> None:
    roleset = await roleset_in(world, parts)
    await parts.carry_out(ref_to(roleset), create_pods(roleset, 1))
    pod = (await world.all(PODS))[0]
    expected = render.render_pod(roleset, "engine", name=pod["metadata"]["name"], slot=None)
    assert pod["metadata"]["labels"] == expected["metadata"]["labels"]
    assert pod["metadata"]["annotations"][labels.DECISION] == "run-1-0"


async def test_slow_start_stops_at_the_batch_that_fails() -> None:
    tried: list[int] = []

    async def act(item: int) -> None:
        tried.append(item)
        if item == 3:
            raise ValueError(item)

    with pytest.raises(ValueError, match="3"):
        await writes.slow_start(range(20), act)
    assert tried == [0, 1, 2, 3, 4, 5, 6]
