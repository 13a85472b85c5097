"""What `deploy/` brings to a cluster, on a real API server (deployment cases D2 to D4, D12, D31, D34, section 8)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KINDS = {
    "autoscaling-podautoscaler": "podautoscalers.autoscaling.aibrix.ai",
    "model-modeladapter": "modeladapters.model.aibrix.ai",
    "model-modelclaim": "modelclaims.model.aibrix.ai",
    "orchestration-kvcache": "kvcaches.orchestration.aibrix.ai",
    "orchestration-podset": "podsets.orchestration.aibrix.ai",
    "orchestration-rayclusterfleet": "rayclusterfleets.orchestration.aibrix.ai",
    "orchestration-rayclusterreplicaset": "rayclusterreplicasets.orchestration.aibrix.ai",
    "orchestration-roleset": "rolesets.orchestration.aibrix.ai",
    "orchestration-stormservice": "stormservices.orchestration.aibrix.ai",
}
# section 8 of the deployment reference: what clients hard-code
NAMES = {
    ("Namespace", "aibrix-system"),
    ("ServiceAccount", "aibrix-controller-manager"),
    ("ServiceAccount", "aibrix-gateway-plugins"),
    ("Deployment", "aibrix-controller-manager"),
    ("Deployment", "aibrix-gateway-plugins"),
    ("Service", "aibrix-webhook-service"),
    ("Service", "aibrix-controller-manager-metrics-service"),
    ("Service", "aibrix-gateway-plugins"),
    ("Service", "aibrix-metadata-service"),
    ("Secret", "aibrix-webhook-server-cert"),
    ("MutatingWebhookConfiguration", "aibrix-mutating-webhook-configuration"),
    ("ValidatingWebhookConfiguration", "aibrix-validating-webhook-configuration"),
}
WEBHOOKS = {
    "medeployment.aibrix.ai": "/mutate-apps-v1-deployment",
    "mkvcache-v1alpha1.kb.io": "/mutate-orchestration-aibrix-ai-v1alpha1-kvcache",
    "mmodeladapter.kb.io": "/mutate-model-aibrix-ai-v1alpha1-modeladapter",
    "mpodautoscaler-v1alpha1.kb.io": "/mutate-autoscaling-aibrix-ai-v1alpha1-podautoscaler",
    "mstormservice.kb.io": "/mutate-orchestration-aibrix-ai-v1alpha1-stormservice",
    "vedeployment.aibrix.ai": "/validate-apps-v1-deployment",
    "vkvcache-v1alpha1.kb.io": "/validate-orchestration-aibrix-ai-v1alpha1-kvcache",
    "vmodeladapter.kb.io": "/validate-model-aibrix-ai-v1alpha1-modeladapter",
    "vpodautoscaler-v1alpha1.kb.io": "/validate-autoscaling-aibrix-ai-v1alpha1-podautoscaler",
    "vstormservice.kb.io": "/validate-orchestration-aibrix-ai-v1alpha1-stormservice",
}


def built(control_plane, folder: str) -> list[dict]:
    return list(yaml.safe_load_all(control_plane.kubectl("kustomize", str(DEPLOY / folder))))


def test_the_default_set_up_has_every_name_that_clients_know(control_plane):
    found = {(each["kind"], each["metadata"]["name"]) for each in built(control_plane, "default")}
    assert found >= NAMES


def test_the_default_set_up_holds_no_definition(control_plane):
    """D4: deleting it deletes no object of anybody."""
    assert "CustomResourceDefinition" not in {each["kind"] for each in built(control_plane, "default")}


def test_webhooks_have_their_names_paths_and_settings(control_plane):
    hooks = [hook for each in built(control_plane, "base") for hook in each.get("webhooks", ())]
    assert {hook["name"]: hook["clientConfig"]["service"]["path"] for hook in hooks} == WEBHOOKS
    for hook in hooks:
        assert (hook["failurePolicy"], hook["sideEffects"]) == ("Ignore", "None")
        assert hook["rules"][0]["operations"] == ["CREATE", "UPDATE"]


def test_d3_everything_is_applied_server_side_and_again_without_a_change(control_plane):
    control_plane.kubectl("apply", "--server-side", "--dry-run=server", "-k", str(DEPLOY / "default"))
    first = versions(control_plane)
    control_plane.kubectl("apply", "--server-side", "-k", str(DEPLOY / "local"))
    assert versions(control_plane) == first


def versions(control_plane) -> list[str]:
    kinds = "customresourcedefinitions,clusterroles,services,secrets,mutatingwebhookconfigurations"
    template = "{range .items[*]}{.metadata.name} {.metadata.resourceVersion}{'\\n'}{end}"
    shown = control_plane.kubectl("get", kinds, "-n", "aibrix-system", "-o", f"jsonpath={template}")
    return sorted(shown.splitlines())


def test_d2_even_a_plain_apply_takes_every_definition(control_plane):
    """AIBrix's largest are refused: kubectl keeps what it applied in an annotation, which holds 256 KiB."""
    control_plane.kubectl("apply", "--dry-run=server", "-k", str(DEPLOY / "crds"))


def test_editors_and_viewers_of_all_kinds(control_plane):
    for name, resource in KINDS.items():
        group = resource.split(".", 1)[1]
        for role, verbs in (("editor", {"create", "delete", "get", "list", "patch", "update", "watch"}),
                            ("viewer", {"get", "list", "watch"})):  # fmt: skip
            shown = control_plane.kubectl("get", "clusterrole", f"aibrix-{name}-{role}-role", "-o", "yaml")
            rules = yaml.safe_load(shown)["rules"]
            assert (rules[0]["apiGroups"], set(rules[0]["verbs"])) == ([group], verbs)
            assert rules[1]["resources"] == [f"{resource.split('.')[0]}/status"]


EVERYTHING = ("default", "gateway", "redis")  # ../crds holds definitions only


def references(part) -> set[tuple[str, str, int]]:
    """Every Service that a part of an object names: (namespace, name, port)."""
    if isinstance(part, list):
        return set().union(*(references(each) for each in part))
    if not isinstance(part, dict):
        return set()
    named = {
        (each.get("namespace", "aibrix-system"), each["name"], each["port"])
        for each in [*part.get("backendRefs", ()), *([part["service"]] if "path" in part.get("service", {}) else [])]
    }
    return named.union(*(references(each) for each in part.values()))


def test_every_service_that_an_object_names_is_shipped_with_its_port(control_plane):
    objects = [each for folder in EVERYTHING for each in built(control_plane, folder)]
    shipped = {
        (each["metadata"]["namespace"], each["metadata"]["name"], port["port"])
        for each in objects if each["kind"] == "Service" for port in each["spec"]["ports"]
    }  # fmt: skip
    named = references(objects)
    assert {name for _, name, _ in named} == {
        "aibrix-webhook-service", "aibrix-gateway-plugins", "aibrix-metadata-service",
    }  # fmt: skip
    assert named <= shipped


def test_no_apiservice_is_shipped(control_plane):
    """AIBrix registers none: it reads the external metrics API of whoever has registered one."""
    kinds = {each["kind"] for folder in EVERYTHING for each in built(control_plane, folder)}
    assert "APIService" not in kinds


@pytest.mark.parametrize("folder", ["default", "redis"])
def test_the_processes_listen_where_their_services_point(control_plane, folder):
    objects = built(control_plane, folder)
    pods = {
        each["metadata"]["name"]: each["spec"]["template"] for each in objects if each["kind"] == "Deployment"
    }  # fmt: skip
    for service in (each for each in objects if each["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        template = next(pod for pod in pods.values() if selector <= pod["metadata"]["labels"].items())
        ports = {port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_envoys_objects_have_their_names_and_cover_every_path(control_plane):
    objects = {(each["kind"], each["metadata"]["name"]): each for each in built(control_plane, "gateway")}
    assert objects.keys() == {
        ("GatewayClass", "aibrix-eg"), ("Gateway", "aibrix-eg"), ("EnvoyProxy", "aibrix-custom-proxy-config"),
        ("ClientTrafficPolicy", "aibrix-client-connection-buffersize"), ("EnvoyPatchPolicy", "aibrix-epp"),
        ("HTTPRoute", "aibrix-reserved-router"), ("HTTPRoute", "aibrix-reserved-router-metadata-endpoint"),
        ("EnvoyExtensionPolicy", "aibrix-gateway-plugins-extension-policy"),
        ("EnvoyExtensionPolicy", "aibrix-skip-ext-proc"),
    }  # fmt: skip
    rules = objects["HTTPRoute", "aibrix-reserved-router"]["spec"]["rules"]
    assert all(len(rule["matches"]) <= 8 for rule in rules)
    paths = {match["path"]["value"] for rule in rules for match in rule["matches"]}
    assert {"/v1/chat/completions", "/v1/messages", "/generatevideo", "/v1/audio/transcriptions"} <= paths
    patches = objects["EnvoyPatchPolicy", "aibrix-epp"]["spec"]["jsonPatches"]
    policy = "aibrix-system/aibrix-gateway-plugins-extension-policy"
    key = f"envoy.filters.http.ext_proc/envoyextensionpolicy/{policy}/extproc/0"
    assert list(patches[0]["operation"]["value"]["typed_per_filter_config"]) == [key]
