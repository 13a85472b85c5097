"""Roles of groups under random lives: the budget holds for each step of ours, and every quiet run converges."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from planning.groups import leaves_by as groups_limit
from planning.objects import is_deleting, labels_of, name_of, uid_of
from tests.planning.world import Cluster, role, roleset, set_ready

# `make soak` looks further.
EXAMPLES = 60 if settings.default is None or settings.default.max_examples <= 100 else settings.default.max_examples
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["image", "scale", "size", "policy", "fail", "restart", "lose", "leave", "drop", "ready", "gone", "wait"]
        ),
        st.integers(0, 9),
    ),
    max_size=25,
)


def groups(cluster: Cluster) -> list[dict[str, Any]]:
    return [found for found in cluster.all("podset") if not is_deleting(found)]


def ready_uids(cluster: Cluster) -> set[str]:
    return {uid_of(found) for found in groups(cluster) if found.get("status", {}).get("phase") == "Ready"}


def ready_slots(cluster: Cluster) -> set[str]:
    """What a budget of slots counts: an old group beside its ready successor is spare."""
    slot = "stormservice.orchestration.aibrix.ai/role-replica-index"
    ready = ready_uids(cluster)
    return {labels_of(found)[slot] for found in groups(cluster) if uid_of(found) in ready}


def worker(cluster: Cluster) -> dict[str, Any]:
    return cluster.edit("roleset", "set")["roles"][0]


def act(cluster: Cluster, what: str, number: int) -> None:
    """One thing that a user, a node or time does."""
    pods = sorted(cluster.all("pod"), key=name_of)
    pod = pods[number % len(pods)] if pods else None
    match what:
        case "image":
            worker(cluster)["template"]["spec"]["containers"][0]["image"] = f"engine:v{number}"
        case "scale":
            worker(cluster)["replicas"] = number % 4
        case "size":
            worker(cluster)["podGroupSize"] = 1 + number % 3
        case "policy":
            worker(cluster)["recoveryPolicy"] = ("Pod", "Group")[number % 2]
        case "ready":
            cluster.make_ready(*([name_of(pod)] if pod and number < 7 else []))
        case "gone":
            cluster.finish_deletions()
        case "wait":
            cluster.now += timedelta(minutes=number)
        case _ if pod is not None:
            harm(cluster, what, pod)


def harm(cluster: Cluster, what: str, pod: dict[str, Any]) -> None:
    match what:
        case "fail":
            pod["status"] = {"phase": "Failed"}
        case "restart":
            pod.setdefault("status", {})["containerStatuses"] = [{"name": "engine", "restartCount": 1}]
        case "lose":
            del cluster.objects["pod", name_of(pod)]
        case "leave":
            cluster.delete("pod", name_of(pod), after=timedelta(seconds=30))
        case "drop":
            set_ready(pod, False)


def step_all(cluster: Cluster) -> None:
    """Each object plans and acts once; a RoleSet's step takes no ready group below the floor."""
    for key, name in [key for key in list(cluster.objects) if key[0] == "podset"]:
        if (key, name) in cluster.objects:
            cluster.step(key, name)
    spec = cluster.get("roleset", "set")["spec"]["roles"][0]
    desired, surge, unavailable = spec["replicas"], 1, 1
    if int(spec.get("podGroupSize") or 1) < 2:
        cluster.step("roleset", "set")
        return
    before, total = ready_slots(cluster), counted(cluster)
    ready_pods = sum(is_ready(pod) for pod in direct(cluster))
    cluster.step("roleset", "set")
    taken = len(before - ready_slots(cluster))
    assert taken <= max(0, len(before) + ready_pods - (desired - unavailable))
    assert counted(cluster) <= max(total, desired + (surge if desired else 0))


def counted(cluster: Cluster) -> int:
    """Members but for those that have ended or should be gone long since: their places may be filled."""
    now, limit = cluster.now, groups_limit
    alive = [pod for pod in direct(cluster) if pod.get("status", {}).get("phase") != "Failed"]
    members = [*cluster.all("podset"), *alive]
    return sum((until := limit(found)) is None or until > now for found in members)


def direct(cluster: Cluster) -> list[dict[str, Any]]:
    return [pod for pod in cluster.all("pod") if pod["metadata"]["ownerReferences"][0]["kind"] == "RoleSet"]


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return not is_deleting(pod) and any(each["status"] == "True" for each in conditions)


def settle(cluster: Cluster) -> None:
    for _ in range(80):
        before = len(cluster.decisions), cluster.statuses
        cluster.now += timedelta(minutes=6)
        cluster.finish_deletions()
        for pod in cluster.all("pod"):
            ended = pod.get("status", {}).get("phase") == "Failed"
            if not ended and not is_deleting(pod):
                set_ready(pod, True)
        step_all(cluster)
        if (len(cluster.decisions), cluster.statuses) == before:
            return
    raise AssertionError(f"no end: {cluster.decisions[-1]}")


@settings(max_examples=EXAMPLES, deadline=None)
@given(ACTIONS, st.integers(1, 3), st.integers(2, 3))
def test_whatever_happens_the_budget_holds_and_the_role_comes_to_rest(actions, replicas, size):
    cluster = Cluster(roleset(role("worker", replicas, podGroupSize=size, maxSurge=1, maxUnavailable=1)))
    for what, number in actions:
        act(cluster, what, number)
        step_all(cluster)
    settle(cluster)
    spec = cluster.get("roleset", "set")["spec"]["roles"][0]
    size, image = int(spec.get("podGroupSize") or 1), spec["template"]["spec"]["containers"][0]["image"]
    assert len(cluster.all("pod")) == spec["replicas"] * size
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.all("pod")} <= {image}
    if size > 1:
        assert len(ready_uids(cluster)) == len(cluster.all("podset")) == spec["replicas"]
        assert {len(members) for members in ranks(cluster).values()} <= {size}
    else:
        assert cluster.all("podset") == []


def ranks(cluster: Cluster) -> dict[str, set[str]]:
    """Indexes of the pods of each group."""
    found: dict[str, set[str]] = {}
    for pod in cluster.all("pod"):
        key = "stormservice.orchestration.aibrix.ai"
        found.setdefault(labels_of(pod)[f"{key}/podset-name"], set()).add(labels_of(pod)[f"{key}/pod-group-index"])
    return found
