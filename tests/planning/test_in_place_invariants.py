"""What holds in any order of edits, failures and time, with in-place updates, drains and minimum readiness."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planning.objects import annotations_of, condition, is_condition_true, is_deleting, name_of, parse_time
from tests.planning.kubelet import refresh, run, run_all
from tests.planning.world import Cluster, role, roleset
from tests.planning.world_pods import set_condition

Json = dict[str, Any]
PLACE = "stormservice.orchestration.aibrix.ai/role-replica-index"
MARK = "stormservice.orchestration.aibrix.ai/in-place-update-target-hash"


class Life:
    """One RoleSet with two roles; the test's own count of what serves knows nothing of the planner's."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.cluster = Cluster(roleset(*(self._role(name) for name in ("a", "b")), update_strategy=self._strategy()))
        self._settle()

    def _strategy(self) -> str:
        return self.chance.choice(["Parallel", "Sequential", "Interleave"])

    def _role(self, name: str) -> Json:
        chance = self.chance
        surge, unavailable = chance.choice([(0, 1), (1, 0), (1, 1), (0, 2), (2, 1)])
        return role(
            name,
            chance.randint(1, 4),
            type=chance.choice(["InPlaceIfPossible", "InPlaceIfPossible", "Recreate"]),
            stateful=chance.random() < 0.4,
            maxSurge=surge,
            maxUnavailable=unavailable,
            drainSeconds=chance.choice([0, 0, 20]),
            minReadySeconds=chance.choice([0, 0, 10]),
        )

    def spec(self) -> list[Json]:
        found: list[Json] = self.cluster.get("roleset", "set")["spec"]["roles"]
        return found

    def available(self, spec: Json) -> set[str]:
        """Pods of the role that serve requests and have done so for long enough; places, where they have places."""
        wait = timedelta(seconds=spec.get("minReadySeconds") or 0)
        return {
            annotations_of(pod).get(PLACE, name_of(pod))
            for pod in self.cluster.all("pod")
            if pod["metadata"]["labels"]["role-name"] == spec["name"] and not is_deleting(pod)
            and is_condition_true(pod, "Ready") and self._runs_its_spec(pod)
            and parse_time(condition(pod, "Ready")["lastTransitionTime"]) + wait <= self.cluster.now
        }  # fmt: skip

    def _runs_its_spec(self, pod: Json) -> bool:
        """Not about to be restarted for another image."""
        statuses = {each["name"]: each["imageID"] for each in pod["status"].get("containerStatuses", ())}
        return all(statuses.get(each["name"]) == f"sha256:{each['image']}" for each in pod["spec"]["containers"])

    def step(self) -> None:
        """One decision; it takes no available pod below the floor, and makes no pod beyond the surge."""
        before = {spec["name"]: self.available(spec) for spec in self.spec()}
        counts = {spec["name"]: self._count(spec) for spec in self.spec()}
        self.cluster.step("roleset", "set")
        for spec in self.spec():
            strategy, desired = spec["updateStrategy"], spec["replicas"]
            floor = max(0, desired - strategy["maxUnavailable"])
            left = len(self.available(spec))
            assert left >= min(len(before[spec["name"]]), floor), (spec["name"], self.cluster.decisions[-1])
            assert self._count(spec) <= max(desired + strategy["maxSurge"], counts[spec["name"]])

    def _count(self, spec: Json) -> int:
        """Pods of the role but those that have ended, or stay although their grace has long been over."""
        pods = [p for p in self.cluster.all("pod") if p["metadata"]["labels"]["role-name"] == spec["name"]]
        living = [p for p in pods if p.get("status", {}).get("phase") != "Failed"]
        long_ago = self.cluster.now - timedelta(minutes=2)
        return sum(not is_deleting(p) or parse_time(p["metadata"]["deletionTimestamp"]) > long_ago for p in living)

    def event(self) -> None:
        match self.chance.randrange(8):
            case 0:
                self._edit()
            case 1:
                self.cluster.finish_deletions()
            case 2 | 3:
                self.cluster.now += timedelta(seconds=self.chance.choice([1, 5, 20]))
            case 4:
                self._fail()
            case _:
                for pod in self.cluster.all("pod"):
                    if not is_deleting(pod) and pod.get("status", {}).get("phase") != "Failed" and self._likely():
                        run(self.cluster, pod, ready=self._likely() or self._likely())

    def _likely(self) -> bool:
        return self.chance.random() < 0.7

    def _edit(self) -> None:
        found = self.chance.choice(self.cluster.edit("roleset", "set")["roles"])
        container = found["template"]["spec"]["containers"][0]
        match self.chance.randrange(4):
            case 0:
                found["replicas"] = self.chance.randint(0, 4)
            case 1:
                container["command"] = [self.chance.choice("xyz")]
            case _:
                container["image"] = f"engine:v{self.chance.randint(1, 3)}"

    def _fail(self) -> None:
        living = [pod for pod in self.cluster.all("pod") if not is_deleting(pod)]
        if not living:
            return
        pod = self.chance.choice(living)
        if self.chance.random() < 0.5:
            pod.setdefault("status", {})["phase"] = "Failed"
            set_condition(pod, "Ready", False, self.cluster.now)
        elif pod.get("status", {}).get("containerStatuses"):
            set_condition(pod, "ContainersReady", False, self.cluster.now)
            refresh(self.cluster, pod)

    def _settle(self) -> None:
        """Nothing fails and time passes until nobody wants anything any more."""
        quiet = 0
        for _ in range(300):
            acted = self.cluster.step("roleset", "set")
            self.cluster.finish_deletions()
            for pod in self.cluster.all("pod"):
                if not is_deleting(pod) and pod.get("status", {}).get("phase") != "Failed":
                    run(self.cluster, pod)
            self.cluster.now += timedelta(seconds=5)
            quiet = 0 if acted else quiet + 1
            if quiet > 12:
                return
        raise AssertionError(f"does not settle: {self.cluster.decisions[-1]}")

    def check_end(self) -> None:
        self._settle()
        run_all(self.cluster)
        for spec in self.spec():
            pods = [p for p in self.cluster.all("pod") if p["metadata"]["labels"]["role-name"] == spec["name"]]
            assert len(pods) == spec["replicas"]
            container = spec["template"]["spec"]["containers"][0]
            for pod in pods:
                live = pod["spec"]["containers"][0]
                assert (live["image"], live.get("command")) == (container["image"], container.get("command"))
                assert MARK not in annotations_of(pod)
                assert is_condition_true(pod, "Ready")


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_floor_holds_and_every_quiet_run_ends_updated(seed: int) -> None:
    life = Life(seed)
    for _ in range(life.chance.randrange(40)):
        life.event()
        life.step()
    life.check_end()
