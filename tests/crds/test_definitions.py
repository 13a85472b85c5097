"""The resource definitions, asked of a real API server (CRD cases A41 to A49, B1 to B13, B30, B33)."""

from __future__ import annotations

import json

import pytest
import yaml

from crds import generate
from crds.schema import structural
from tests.crds.objects import NAMESPACE, adapter, claim, kvcache, podset, ray, role, roleset, storm

POD_FIELDS = {
    "ephemeralContainers", "initContainers", "containers", "resources", "resourceClaims", "schedulingGates", "volumes",
    "hostUsers", "topologySpreadConstraints",
}  # fmt: skip


def test_the_files_under_deploy_are_those_of_the_models():
    assert generate.stale() == []


def test_absent_replicas_are_one(api):
    found = api.ask(storm()).body
    assert found["spec"]["replicas"] == 1
    assert found["spec"]["template"]["spec"]["roles"][0]["replicas"] == 1


@pytest.mark.parametrize("missing", ["selector", "template"])
def test_b1_selector_and_template_are_required(api, missing):
    manifest = storm()
    del manifest["spec"][missing]
    assert api.ask(manifest).fields == [f"spec.{missing}"]


def test_b2_an_empty_strategy_is_a_rolling_update(api):
    assert api.ask(storm(updateStrategy={})).body["spec"]["updateStrategy"] == {"type": "RollingUpdate"}


def test_b4_a_roleset_without_strategy_is_sequential(api):
    assert api.ask(roleset()).body["spec"]["updateStrategy"] == "Sequential"


def test_b5_a_role_strategy_without_type_recreates(api):
    found = api.ask(roleset(role(updateStrategy={"maxUnavailable": 1}))).body
    assert found["spec"]["roles"][0]["updateStrategy"] == {"type": "Recreate", "maxUnavailable": 1}


def test_b9_a_podset_replaces_unhealthy_pods(api):
    assert api.ask(podset()).body["spec"]["recoveryPolicy"] == "ReplaceUnhealthy"


def test_b13_a_topology_policy_prefers(api):
    policy = {"scope": "RoleSet", "key": "kubernetes.io/hostname"}
    assert api.ask(roleset(topologyPolicy=policy)).body["spec"]["topologyPolicy"]["mode"] == "Preferred"


def test_b33_a_worker_group_has_bounds(api):
    manifest = ray("RayClusterReplicaSet")
    group = {"groupName": "g", "rayStartParams": {}, "template": role()["template"]}
    manifest["spec"]["template"]["spec"]["workerGroupSpecs"] = [group]
    found = api.ask(manifest).body["spec"]["template"]["spec"]["workerGroupSpecs"][0]
    assert {key: found[key] for key in ("replicas", "minReplicas", "maxReplicas", "numOfHosts")} == {
        "replicas": 0, "minReplicas": 0, "maxReplicas": 2147483647, "numOfHosts": 1,
    }  # fmt: skip


def test_a45_a_claim_runs_vllm_once(api):
    found = api.ask(claim()).body["spec"]
    assert (found["engine"], found["replicas"]) == ("vllm", 1)


def test_a49_a_cache_that_is_not_described_is_vineyards(api):
    found = api.ask(kvcache()).body["spec"]
    assert found["mode"] == "distributed"
    cache = {"image": "aibrix/kvcache:20241120", "imagePullPolicy": "IfNotPresent", "replicas": 1, "env": []}
    assert found["cache"] == cache


@pytest.mark.parametrize("size", [1, 100])
def test_b6_group_sizes_go_from_1_to_100(api, size):
    assert api.ask(roleset(role(podGroupSize=size))).body["spec"]["roles"][0]["podGroupSize"] == size


REFUSED = {
    "A42": (lambda: {**adapter(), "spec": {"artifactURL": "s3://b/m"}}, "spec.podSelector"),
    "A43": (lambda: adapter(replicas=0), "spec.replicas"),
    "A43b": (lambda: adapter(replicas=2), "spec.replicas"),
    "A44": (lambda: claim(replicas=2), "spec.replicas"),
    "A46": (lambda: claim(engine="tgi"), "spec.engine"),
    "A48": (lambda: kvcache(service={}), "spec.service.ports"),
    "B3": (lambda: storm(updateStrategy={"type": "Recreate"}), "spec.updateStrategy.type"),
    "B6": (lambda: roleset(role(podGroupSize=0)), "spec.roles[0].podGroupSize"),
    "B6b": (lambda: roleset(role(podGroupSize=101)), "spec.roles[0].podGroupSize"),
    "B7": (lambda: roleset(role(upgradeOrder=0)), "spec.roles[0].upgradeOrder"),
    "B8": (lambda: podset(podGroupSize=1), "spec.podGroupSize"),
    "B10": (
        lambda: roleset(schedulingStrategy={"godelSchedulingStrategy": {}, "volcanoSchedulingStrategy": {}}),
        "spec.schedulingStrategy",
    ),
    "B11": (
        lambda: roleset(schedulingStrategy={"coschedulingSchedulingStrategy": {"minMember": 0}}),
        "spec.schedulingStrategy.coschedulingSchedulingStrategy.minMember",
    ),
    "B12": (lambda: roleset(topologyPolicy={"scope": "Role"}), "spec.topologyPolicy.key"),
    "B12b": (lambda: roleset(topologyPolicy={"scope": "Role", "key": "with space"}), "spec.topologyPolicy.key"),
    "B12c": (lambda: roleset(topologyPolicy={"scope": "Role", "key": "a" * 318}), "spec.topologyPolicy.key"),
    "a role without name": (lambda: roleset({"template": role()["template"]}), "spec.roles[0].name"),
    "two roles of one name": (lambda: roleset(role(), role()), "spec.roles[1]"),
    "a pod without containers": (lambda: podset(template={"spec": {}}), "spec.template.spec.containers"),
    "a quantity that is none": (
        lambda: podset(template={"spec": {"containers": [
            {"name": "c", "resources": {"limits": {"memory": "1 GB"}}}]}}),
        "spec.template.spec.containers[0].resources.limits.memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_schema_forbids_is_refused_with_its_field(api, case):
    make, field = REFUSED[case]
    reply = api.ask(make())
    assert reply.code == 422
    assert field in reply.fields


def test_a_misspelt_field_of_a_pod_is_refused_or_dropped(api):
    manifest = podset(template={"spec": {"containers": [{"name": "c", "imge": "i"}], "restartPolcy": "Never"}})
    reply = api.ask(manifest)
    assert reply.code == 400
    assert "spec.template.spec.containers[0].imge" in reply.message
    assert "spec.template.spec.restartPolcy" in reply.message
    lenient = api.ask(manifest, validation="Warn")
    assert len(lenient.warnings) == 2
    assert lenient.body["spec"]["template"]["spec"]["containers"] == [{"name": "c"}]


def test_fields_of_newer_pods_are_kept(api):
    made = role()
    made["template"] = {"spec": {**made["template"]["spec"], "resources": {"limits": {"cpu": "1"}}}}
    found = api.ask(roleset(made)).body
    assert found["spec"]["roles"][0]["template"]["spec"]["resources"] == {"limits": {"cpu": "1"}}


def test_surge_may_be_a_number_or_text(api):
    found = api.ask(storm(updateStrategy={"maxSurge": "25%", "maxUnavailable": 1})).body
    assert found["spec"]["updateStrategy"] == {"type": "RollingUpdate", "maxSurge": "25%", "maxUnavailable": 1}


def test_b30_the_scale_subresource(api, control_plane):
    manifest = storm(name="scaled")
    assert api.create(manifest).accepted
    control_plane.kubectl("scale", "stormservice/scaled", "-n", NAMESPACE, "--replicas=3")
    status = {"replicas": 2, "scalingTargetSelector": "storm-service-name=t"}
    api.merge(manifest, {"status": status}, "/status")
    path = f"/apis/orchestration.aibrix.ai/v1alpha1/namespaces/{NAMESPACE}/stormservices/scaled/scale"
    scale = json.loads(control_plane.kubectl("get", "--raw", path))
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 2, "selector": "storm-service-name=t"}


def test_b29_a_fleet_is_scaled_through_its_subresource(api):
    manifest = ray("RayClusterFleet")
    manifest["metadata"]["name"] = "scaled-fleet"
    assert api.create(manifest).accepted
    selector = "orchestration.aibrix.ai/raycluster-fleet-name=scaled-fleet,ray.io/node-type=head"
    status = {"replicas": 1, "scalingTargetSelector": selector}
    assert api.merge(manifest, {"status": status}, "/status").accepted
    scale = api.merge(manifest, {"spec": {"replicas": 3}}, "/scale").body
    assert (scale["spec"]["replicas"], scale["status"]) == (3, {"replicas": 1, "selector": selector})
    assert api.get(manifest).body["spec"]["replicas"] == 3
    assert api.delete(manifest).accepted


def test_status_keeps_what_brixflow_adds():
    found = yaml.safe_load(generate.render(generate.DEFINITIONS[0]))
    status = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert {"completedRevision", "observedGeneration"} <= status["properties"].keys()


def test_a_pod_template_has_all_that_kubernetes_publishes():
    pod = structural(generate.DEFINITIONS[2].model)["properties"]["spec"]["properties"]["template"]
    assert pod["properties"]["spec"]["properties"].keys() >= POD_FIELDS
    assert len(pod["properties"]["spec"]["properties"]) > 35
