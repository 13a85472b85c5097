"""The resource definitions, asked of a real API server (CRD cases B1 to B13, B30)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from crds import generate
from local.kubeconfig import KubectlError

NAMESPACE = "crds-test"


def storm(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "t"}}, "spec": {"roles": [role()]}}
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "StormService",
        "metadata": {"name": "t", "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": "t"}}, "template": template} | spec,
    }


def role(**fields: Any) -> dict[str, Any]:
    return {"name": "worker", "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}} | fields


def roleset(*roles: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "RoleSet",
        "metadata": {"name": "t", "namespace": NAMESPACE},
        "spec": {"roles": list(roles) or [role()]} | spec,
    }


@pytest.fixture(scope="module", autouse=True)
def namespace(control_plane):
    control_plane.kubectl("create", "namespace", NAMESPACE)
    yield
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def stored(control_plane, manifest: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server would store it."""
    text = control_plane.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(manifest))
    return json.loads(text)


def refusal(control_plane, manifest: dict[str, Any]) -> str:
    with pytest.raises(KubectlError) as caught:
        stored(control_plane, manifest)
    return str(caught.value)


def test_the_files_under_deploy_are_those_of_the_models():
    assert generate.stale() == []


def test_absent_replicas_are_one(control_plane):
    found = stored(control_plane, storm())
    assert found["spec"]["replicas"] == 1
    assert found["spec"]["template"]["spec"]["roles"][0]["replicas"] == 1


@pytest.mark.parametrize("missing", ["selector", "template"])
def test_b1_selector_and_template_are_required(control_plane, missing):
    manifest = storm()
    del manifest["spec"][missing]
    assert missing in refusal(control_plane, manifest)


def test_b2_an_empty_strategy_is_a_rolling_update(control_plane):
    found = stored(control_plane, storm(updateStrategy={}))
    assert found["spec"]["updateStrategy"] == {"type": "RollingUpdate"}


def test_b3_an_unknown_strategy_is_refused(control_plane):
    assert "Unsupported value" in refusal(control_plane, storm(updateStrategy={"type": "Recreate"}))


def test_b4_a_roleset_without_strategy_is_sequential(control_plane):
    assert stored(control_plane, roleset())["spec"]["updateStrategy"] == "Sequential"


def test_b5_a_role_strategy_without_type_recreates(control_plane):
    found = stored(control_plane, roleset(role(updateStrategy={"maxUnavailable": 1})))
    assert found["spec"]["roles"][0]["updateStrategy"] == {"type": "Recreate", "maxUnavailable": 1}


@pytest.mark.parametrize(("size", "accepted"), [(0, False), (1, True), (100, True), (101, False)])
def test_b6_group_sizes_go_from_1_to_100(control_plane, size, accepted):
    manifest = roleset(role(podGroupSize=size))
    if accepted:
        assert stored(control_plane, manifest)["spec"]["roles"][0]["podGroupSize"] == size
    else:
        assert "podGroupSize" in refusal(control_plane, manifest)


def test_b7_upgrade_orders_start_at_1(control_plane):
    assert "upgradeOrder" in refusal(control_plane, roleset(role(upgradeOrder=0)))


@pytest.mark.parametrize(
    ("strategy", "complaint"),
    [
        ({"godelSchedulingStrategy": {}, "volcanoSchedulingStrategy": {}}, "at most 1"),
        ({"coschedulingSchedulingStrategy": {"minMember": 0}}, "minMember"),
    ],
)
def test_b10_b11_one_gang_scheduler_with_at_least_one_member(control_plane, strategy, complaint):
    assert complaint in refusal(control_plane, roleset(schedulingStrategy=strategy))


@pytest.mark.parametrize("key", [None, "with space", "a" * 318])
def test_b12_a_topology_policy_needs_a_label_key(control_plane, key):
    policy = {"scope": "RoleSet"} | ({"key": key} if key is not None else {})
    assert "topologyPolicy.key" in refusal(control_plane, roleset(topologyPolicy=policy))


def test_b13_a_topology_policy_prefers(control_plane):
    policy = {"scope": "RoleSet", "key": "kubernetes.io/hostname"}
    found = stored(control_plane, roleset(topologyPolicy=policy))
    assert found["spec"]["topologyPolicy"]["mode"] == "Preferred"


def test_two_roles_of_one_name_are_refused(control_plane):
    assert "Duplicate value" in refusal(control_plane, roleset(role(), role()))


def test_fields_of_newer_pods_are_kept(control_plane):
    made = role()
    made["template"]["spec"]["resources"] = {"limits": {"cpu": "1"}}
    found = stored(control_plane, roleset(made))
    assert found["spec"]["roles"][0]["template"]["spec"]["resources"] == {"limits": {"cpu": "1"}}


def test_surge_may_be_a_number_or_text(control_plane):
    found = stored(control_plane, storm(updateStrategy={"maxSurge": "25%", "maxUnavailable": 1}))
    assert found["spec"]["updateStrategy"] == {"type": "RollingUpdate", "maxSurge": "25%", "maxUnavailable": 1}


def test_b30_the_scale_subresource_and_the_columns(control_plane):
    control_plane.kubectl("create", "-f", "-", input=json.dumps(storm()))
    control_plane.kubectl("scale", "stormservice/t", "-n", NAMESPACE, "--replicas=3")
    status = {"replicas": 2, "scalingTargetSelector": "storm-service-name=t",
              "conditions": [{"type": "Ready", "status": "False"}]}  # fmt: skip
    patch = json.dumps({"status": status})
    control_plane.kubectl(
        "patch", "stormservice/t", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", patch
    )
    path = f"/apis/orchestration.aibrix.ai/v1alpha1/namespaces/{NAMESPACE}/stormservices/t/scale"
    scale = json.loads(control_plane.kubectl("get", "--raw", path))
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 2, "selector": "storm-service-name=t"}
    lines = control_plane.kubectl("get", "stormservices", "-n", NAMESPACE).splitlines()
    assert lines[0].split() == ["NAME", "REPLICAS", "READY", "PAUSED", "AGE"]
    assert lines[1].split()[:4] == ["t", "3", "False", "false"]
    control_plane.kubectl("create", "-f", "-", input=json.dumps(roleset()))
    lines = control_plane.kubectl("get", "rolesets", "-n", NAMESPACE).splitlines()
    assert lines[0].split() == ["NAME", "READY", "AGE"]


def test_status_keeps_what_brixflow_adds(control_plane):
    found = yaml.safe_load(generate.render(generate.DEFINITIONS[0]))
    status = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert {"completedRevision", "observedGeneration"} <= status["properties"].keys()
