"""What a node does to pods of the planners' world: containers that run an image, and the conditions that follow."""

from __future__ import annotations

from typing import Any

from planning.flight import has_gate
from planning.objects import is_condition_true, is_deleting, status_of
from tests.planning.world import Cluster
from tests.planning.world_pods import set_condition

Json = dict[str, Any]
GATE = "stormservice.orchestration.aibrix.ai/in-place-update-ready"


def run(cluster: Cluster, pod: Json, *, ready: bool = True) -> None:
    """The containers run what the spec says; one whose image has changed was restarted for it."""
    before = {each["name"]: each for each in status_of(pod).get("containerStatuses", ())}
    statuses = []
    for container in pod["spec"]["containers"]:
        image_id = f"sha256:{container['image']}"
        known = before.get(container["name"], {"imageID": image_id, "restartCount": 0})
        restarts = known["restartCount"] + (known["imageID"] != image_id)
        statuses.append(
            {"name": container["name"], "imageID": image_id, "restartCount": restarts, "ready": ready,
             "state": {"running": {}}}
        )  # fmt: skip
    pod.setdefault("status", {}).update({"phase": "Running", "containerStatuses": statuses})
    set_condition(pod, "ContainersReady", ready, cluster.now)
    refresh(cluster, pod)


def refresh(cluster: Cluster, pod: Json) -> None:
    """Ready as a kubelet computes it: all containers, and all gates."""
    is_ready = is_condition_true(pod, "ContainersReady") and (not has_gate(pod) or is_condition_true(pod, GATE))
    if is_condition_true(pod, "Ready") != is_ready:
        set_condition(pod, "Ready", is_ready, cluster.now)


def run_all(cluster: Cluster) -> None:
    for pod in cluster.all("pod"):
        if not is_deleting(pod):
            run(cluster, pod)


def settle(cluster: Cluster, limit: int = 60) -> None:
    """Nodes and planners in turn until nothing is left to do."""
    for _ in range(limit):
        before = len(cluster.decisions)
        cluster.run()
        run_all(cluster)
        if len(cluster.decisions) == before and cluster.run() == 0:
            return
    raise AssertionError(f"does not settle: {cluster.decisions[-1]}")
