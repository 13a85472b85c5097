"""What holds in any order of events: budgets, an end, determinism, size."""

from __future__ import annotations

import random
from dataclasses import replace as changed

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crds.intorstr import Budget
from planning.fleet import Fleet, Replica
from planning.managers import plan_roles
from planning.members import Member, Role
from planning.names import stateful_pod_name
from planning.objects import name_of
from planning.planner import World
from planning.registry import PLANNERS
from planning.rolling import replace, rewrite
from planning.scaling import scale
from planning.wire import Memory, Ref
from tests.planning.world import START, Cluster, role, roleset, set_ready, storm

budgets = st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3)).map(
    lambda found: Budget(found[0], found[1], min(found[2], found[0]) if found[1] or found[2] else 1)
)
seeds = st.integers(0, 2**32)


class FleetRun:
    def __init__(self, budget: Budget, seed: int) -> None:
        self.budget, self.chance, self.made = budget, random.Random(seed), 0
        self.members = [Replica(f"old{i}", revision="old", ready=True, settled=True) for i in range(budget.desired)]

    def step(self) -> bool:
        fleet = Fleet(self.members, "old", "new", self.budget)
        moves = scale(fleet)
        if not moves.acted:
            moves = replace(fleet)
        gone = {member.name for member in moves.deletes}
        ready_after = sum(m.ready and m.name not in gone for m in fleet.active)
        assert ready_after >= min(fleet.ready, self.budget.min_available)
        self.members = [changed(m, leaving=m.leaving or m.name in gone) for m in self.members]
        for _, count in moves.creates:
            assert count > 0
            assert len(fleet.members) + count <= self.budget.most
            self.members += [Replica(f"new{self.made + i}", revision="new") for i in range(count)]
            self.made += count
        return bool(moves)

    def events(self, *, all_of_them: bool = False) -> None:
        def happens() -> bool:
            return all_of_them or self.chance.random() < 0.5

        self.members = [m for m in self.members if not (m.leaving and happens())]
        self.members = [self._moved(m) if happens() else m for m in self.members]
        if not all_of_them and self.members and self.chance.random() < 0.2:
            place = self.chance.randrange(len(self.members))
            self.members[place] = changed(self.members[place], ready=False, settled=False)

    def _moved(self, member: Replica) -> Replica:
        return member if member.leaving or member.revision == "old" else changed(member, ready=True, settled=True)


@given(budgets, seeds)
@settings(max_examples=200, deadline=None)
def test_a_fleet_keeps_its_budget_in_any_order_of_events_and_ends_updated(budget, seed):
    run = FleetRun(budget, seed)
    for _ in range(run.chance.randrange(12)):
        run.step()
        run.events()
    for _ in range(80):
        run.step()
        run.events(all_of_them=True)
    assert [(m.revision, m.ready) for m in run.members] == [("new", True)] * budget.desired


@given(budgets, seeds)
@settings(max_examples=100, deadline=None)
def test_a_fleet_in_place_never_disturbs_more_than_unavailable(budget, seed):
    chance = random.Random(seed)
    members = [Replica(f"r{i}", revision="old", ready=True, settled=True) for i in range(budget.desired)]
    allowed = max(1, budget.unavailable)
    for turn in range(100):
        rewritten = {m.name for m in rewrite(Fleet(members, "old", "new", budget, in_place=True)).rewrites}
        members = [
            changed(m, revision="new", ready=chance.random() < 0.5, settled=False) if m.name in rewritten else m
            for m in members
        ]
        assert sum(m.revision == "new" and not m.settled for m in members) <= allowed
        members = [
            changed(m, ready=True, settled=True) if m.revision == "new" and (turn > 50 or chance.random() < 0.4) else m
            for m in members
        ]
    assert all(m.revision == "new" and m.settled for m in members)


class RoleRun:
    def __init__(self, strategy: str, budgets_: list[Budget], stateful: bool, seed: int) -> None:
        self.strategy, self.stateful, self.chance, self.made = strategy, stateful, random.Random(seed), 0
        self.budgets = {f"r{i}": budget for i, budget in enumerate(budgets_)}
        self.pods = {
            name: [Member(f"old{i}", ready=True, slot=i if stateful else None) for i in range(budget.desired)]
            for name, budget in self.budgets.items()
        }

    def step(self) -> bool:
        roles = [
            Role(name, budget, self.pods[name], self.stateful, None, "new", roleset="set")
            for name, budget in self.budgets.items()
        ]
        found = plan_roles(self.strategy, roles)
        for role_ in roles:
            if moves := found.moves.get(role_.name):
                self._apply(role_, moves)
        return bool(found.moves)

    def _apply(self, role_: Role, moves) -> None:
        gone = {member.name for member in moves.deletes}
        serving = _serving(role_, [m for m in role_.active if m.name not in gone])
        assert serving >= min(_serving(role_, role_.active), role_.budget.min_available)
        if moves.creates:
            assert len(role_.active) + role_.leaving + moves.creates <= role_.budget.most
        kept = [changed(m, leaving=True, ready=False) if m.name in gone else m for m in self.pods[role_.name]]
        self.pods[role_.name] = kept + [self._pod(role_.name, slot) for slot in [*moves.slots, *[None] * moves.count]]
        names = [m.name for m in self.pods[role_.name]]
        assert len(names) == len(set(names))

    def _pod(self, role_: str, slot: int | None) -> Member:
        self.made += 1
        name = f"new{self.made}" if slot is None else stateful_pod_name("set", role_, "new", slot)
        return Member(name, created=f"{self.made:05}", updated=True, slot=slot)

    def events(self, *, all_of_them: bool = False) -> None:
        for name, pods in self.pods.items():
            kept = [p for p in pods if not (p.leaving and (all_of_them or self.chance.random() < 0.5))]
            self.pods[name] = [self._moved(p, all_of_them) for p in kept]

    def _moved(self, pod: Member, surely: bool) -> Member:
        if pod.leaving or pod.ended:
            return pod
        if not surely and self.chance.random() < 0.1:
            return changed(pod, ready=False, ended=self.chance.random() < 0.5)
        return changed(pod, ready=True) if pod.updated and (surely or self.chance.random() < 0.5) else pod

    def is_done(self) -> bool:
        return all(
            len(self.pods[name]) == budget.desired and all(p.updated and p.ready for p in self.pods[name])
            for name, budget in self.budgets.items()
        )


def _serving(role_: Role, members) -> int:
    """Ready pods, or ready slots of a stateful role."""
    ready = [m for m in members if m.ready]
    return len({m.slot for m in ready}) if role_.stateful else len(ready)


@given(
    st.sampled_from(["Parallel", "Sequential", "Interleave"]),
    st.lists(budgets, min_size=1, max_size=3),
    st.booleans(),
    seeds,
)
@settings(max_examples=300, deadline=None)
def test_roles_keep_their_budget_in_any_order_of_events_and_end_updated(strategy, found, stateful, seed):
    run = RoleRun(strategy, found, stateful, seed)
    for _ in range(run.chance.randrange(15)):
        run.step()
        run.events()
    for _ in range(60):
        run.step()
        run.events(all_of_them=True)
    assert run.is_done(), run.pods


@given(seeds)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_everything_together_settles_after_any_edits(seed):
    chance = random.Random(seed)
    cluster = Cluster(
        storm(
            role("a", 2), role("b", 1, stateful=True), replicas=2, updateStrategy={"maxSurge": 1, "maxUnavailable": 0}
        )
    )
    for number in range(6):
        spec = cluster.edit()
        match chance.randrange(5):
            case 0:
                spec["replicas"] = chance.randrange(4)
            case 1:
                spec["template"]["spec"]["roles"][0]["replicas"] = chance.randrange(4)
            case 2:
                spec["paused"] = not spec.get("paused", False)
            case 3:
                spec["updateStrategy"] = {"type": chance.choice(["RollingUpdate", "InPlaceUpdate"])}
            case _:
                image = f"engine:v{chance.randrange(number + 1)}"
                spec["template"]["spec"]["roles"][1]["template"]["spec"]["containers"][0]["image"] = image
        for _ in range(chance.randrange(4)):
            cluster.step("stormservice", "storm")
            for found in cluster.all("roleset"):
                cluster.step("roleset", name_of(found))
            cluster.finish_deletions()
            if chance.random() < 0.6:
                cluster.make_ready(*(name_of(p) for p in cluster.all("pod") if chance.random() < 0.7))
    cluster.edit()["paused"] = False
    cluster.settle()
    wanted = cluster.storm["spec"]
    assert len(cluster.all("roleset")) == wanted["replicas"]
    assert len(cluster.all("pod")) == wanted["replicas"] * (1 + wanted["template"]["spec"]["roles"][0]["replicas"])
    assert cluster.rollout is None
    assert cluster.storm["status"]["completedRevision"] == cluster.storm["status"]["updateRevision"]


def crowd(pods: int, *, wanted: int) -> World:
    """A RoleSet with that many ready pods."""
    cluster = Cluster(roleset(role(replicas=pods)))
    cluster.run()
    while len(cluster.all("pod")) < pods:
        cluster.run()
    for pod in cluster.all("pod"):
        set_ready(pod, True)
        pod["metadata"]["name"] = pod["metadata"]["name"].ljust(63, "x")
        pod["metadata"]["uid"] = "01234567-89ab-cdef-0123-456789abcdef"
    found = cluster.get("roleset", "set")
    found["spec"]["roles"][0]["replicas"] = wanted
    ref = Ref(kind="roleset", namespace="default", name="set", uid="set-uid")
    return World(ref, found, {"pod": cluster.all("pod")}, cluster.now)


def test_a_decision_about_a_thousand_pods_stays_below_32_kilobytes():
    plan = PLANNERS["roleset"].plan(crowd(1000, wanted=0), Memory(), None)
    assert plan.decision is not None
    assert len(plan.decision.model_dump_json()) < 32 * 1024


def test_large_roles_are_reached_in_several_decisions():
    cluster = Cluster(roleset(role(replicas=1200)))
    cluster.settle()
    assert len(cluster.all("pod")) == 1200
    cluster.edit("roleset", "set")["roles"][0]["replicas"] = 0
    cluster.settle()
    assert not cluster.all("pod")


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_a_plan_depends_on_what_is_there_and_not_on_its_order(seed):
    chance = random.Random(seed)
    cluster = Cluster(storm(role("a", 3), role("b", 2, stateful=True), replicas=3))
    cluster.settle()
    cluster.edit()["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "v2"
    for _ in range(chance.randrange(6)):
        cluster.run()
        cluster.make_ready(*(name_of(p) for p in cluster.all("pod") if chance.random() < 0.5))
    for key, owned in (("stormservice", ("roleset", "controllerrevision", "service")), ("roleset", ("pod",))):
        found = cluster.all(key)[0]
        uid = found["metadata"]["uid"]
        ref = Ref(kind=key, namespace="default", name=name_of(found), uid=uid)
        children = cluster.children(key, uid)
        shuffled = {child: chance.sample(children[child], len(children[child])) for child in owned}
        first = PLANNERS[key].plan(World(ref, found, children, START), Memory(), cluster.rollout)
        second = PLANNERS[key].plan(World(ref, found, shuffled, START), Memory(), cluster.rollout)
        assert first == second
