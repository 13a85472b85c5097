"""The long poll: when it returns, when it waits, who it gives way to, and what it never mistakes for the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from activities import decisions
from activities.decisions import PollEnded
from activities.errors import KubeForbidden
from activities.kube import KubeClient
from activities.resources import ROLESETS
from local.control_plane_only import ControlPlane
from planning.planner import Json, Plan, Resource
from planning.planner import World as Seen
from planning.wire import CloseObject, Decision, Memory, ObjectVersion, UnknownStep, View
from tests.activities.rig import Parts, parts_of, ref_to
from tests.workflows.rig import World, eventually, role_set


@dataclass
class Told:
    """A planner that does as it is told: a step as soon as the annotation `do` says so."""

    seen: list[Seen] = field(default_factory=list)
    status: Json | None = None
    view: View = field(default_factory=View)
    resource: Resource = ROLESETS
    owns: Sequence[Resource] = ()

    def plan(self, world: Seen, memory: Memory, rollout: str | None) -> Plan:
        self.seen.append(world)
        if world.object is None:
            return Plan(Decision(reason="gone", steps=[CloseObject()]), View())
        what = (world.object["metadata"].get("annotations") or {}).get("do")
        if what == "fail":
            raise RuntimeError("told to")
        decision = Decision(reason=what, steps=[UnknownStep(type=what)]) if what else None
        return Plan(decision, self.view, self.status)


@pytest.fixture
def planner() -> Told:
    return Told()


@pytest.fixture
async def told(control_plane: ControlPlane, planner: Told) -> Any:
    async with parts_of(control_plane.kubeconfig, {"roleset": planner}) as parts:
        yield parts


async def made(world: World, parts: Parts) -> Json:
    found = await world.create(role_set("pair"))

    async def is_cached() -> bool:
        return parts.cache.stores["roleset"].get(world.namespace, "pair") is not None

    await eventually(is_cached, 5)
    return found


async def tell(world: World, what: str) -> None:
    await world.patch(ROLESETS, "pair", {"metadata": {"annotations": {"do": what}}})


async def test_it_returns_with_steps_and_their_fence(world: World, told: Parts) -> None:
    roleset = await made(world, told)
    poll = asyncio.create_task(told.poll(ref_to(roleset)))
    await asyncio.sleep(0.3)
    assert not poll.done()
    await tell(world, "dance")
    answer = await asyncio.wait_for(poll, 3)
    assert [step.type for step in answer.steps] == ["dance"]
    assert answer.generation == 1
    assert answer.decided_at is not None


async def test_a_change_of_status_alone_is_written_and_never_returned(world: World, told: Parts, planner: Told) -> None:
    roleset = await made(world, told)
    planner.status = {"observedGeneration": 7}
    poll = asyncio.create_task(told.poll(ref_to(roleset)))

    async def is_written() -> bool:
        live = await world.get(ROLESETS, "pair")
        return bool(live and live.get("status", {}).get("observedGeneration") == 7)

    await eventually(is_written, 5)
    passes = len(planner.seen)
    await asyncio.sleep(0.5)
    assert not poll.done()
    assert len(planner.seen) <= passes + 1, "an equal status is not written again"
    poll.cancel()


async def test_a_new_view_returns_once_it_is_stable_and_only_once_a_minute(
    world: World, told: Parts, planner: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "VIEW_STABLE_SECONDS", 0.3)
    roleset = await made(world, told)
    planner.view = View(phase="Ready", revision="r1")
    answer = await asyncio.wait_for(told.poll(ref_to(roleset)), 3)
    assert answer.steps == []
    assert answer.view.phase == "Ready"
    shown = Memory(shown=answer.view, shown_at=datetime.now(UTC))
    planner.view = View(phase="Progressing", revision="r1")
    poll = asyncio.create_task(told.poll(ref_to(roleset), shown))
    await asyncio.sleep(1)
    assert not poll.done()
    poll.cancel()


async def test_a_newer_poll_ends_the_older_one_at_once(world: World, told: Parts) -> None:
    roleset = await made(world, told)
    older = asyncio.create_task(told.poll(ref_to(roleset)))
    other_scope = asyncio.create_task(told.poll(ref_to(roleset), rollout="r1"))
    await asyncio.sleep(0.2)
    newer = asyncio.create_task(told.poll(ref_to(roleset)))
    with pytest.raises(PollEnded, match="newer poll"):
        await asyncio.wait_for(older, 0.5)
    assert not newer.done()
    assert not other_scope.done()
    told.polls.close()
    for poll in (newer, other_scope):
        with pytest.raises(PollEnded, match="operator stops"):
            await asyncio.wait_for(poll, 0.5)


async def test_it_plans_only_once_the_cache_has_seen_what_was_written(world: World, told: Parts, planner: Told) -> None:
    roleset = await made(world, told)
    await tell(world, "dance")
    version = int((await world.client.get(ROLESETS, world.namespace, "pair"))["metadata"]["resourceVersion"])
    far = ObjectVersion(kind="RoleSet", name="pair", uid=roleset["metadata"]["uid"], resource_version=str(version + 1))
    poll = asyncio.create_task(told.poll(ref_to(roleset), Memory(written=[far])))
    await asyncio.sleep(1)
    assert planner.seen == []
    await world.patch(ROLESETS, "pair", {"metadata": {"annotations": {"more": "yes"}}})
    answer = await asyncio.wait_for(poll, 3)
    assert answer.reason == "dance"


async def test_what_the_cache_does_not_see_in_time_is_read_live(
    world: World, told: Parts, planner: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "READ_LIVE_AFTER_SECONDS", 0.5)
    roleset = await made(world, told)
    await tell(world, "dance")
    gone = ObjectVersion(kind="RoleSet", name="never", uid="no-such-uid", resource_version="99999999999")
    answer = await asyncio.wait_for(told.poll(ref_to(roleset), Memory(written=[gone])), 3)
    assert answer.reason == "dance"


async def test_gone_is_a_404_that_names_the_object(world: World, told: Parts) -> None:
    roleset = await made(world, told)
    poll = asyncio.create_task(told.poll(ref_to(roleset)))
    await asyncio.sleep(0.1)
    await world.delete(ROLESETS, "pair")
    answer = await asyncio.wait_for(poll, 5)
    assert answer.steps == [CloseObject()]


async def test_another_uid_under_the_name_is_the_successor(world: World, told: Parts) -> None:
    roleset = await made(world, told)
    await world.delete(ROLESETS, "pair")
    again = await world.create(role_set("pair"))
    answer = await asyncio.wait_for(told.poll(ref_to(roleset)), 5)
    assert answer.steps == [CloseObject(successor=ref_to(again))]


async def test_a_refused_read_proves_nothing(
    world: World, told: Parts, planner: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "GONE_RETRY_SECONDS", 0.2)
    roleset = await made(world, told)
    missing = ref_to(roleset).model_copy(update={"name": "unknown"})
    real = KubeClient.get

    async def refuses(self: KubeClient, *args: Any, **kwargs: Any) -> Json:
        raise KubeForbidden("no")

    monkeypatch.setattr(KubeClient, "get", refuses)
    poll = asyncio.create_task(told.poll(missing))
    await asyncio.sleep(1)
    assert not poll.done()
    assert planner.seen == []
    monkeypatch.setattr(KubeClient, "get", real)
    assert (await asyncio.wait_for(poll, 3)).reason == "gone"


async def test_a_planner_that_fails_is_asked_again(
    world: World, told: Parts, planner: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    roleset = await made(world, told)
    await tell(world, "fail")
    poll = asyncio.create_task(told.poll(ref_to(roleset)))

    async def has_failed() -> bool:
        return bool(planner.seen)

    await eventually(has_failed, 5)
    await asyncio.sleep(0.2)
    assert not poll.done()
    await tell(world, "dance")
    assert (await asyncio.wait_for(poll, 3)).reason == "dance"
