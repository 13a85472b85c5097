"""Random lives of a StormService against the model cluster: every step keeps its rules, every quiet run converges."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crds import labels
from tests.planning.model import ModelCluster
from tests.planning.model_members import policy_of
from tests.planning.model_rules import START, Json, is_leaving, replicas_of, revision_of, size_of, stamp

ROUNDS = 200
DEADLINE_SECONDS = 60
BROKEN = "broken"
some = st.one_of(st.integers(0, 2), st.sampled_from(["0%", "25%", "34%", "50%", "100%"]))
budgets = st.fixed_dictionaries({"maxSurge": some, "maxUnavailable": some})
strategies = st.sampled_from(["Parallel", "Sequential", "Interleave"])
beginnings = st.fixed_dictionaries(
    {
        "replicas": st.integers(0, 3),
        "roles": st.lists(
            st.tuples(st.integers(0, 3), st.booleans(), budgets, st.booleans(), st.integers(1, 3), st.booleans()),
            min_size=1,
            max_size=2,
        ),
        "budget": budgets,
        "strategy": strategies,
        "in_place": st.booleans(),
        "grown": st.booleans(),
        "deadline": st.sampled_from([None, "held", "taken back"]),
    }
)


def template_of(image: str) -> Json:
    return {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "engine", "image": image}]}}


def role_from(place: int, asked: tuple[Any, ...]) -> Json:
    """`asked`: replicas, stateful, budget, whether it is patient, group size, whether groups recover as one."""
    count, stateful, room, patient, size, as_one = (*asked, 1, False)[:6]
    role = {"name": f"role{place}", "replicas": count, "stateful": stateful, "template": template_of("v0")}
    role |= {"updateStrategy": {"type": "Recreate", **room}} | ({"minReadySeconds": 10} if patient else {})
    return role | ({"podGroupSize": size, "recoveryPolicy": "Group" if as_one else "Pod"} if size > 1 else {})


class Life:
    """A user edits, pods fail or start slowly, workflows act or die between two steps."""

    def __init__(
        self, replicas: int, roles: list[Any], budget: Json, strategy: str, in_place: bool, grown: bool,
        deadline: str | None = None,
    ) -> None:  # fmt: skip
        self.cluster = ModelCluster(START)
        self.templates: list[list[Json]] = []
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "s"}},
            "updateStrategy": {"type": "InPlaceUpdate" if in_place else "RollingUpdate", **budget},
            "template": {
                "metadata": {"labels": {"app": "s"}},
                "spec": {"updateStrategy": strategy, "roles": [role_from(*each) for each in enumerate(roles)]},
            },
        }
        if deadline is not None:
            spec |= {"progressDeadlineSeconds": DEADLINE_SECONDS, "automaticRollback": deadline == "taken back"}
        self.cluster.add("stormservice", "s", apiVersion=labels.ORCHESTRATION_API, kind="StormService", spec=spec)
        if grown:
            self.settle()

    def turn(self, passes: int) -> None:
        """The workflows act, and about every other pod that starts is ready by then."""
        for _ in range(passes):
            self.cluster.act_all()
            for place, pod in enumerate(self.cluster.every("pod")):
                if (self.cluster.made + place) % 2:
                    self.set_ready(pod, True)
                    self.cluster.finish(pod["metadata"]["name"])

    # --- the user ---------------------------------------------------------------------------------------------------

    def edit(self) -> Json:
        self.cluster.storm["metadata"]["generation"] += 1
        self.cluster.touch(self.cluster.storm)
        spec: Json = self.cluster.storm["spec"]
        return spec

    @property
    def roles(self) -> list[Json]:
        found: list[Json] = self.cluster.storm["spec"]["template"]["spec"]["roles"]
        return found

    def edit_template(self, place: int, number: int) -> None:
        self.change(place, {"template": template_of(f"v{number}")})

    def edit_to_a_broken_template(self, place: int, number: int) -> None:
        """Its pods never become ready."""
        self.change(place, {"template": template_of(BROKEN)})

    def edit_group_size(self, place: int, number: int) -> None:
        self.change(place, {"podGroupSize": 1 + number % 3})

    def edit_recovery(self, place: int, number: int) -> None:
        self.change(place, {"recoveryPolicy": ("Pod", "Group")[number % 2]})

    def change(self, place: int, part: Json) -> None:
        self.templates.append([deepcopy(role["template"]) for role in self.roles])
        self.edit()
        self.roles[place % len(self.roles)].update(part)

    def ask_again(self, place: int, number: int) -> None:
        self.cluster.storm["metadata"].setdefault("annotations", {})[labels.RETRY_AT] = stamp(self.cluster.now)
        self.cluster.touch(self.cluster.storm)

    def undo(self, place: int, number: int) -> None:
        """An earlier template comes back; replicas stay as they are."""
        if not self.templates:
            return
        earlier = self.templates[place % len(self.templates)]
        self.edit()
        for role, template in zip(self.roles, earlier, strict=True):
            role["template"] = deepcopy(template)

    def scale(self, place: int, number: int) -> None:
        self.edit()["replicas"] = number

    def scale_a_role(self, place: int, number: int) -> None:
        self.edit()
        self.roles[place % len(self.roles)]["replicas"] = number

    def pause(self, place: int, number: int) -> None:
        self.edit()["paused"] = bool(place % 2)

    # --- pods -------------------------------------------------------------------------------------------------------

    def pods_become_ready(self, place: int, number: int) -> None:
        for count, pod in enumerate(self.cluster.every("pod")):
            if (count + place) % 5 > number:
                self.set_ready(pod, True)

    def all_pods_become_ready(self, place: int, number: int) -> None:
        for pod in self.cluster.every("pod"):
            self.set_ready(pod, True)

    def a_pod_turns_unready(self, place: int, number: int) -> None:
        if pods := self.cluster.every("pod"):
            self.set_ready(pods[place % len(pods)], False)

    def a_pod_fails(self, place: int, number: int) -> None:
        if pods := self.cluster.every("pod"):
            pods[place % len(pods)]["status"] = {"phase": "Failed"}

    def a_pod_vanishes(self, place: int, number: int) -> None:
        if pods := self.cluster.every("pod"):
            del self.cluster.objects["pod", pods[place % len(pods)]["metadata"]["name"]]

    def a_pod_has_left(self, place: int, number: int) -> None:
        if pods := [pod for pod in self.cluster.every("pod") if is_leaving(pod)]:
            self.cluster.finish(pods[place % len(pods)]["metadata"]["name"])

    def a_container_restarts(self, place: int, number: int) -> None:
        if pods := [pod for pod in self.cluster.every("pod") if pod["status"]["phase"] == "Running"]:
            ended = {"terminated": {"finishedAt": stamp(self.cluster.now)}}
            restarted = {"name": "engine", "restartCount": 1 + number, "lastState": ended}
            pods[place % len(pods)]["status"]["containerStatuses"] = [restarted]

    def set_ready(self, pod: Json, ready: bool) -> None:
        before = (pod.get("status") or {}).get("conditions") or [{"status": "False"}]
        if pod["status"]["phase"] == "Failed" or is_leaving(pod) or before[0]["status"] == str(ready):
            return
        if ready and pod["spec"]["containers"][0]["image"] == BROKEN:
            return
        found = {"type": "Ready", "status": str(ready), "lastTransitionTime": stamp(self.cluster.now)}
        pod["status"] = pod["status"] | {"phase": "Running", "conditions": [found]}

    # --- the operator and time --------------------------------------------------------------------------------------

    def workflows_die_after_some_steps(self, place: int, number: int) -> None:
        self.cluster.act_all(at_most=number)

    def time_passes(self, place: int, number: int) -> None:
        self.cluster.now += timedelta(seconds=10 * number + 1)

    def a_deadline_passes(self, place: int, number: int) -> None:
        self.cluster.now += timedelta(seconds=DEADLINE_SECONDS + number)

    # --- the end ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """What is broken is mended, and all may go on."""
        self.mend()
        self.edit()["paused"] = False
        self.ask_again(0, 0)
        self.settle()
        self.is_as_asked()

    def mend(self) -> None:
        for place, role in enumerate(self.roles):
            if role["template"] == template_of(BROKEN):
                self.change(place, {"template": template_of("mended")})

    def settle(self) -> None:
        """Pods do as they are told until nothing has happened for longer than any pause of ours."""
        quiet, patience = 0, 8 if "progressDeadlineSeconds" in self.cluster.storm["spec"] else 2
        for _ in range(ROUNDS):
            quiet = 0 if self.cluster.act_all() else quiet + 1
            for pod in self.cluster.every("pod"):
                self.set_ready(pod, True)
                self.cluster.finish(pod["metadata"]["name"])
            if quiet > patience:
                return
            self.cluster.now += timedelta(seconds=11) if quiet < patience else timedelta(minutes=6)
        raise AssertionError(f"it never comes to rest: {self.cluster.log[-12:]}")

    def is_as_asked(self) -> None:
        storm, spec = self.cluster.storm, self.cluster.storm["spec"]
        rolesets = self.cluster.every("roleset")
        assert len(rolesets) == replicas_of(spec)
        assert len({revision_of(found) for found in rolesets}) <= 1
        assert self.cluster.rollout is None
        assert storm["status"]["completedRevision"] == storm["status"]["updateRevision"]
        assert self.cluster.failed == ""
        for found in rolesets:
            assert self.cluster.is_roleset_available(found)
            for role in self.roles:
                members = self.cluster.members_of(found, role["name"])
                assert len(members) == replicas_of(role)
                assert all(self.cluster.is_current(member, role) for member in members)
                self.are_whole([member for member in members if size_of(role) > 1], role)

    def is_at(self, revision: str) -> None:
        """Everything serves at an earlier revision, although the spec asks for another."""
        status = self.cluster.storm["status"]
        assert (status["updateRevision"], status["completedRevision"]) == (revision, revision)
        found = self.cluster.every("roleset")
        assert len(found) == replicas_of(self.cluster.storm["spec"])
        assert {revision_of(each) for each in found} == {revision}
        assert all(self.cluster.is_roleset_available(each) for each in found)

    def is_held_at(self, revision: str) -> None:
        """The rollout stands still in its budget and says so."""
        status = self.cluster.storm["status"]
        assert status["updateRevision"] == revision
        assert self.cluster.rollout is None
        said = {each["type"]: each for each in status["conditions"]}
        assert said["Progressing"]["reason"] == labels.REASON_DEADLINE

    def are_whole(self, groups: list[Json], role: Json) -> None:
        for group in groups:
            assert len(self.cluster.every("pod", group)) == size_of(role)
            assert group["spec"]["recoveryPolicy"] == policy_of(role)["recoveryPolicy"]


HAPPENINGS = (
    Life.edit_template, Life.undo, Life.scale, Life.scale_a_role, Life.pause, Life.pods_become_ready,
    Life.all_pods_become_ready, Life.a_pod_turns_unready, Life.a_pod_fails, Life.a_pod_vanishes, Life.a_pod_has_left,
    Life.workflows_die_after_some_steps, Life.time_passes, Life.edit_to_a_broken_template, Life.a_deadline_passes,
    Life.ask_again, Life.a_container_restarts, Life.edit_group_size, Life.edit_recovery,
)  # fmt: skip
happenings = st.lists(
    st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 1000), st.integers(0, 4), st.integers(0, 2)),
    min_size=8,
    max_size=20,
)


FOUND = {"roles": [(0, False, {}, False)], "budget": {}, "strategy": "Parallel", "in_place": False}
"""Lives that broke a rule once stay as examples."""


@given(beginnings, happenings)
@example(
    {**FOUND, "replicas": 3, "grown": True},
    [(Life.scale, 0, 4, 0), (Life.pause, 1, 0, 0), (Life.edit_template, 0, 1, 1)],
)
@example(
    {**FOUND, "replicas": 2, "grown": False},
    [
        (Life.edit_template, 0, 1, 0),
        (Life.scale_a_role, 0, 0, 2),
        (Life.edit_template, 0, 0, 0),
        (Life.scale_a_role, 0, 1, 1),
    ],
)
@settings(
    max_examples=settings.default.max_examples // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_every_step_keeps_its_rules_and_every_quiet_run_converges(beginning: Json, events: list[Any]) -> None:
    life = Life(**beginning)
    for happens, place, number, passes in events:
        happens(life, place, number)
        life.turn(passes)
    life.end()


@given(beginnings, st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=settings.default.max_examples // 10, deadline=None)
def test_a_rollout_whose_pods_never_start_ends_by_its_deadline_and_a_mended_template_converges(
    beginning: Json, replicas: int, number: int
) -> None:
    """What is broken takes no more than the budget with it; taken back, all is as it was."""
    life = Life(**beginning | {"replicas": replicas, "grown": True, "deadline": beginning["deadline"] or "held"})
    before = life.cluster.storm["status"]["completedRevision"]
    place = number % len(life.roles)
    life.roles[place]["replicas"] = max(1, replicas_of(life.roles[place]))
    life.edit_to_a_broken_template(place, 0)
    life.settle()
    failed = life.cluster.failed
    assert failed != before
    assert failed == life.cluster.newest_revision
    life.is_at(before) if beginning["deadline"] == "taken back" else life.is_held_at(failed)
    life.end()
