"""Random lives of a StormService against the model cluster: every step keeps its rules, every quiet run converges."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crds import labels
from tests.planning.model import START, ModelCluster, is_leaving, replicas_of, revision_of, stamp

Json = dict[str, Any]
ROUNDS = 150
budgets = st.fixed_dictionaries({"maxSurge": st.integers(0, 2), "maxUnavailable": st.integers(0, 2)})
strategies = st.sampled_from(["Parallel", "Sequential", "Interleave"])
beginnings = st.fixed_dictionaries(
    {
        "replicas": st.integers(0, 3),
        "roles": st.lists(st.tuples(st.integers(0, 3), st.booleans(), budgets, st.booleans()), min_size=1, max_size=2),
        "budget": budgets,
        "strategy": strategies,
        "in_place": st.booleans(),
        "grown": st.booleans(),
    }
)


def template_of(image: str) -> Json:
    return {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "engine", "image": image}]}}


class Life:
    """A user edits, pods fail or start slowly, workflows act or die between two steps."""

    def __init__(
        self, replicas: int, roles: list[Any], budget: Json, strategy: str, in_place: bool, grown: bool
    ) -> None:
        self.cluster = ModelCluster(START)
        self.templates: list[list[Json]] = []
        made = [
            {"name": f"role{place}", "replicas": count, "stateful": stateful, "template": template_of("v0")}
            | {"updateStrategy": {"type": "Recreate", **room}}
            | ({"minReadySeconds": 10} if patient else {})
            for place, (count, stateful, room, patient) in enumerate(roles)
        ]
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "s"}},
            "updateStrategy": {"type": "InPlaceUpdate" if in_place else "RollingUpdate", **budget},
            "template": {"metadata": {"labels": {"app": "s"}}, "spec": {"updateStrategy": strategy, "roles": made}},
        }
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
        self.templates.append([deepcopy(role["template"]) for role in self.roles])
        self.edit()
        self.roles[place % len(self.roles)]["template"] = template_of(f"v{number}")

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

    def set_ready(self, pod: Json, ready: bool) -> None:
        before = (pod.get("status") or {}).get("conditions") or [{"status": "False"}]
        if pod["status"]["phase"] == "Failed" or is_leaving(pod) or before[0]["status"] == str(ready):
            return
        found = {"type": "Ready", "status": str(ready), "lastTransitionTime": stamp(self.cluster.now)}
        pod["status"] = {"phase": "Running", "conditions": [found]}

    # --- the operator and time --------------------------------------------------------------------------------------

    def workflows_die_after_some_steps(self, place: int, number: int) -> None:
        self.cluster.act_all(at_most=number)

    def time_passes(self, place: int, number: int) -> None:
        self.cluster.now += timedelta(seconds=10 * number + 1)

    # --- the end ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        self.edit()["paused"] = False
        self.settle()
        self.is_as_asked()

    def settle(self) -> None:
        for _ in range(ROUNDS):
            acted = self.cluster.act_all()
            for pod in self.cluster.every("pod"):
                self.set_ready(pod, True)
                self.cluster.finish(pod["metadata"]["name"])
            self.cluster.now += timedelta(seconds=11)
            if not acted and not self.cluster.act_all():
                return
        raise AssertionError(f"it never comes to rest: {self.cluster.log[-12:]}")

    def is_as_asked(self) -> None:
        storm, spec = self.cluster.storm, self.cluster.storm["spec"]
        rolesets = self.cluster.every("roleset")
        assert len(rolesets) == replicas_of(spec)
        assert len({revision_of(found) for found in rolesets}) <= 1
        assert self.cluster.rollout is None
        assert storm["status"]["completedRevision"] == storm["status"]["updateRevision"]
        for found in rolesets:
            assert self.cluster.is_roleset_available(found)
            for role in self.roles:
                pods = self.cluster.pods_of(found, role["name"])
                assert len(pods) == replicas_of(role)
                assert all(self.cluster.is_current(pod, role) for pod in pods)


HAPPENINGS = (
    Life.edit_template, Life.undo, Life.scale, Life.scale_a_role, Life.pause, Life.pods_become_ready,
    Life.all_pods_become_ready, Life.a_pod_turns_unready, Life.a_pod_fails, Life.a_pod_vanishes, Life.a_pod_has_left,
    Life.workflows_die_after_some_steps, Life.time_passes,
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
