"""The operator's process dies before or after any API write and any report to Temporal: nothing is made or lost twice.

`make test` takes a few points, `make soak` every one of them, each in a rollout of its own.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from activities.resources import PODS, ROLESETS
from local.control_plane_only import ControlPlane
from tests.workflows.proxies import ApiProxy, Points, TemporalProxy
from tests.workflows.rig import OperatorProcess, World, eventually, storm_service

REPLICAS, SURGE = 2, 1
ROLL_SECONDS = 90.0
SAMPLE = [(3, True)]


@dataclass
class Struck:
    """An operator behind proxies, a StormService that is rolled out, and one that nobody touches."""

    world: World
    process: OperatorProcess
    points: Points
    api: ApiProxy
    version: int = 0
    untouched: dict[str, str] = field(default_factory=dict)

    async def begin(self) -> None:
        await self.process.started()
        await self.world.create(storm_service("other"))
        await eventually(lambda: self.world.is_ready("other"))
        self.untouched = await self._others()
        await self.world.create(storm_service("llama", replicas=REPLICAS, image="v0"))
        await eventually(lambda: self.world.is_at("llama", "v0", REPLICAS))

    async def roll(self, held_seconds: float = 0.0) -> None:
        """Another image, to the end; an operator that died on the way is started again.

        `held_seconds`: so long nothing can go on.
        """
        self._start_again()
        self.version += 1
        image = f"v{self.version}"
        seen = Sightings(self.world)
        watching = asyncio.create_task(seen.run())
        await self.world.set_image("llama", image)
        restarting = asyncio.create_task(self._restart())
        try:
            await self._arrives(image, ROLL_SECONDS + held_seconds)
        finally:
            restarting.cancel()
            watching.cancel()
        await seen.look()
        seen.check(f"engine:{image}")
        assert await self._others() == self.untouched, "a pod that has no part in the rollout was written to"

    async def _others(self) -> dict[str, str]:
        """Uid and version of each pod of the other StormService: its restart counts stand in the version too."""
        return {
            each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in await self.world.of("other", PODS)
        }

    async def _arrives(self, image: str, seconds: float) -> None:
        try:
            await eventually(lambda: self.world.is_at("llama", image, REPLICAS), seconds=seconds)
        except AssertionError as error:
            said = await asyncio.to_thread(self.process.log.read_text)
            aimed = f"{'after' if self.points.after else 'before'} point {self.points.at}"
            hit = "struck" if self.points.struck.is_set() else "not struck"
            error.add_note(f"{aimed}, {hit}; points: {self.points.log}\noperator: {said[-4000:]}")
            raise

    async def _restart(self) -> None:
        await self.points.struck.wait()
        self._start_again()

    def _start_again(self) -> None:
        """The last points of a rollout lie behind the moment at which all is as asked."""
        if self.process.process is None:
            self.process.start()


class Sightings:
    """Every RoleSet and pod that ever was, by uid, and the most RoleSets alive at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.most = 0
        self.rolesets: dict[str, Any] = {}
        self.pods: dict[str, Any] = {}

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.1)

    async def look(self) -> None:
        rolesets = await self.world.of("llama", ROLESETS)
        self.most = max(self.most, sum("deletionTimestamp" not in each["metadata"] for each in rolesets))
        self.rolesets |= {each["metadata"]["uid"]: each for each in rolesets}
        self.pods |= {each["metadata"]["uid"]: each for each in await self.world.of("llama", PODS)}

    def check(self, image: str) -> None:
        """As many new pods as wanted, one for each RoleSet, never more RoleSets than the surge allows."""
        assert self.most <= REPLICAS + SURGE
        new = [pod for pod in self.pods.values() if pod["spec"]["containers"][0]["image"] == image]
        assert len(new) == REPLICAS, [pod["metadata"]["name"] for pod in new]
        owners = Counter(pod["metadata"]["ownerReferences"][0]["uid"] for pod in self.pods.values())
        assert set(owners.values()) == {1}, owners


@pytest.fixture
async def struck(control_plane: ControlPlane, world: World, tmp_path: Path) -> AsyncIterator[Struck]:
    points = Points()
    api, temporal = (
        ApiProxy(control_plane.settings.operator_kubeconfig, points),
        TemporalProxy(control_plane.temporal_address, points),
    )
    await api.start()
    await temporal.start()
    process = OperatorProcess(api.kubeconfig(tmp_path / "kubeconfig"), temporal.address, tmp_path / "operator.log")
    try:
        async with world.kubelet():
            yield Struck(world, process, points, api)
            await process.stop()
    finally:
        process.kill()
        await api.stop()
        await temporal.stop()


@pytest.mark.timeout(180)
async def test_an_operator_killed_at_a_write_or_a_report_leaves_the_same_state(struck: Struck) -> None:
    await struck.begin()
    for at, after in SAMPLE:
        struck.points.aim(at, after=after, strike=struck.process.kill)
        await struck.roll()
        assert struck.points.struck.is_set()


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_an_operator_killed_at_every_write_and_report_leaves_the_same_state(struck: Struck) -> None:
    await struck.begin()
    struck.points.aim(0, after=False, strike=struck.process.kill)
    await struck.roll()
    number = struck.points.passed
    assert number > 20, struck.points.log
    for at in range(1, number + 1):
        for after in (False, True):
            struck.points.aim(at, after=after, strike=struck.process.kill)
            await struck.roll()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
async def test_an_operator_that_stands_still_in_mid_step_goes_on_without_doing_anything_twice(
    struck: Struck, seconds: float
) -> None:
    await struck.begin()

    def stop() -> bool:
        assert struck.process.process is not None
        struck.process.process.send_signal(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(seconds, struck.process.process.send_signal, signal.SIGCONT)
        return False

    struck.points.aim(4, after=True, strike=stop)
    await struck.roll(seconds)
    assert struck.points.struck.is_set()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
async def test_an_api_server_that_is_away_in_mid_rollout_costs_nothing_but_time(struck: Struck, seconds: float) -> None:
    await struck.begin()

    def away() -> bool:
        struck.api.away = True
        struck.api.cut()
        asyncio.get_running_loop().call_later(seconds, setattr, struck.api, "away", False)
        return True

    struck.points.aim(4, after=False, strike=away)
    await struck.roll(seconds)
    assert struck.points.struck.is_set()


@pytest.mark.timeout(120)
async def test_watches_that_break_or_have_expired_lose_nothing(struck: Struck) -> None:
    await struck.begin()
    before = struck.api.relisted

    def expire() -> bool:
        struck.api.expired = True
        struck.api.cut()
        asyncio.get_running_loop().call_later(2.0, setattr, struck.api, "expired", False)
        return False

    struck.points.aim(3, after=True, strike=expire)
    await struck.roll()
    assert struck.points.struck.is_set()
    assert struck.api.relisted > before
    for _ in range(3):
        struck.api.cut()
    await struck.roll()
