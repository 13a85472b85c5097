"""Which pods can be updated in place (roleset 7.2, cases 33, 34 and 36)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from planning.eligibility import Eligibility
from planning.names import role_hash
from planning.render import render_pod
from tests.planning.world import role, roleset

Json = dict[str, Any]
SHAPE = "brixflow.aibrix.ai/in-place-shape"
NON_IMAGE = "non-image pod fields changed"
INIT_IMAGE = "init container image changes require pod recreation"


def worker(image: str = "engine:v1") -> Json:
    found = role("worker", 1, image, type="InPlaceIfPossible")
    found["template"]["spec"]["initContainers"] = [
        {"name": "fetch", "image": "fetch:v1", "env": [{"name": "A", "value": "1"}]}
    ]
    return found


def labelled(found: Json) -> Json:
    return roleset(found, labels={"storm-service-name": "storm"})


def made(found: Json, slot: int | None = None) -> Json:
    return render_pod(labelled(found), "worker", name="pod-1", slot=slot)


def of_aibrix(pod: Json) -> Json:
    """As another release made it: without our marks, compared field by field."""
    kept = {k: v for k, v in pod["metadata"]["annotations"].items() if not k.startswith("brixflow.aibrix.ai/")}
    pod["metadata"]["annotations"] = kept
    return pod


def fault(pod: Json, found: Json) -> str:
    return Eligibility(labelled(found), found).fault_of(pod)


def defaulted(pod: Json) -> Json:
    """The pod with all that a cluster adds (7.2)."""
    pod["metadata"] |= {
        "uid": "u", "resourceVersion": "7", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{}],
    }  # fmt: skip
    token = {"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    taints = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    pod["spec"] |= {
        "nodeName": "node-1", "schedulerName": "default-scheduler", "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30, "enableServiceLinks": True,
        "serviceAccountName": "default", "serviceAccount": "default", "securityContext": {}, "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority", "volumes": [token], "hostname": "pod-1",
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300} for key in taints
        ],
    }  # fmt: skip
    for container in (*pod["spec"]["containers"], *pod["spec"]["initContainers"]):
        container |= {
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent", "resources": {},
            "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets"}],
        }  # fmt: skip
    pod["status"] = {"phase": "Running"}
    return pod


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("slot", [None, 0])
def test_33_a_live_pod_with_all_that_a_cluster_adds_is_eligible(foreign: bool, slot: int | None) -> None:
    pod = defaulted(made(worker(), slot))
    assert fault(of_aibrix(pod) if foreign else pod, worker("engine:v2")) == ""


def test_what_admission_and_the_network_add_makes_no_difference_to_our_own_pods() -> None:
    pod = defaulted(made(worker()))
    pod["metadata"]["annotations"]["cni.example/ips"] = "10.0.0.1"
    pod["spec"]["containers"].append({"name": "sidecar", "image": "mesh:1"})
    pod["spec"]["containers"][0]["livenessProbe"] = {"timeoutSeconds": 1}
    assert fault(pod, worker("engine:v2")) == ""


def annotation(found: Json) -> None:
    found["template"]["metadata"]["annotations"] = {"a": "b"}


def finalizer(found: Json) -> None:
    found["template"]["metadata"]["finalizers"] = ["a/b"]


def ephemeral(found: Json) -> None:
    found["template"]["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "busybox:2"}]


def init_environment(found: Json) -> None:
    found["template"]["spec"]["initContainers"][0]["env"][0]["value"] = "2"


def init_image(found: Json) -> None:
    found["template"]["spec"]["initContainers"][0]["image"] = "fetch:v2"


def environment(found: Json) -> None:
    found["template"]["spec"]["containers"][0]["env"] = [{"name": "B", "value": "2"}]


def another_container(found: Json) -> None:
    found["template"]["spec"]["containers"].append({"name": "more", "image": "more:v1"})


def latest(found: Json) -> None:
    """The pull policy that follows from the tag cannot change in a running pod."""
    found["template"]["spec"]["containers"][0]["image"] = "engine:latest"


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (annotation, NON_IMAGE), (finalizer, NON_IMAGE), (ephemeral, NON_IMAGE), (init_environment, NON_IMAGE),
        (init_image, INIT_IMAGE), (environment, NON_IMAGE), (another_container, NON_IMAGE), (latest, NON_IMAGE),
    ],
)  # fmt: skip
def test_34_any_other_change_is_not(foreign: bool, change: Callable[[Json], None], reason: str) -> None:
    pod, found = defaulted(made(worker())), worker("engine:v2")
    change(found)
    assert fault(of_aibrix(pod) if foreign else pod, found) == reason


def test_34_a_token_of_another_name_makes_a_pod_of_another_release_ineligible() -> None:
    pod = defaulted(made(worker()))
    pod["spec"]["volumes"][0]["name"] = "custom-token"
    assert fault(deepcopy(pod), worker("engine:v2")) == ""
    assert fault(of_aibrix(pod), worker("engine:v2")) == NON_IMAGE


def test_a_topology_policy_that_changed_needs_a_new_pod() -> None:
    pod, found = made(worker()), worker("engine:v2")
    owner = labelled(found)
    owner["spec"]["topologyPolicy"] = {"scope": "RoleSet", "key": "rack"}
    assert Eligibility(owner, found).fault_of(pod) == NON_IMAGE


@pytest.mark.parametrize("foreign", [False, True])
def test_labels_of_revisions_and_marks_of_an_update_make_no_difference(foreign: bool) -> None:
    pod = defaulted(made(worker()))
    prefix = "stormservice.orchestration.aibrix.ai/"
    pod["metadata"]["labels"] |= {f"{prefix}role-revision": "1", f"{prefix}role-revision-name": "storm-a"}
    marks = ("in-place-update-target-hash", "in-place-update-state", "in-place-update-pending-reason")
    pod["metadata"]["annotations"] |= {prefix + mark: "x" for mark in marks}
    assert fault(of_aibrix(pod) if foreign else pod, worker("engine:v2")) == ""


def test_a_place_that_is_no_number_is_said() -> None:
    pod = made(worker(), 0)
    pod["metadata"]["annotations"]["stormservice.orchestration.aibrix.ai/role-replica-index"] = "one"
    assert fault(pod, worker("engine:v2")) == 'invalid role replica index "one"'


def test_without_another_image_there_is_nothing_to_patch() -> None:
    pod = made(worker())
    assert fault(pod, worker()) == "pod is already updated"
    pod["metadata"]["labels"]["role-template-hash"] = "other"
    assert fault(pod, worker()) == "no container image changes found"


def test_36_images_of_init_containers_are_never_patched() -> None:
    pod, found = made(worker()), worker("engine:v2")
    init_image(found)
    assert Eligibility(labelled(found), found).changed_images(pod) == {"engine": "engine:v2"}


def test_replicas_and_rollout_settings_are_no_part_of_the_shape() -> None:
    found = worker()
    found |= {"replicas": 7, "drainSeconds": 5, "minReadySeconds": 3}
    first, second = made(worker()), made(found)
    assert first["metadata"]["annotations"][SHAPE] == second["metadata"]["annotations"][SHAPE]
    assert role_hash(found) == role_hash(worker())
