"""StormService, Deployment, ModelAdapter and KVCache with the webhooks on (CRD cases A41, A47, C1 to C21)."""

from __future__ import annotations

import pytest

from crds.admission import kvcache as kvcache_rules
from tests.crds.objects import adapter, deployment, kvcache, obj, role, storm

ASKS = {"model.aibrix.ai/sidecar-injection": "true"}
MOUNT = {"name": "adapter-storage", "mountPath": "/tmp/aibrix/adapters"}
ENGINE = {"name": "vllm", "image": "vllm/vllm-openai:latest"}


# --- Deployment -------------------------------------------------------------------------------------------------------


def containers(reply) -> list[dict]:
    assert reply.accepted, reply.message
    return reply.body["spec"]["template"]["spec"]["containers"]


@pytest.mark.parametrize(
    ("case", "manifest"),
    [
        ("C1", deployment()),
        ("C4", deployment(annotations={"model.aibrix.ai/sidecar-injection": "false"})),
        ("C4b", deployment(annotations={"model.aibrix.ai/sidecar-injection": "True"})),
        ("C5", deployment(ENGINE, {"name": "aibrix-runtime", "image": "own"}, annotations=ASKS)),
    ],
)
def test_a_deployment_that_does_not_ask_stays_as_it_is(api, webhooks, case, manifest):
    names = [each["name"] for each in containers(api.ask(manifest))]
    assert names == [each["name"] for each in manifest["spec"]["template"]["spec"]["containers"]]


def test_c2_a_deployment_that_asks_gets_the_sidecar_first(api, webhooks):
    reply = api.ask(deployment(annotations=ASKS))
    sidecar, engine = containers(reply)
    assert (sidecar["name"], sidecar["image"]) == ("aibrix-runtime", "aibrix/runtime:v0.5.0")
    assert sidecar["command"] == ["aibrix_runtime", "--port", "8080"]
    assert {each["name"]: each["value"] for each in sidecar["env"]} == {
        "INFERENCE_ENGINE": "vllm", "INFERENCE_ENGINE_ENDPOINT": "http://localhost:8000",
    }  # fmt: skip
    assert sidecar["ports"] == [{"name": "metrics", "containerPort": 8080, "protocol": "TCP"}]
    probes = {kind: sidecar[kind] for kind in ("livenessProbe", "readinessProbe")}
    assert [(each["httpGet"]["path"], each["initialDelaySeconds"], each["periodSeconds"])
            for each in probes.values()] == [("/healthz", 3, 2), ("/ready", 5, 10)]  # fmt: skip
    assert sidecar["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"},
    }  # fmt: skip
    assert MOUNT in sidecar["volumeMounts"]
    assert MOUNT in engine["volumeMounts"]
    assert reply.body["spec"]["template"]["spec"]["volumes"] == [{"name": "adapter-storage", "emptyDir": {}}]


def test_c3_the_sidecars_image_can_be_named(api, webhooks):
    asks = ASKS | {"model.aibrix.ai/sidecar-runtime-image": "mine:1"}
    assert containers(api.ask(deployment(annotations=asks)))[0]["image"] == "mine:1"


@pytest.mark.parametrize(
    ("image", "engine"),
    [("lmsysorg/SGLang:v1", "sglang"), ("hf/text-generation-inference", "tgi"), ("nv/tritonserver", "triton"),
     ("x/llama.cpp", "llamacpp"), ("nginx", "unknown")],
)  # fmt: skip
def test_the_engine_is_read_from_the_image(api, webhooks, image, engine):
    sidecar = containers(api.ask(deployment({"name": "c", "image": image}, annotations=ASKS)))[0]
    assert sidecar["env"][0]["value"] == engine


def test_labels_name_engine_and_port_before_anything_else(api, webhooks):
    manifest = deployment(annotations=ASKS | {"model.aibrix.ai/engine": "sglang"})
    manifest["spec"]["template"]["metadata"]["labels"] |= {
        "model.aibrix.ai/engine": "trtllm", "model.aibrix.ai/port": "9001",
    }  # fmt: skip
    environment = containers(api.ask(manifest))[0]["env"]
    assert [each["value"] for each in environment] == ["trtllm", "http://localhost:9001"]


def test_a_volume_of_that_name_that_is_no_empty_directory_is_replaced(api, webhooks):
    manifest = deployment(ENGINE | {"volumeMounts": [MOUNT]}, annotations=ASKS)
    manifest["spec"]["template"]["spec"]["volumes"] = [{"name": "adapter-storage", "hostPath": {"path": "/x"}}]
    reply = api.ask(manifest)
    assert containers(reply)[1]["volumeMounts"] == [MOUNT]
    assert reply.body["spec"]["template"]["spec"]["volumes"] == [{"name": "adapter-storage", "emptyDir": {}}]


# --- StormService -----------------------------------------------------------------------------------------------------


def pods(reply) -> list[list[str]]:
    roles = reply.body["spec"]["template"]["spec"]["roles"]
    return [[each["name"] for each in part["template"]["spec"]["containers"]] for part in roles]


@pytest.mark.parametrize("value", ["true", "yes", ""])
def test_c6_every_role_gets_the_sidecar(api, webhooks, value):
    reply = api.ask(
        storm(role(name="master"), role(name="worker"), annotations={"model.aibrix.ai/sidecar-injection": value})
    )
    assert pods(reply) == [["aibrix-runtime", "c"]] * 2


@pytest.mark.parametrize("annotations", [{}, {"model.aibrix.ai/sidecar-injection": "false"}])
def test_c7_roles_that_do_not_ask_stay_as_they_are(api, webhooks, annotations):
    reply = api.ask(storm(annotations=annotations))
    assert pods(reply) == [["c"]]
    assert len(reply.warnings) == len(annotations)


def test_applying_an_object_with_an_injected_sidecar_again_changes_nothing(api, webhooks):
    manifest = storm(name="injected", annotations=ASKS)
    first, second = api.apply(manifest), api.apply(manifest)
    assert first.body["metadata"]["generation"] == second.body["metadata"]["generation"] == 1
    assert pods(second) == [["aibrix-runtime", "c"]]


def grouped(name: str, size: int | None = 2) -> dict:
    return role(name=name) | ({"podGroupSize": size} if size else {})


@pytest.mark.parametrize(
    ("case", "manifest", "accepted"),
    [
        ("C8", storm(name="n" * 64), False),
        ("63 characters", storm(name="n" * 63), True),
        ("C9", storm(grouped("r" * 20), name="n" * 50), False),
        ("C10", storm(grouped("r" * 11), name="n" * 12), True),
        ("C11", storm(grouped("r" * 5), grouped("q" * 35), name="n" * 30), False),
        ("C12", storm(grouped("r" * 20, None), name="n" * 50), True),
        ("C12b", storm(grouped("r" * 20, 1), name="n" * 50), True),
        ("27 together", storm(grouped("r" * 7), name="n" * 20), True),
        ("28 together", storm(grouped("r" * 8), name="n" * 20), False),
    ],
)
def test_c8_to_c12_names_leave_room_for_those_of_pods(api, webhooks, case, manifest, accepted):
    reply = api.ask(manifest)
    assert reply.accepted is accepted
    if not accepted:
        assert (reply.code, reply.fields) == (403, ["metadata.name"])
        assert 'admission webhook "vstormservice.kb.io" denied the request' in reply.message


LABELS = {"metadata": {"labels": {"app": "t"}}}
IN_T = [{"key": "app", "operator": "In", "values": ["t", "u"]}]
NOT_T = [{"key": "app", "operator": "NotIn", "values": ["t"]}]


@pytest.mark.parametrize(
    ("case", "manifest", "fields"),
    [
        ("C13", storm(template=LABELS), ["spec.template.spec"]),
        ("no spec", obj("orchestration.aibrix.ai", "StormService", {}), ["spec.selector", "spec.template"]),
        ("empty selector", storm(selector={}), ["spec.selector"]),
        ("other labels", storm(selector={"matchLabels": {"app": "u"}}), ["spec.template.metadata.labels"]),
        ("other expression", storm(selector={"matchExpressions": NOT_T}), ["spec.template.metadata.labels"]),
        (
            "budgets",
            storm(role(updateStrategy={"maxSurge": "abc"}), updateStrategy={"maxSurge": -1, "maxUnavailable": "-5%"}),
            ["spec.updateStrategy.maxSurge", "spec.updateStrategy.maxUnavailable",
             "spec.template.spec.roles[0].updateStrategy.maxSurge"],
        ),
        (
            "everything at once",
            storm(role(updateStrategy={"maxUnavailable": "x"}), name="n" * 64, selector={"matchLabels": {"app": "u"}}),
            ["spec.template.metadata.labels", "metadata.name",
             "spec.template.spec.roles[0].updateStrategy.maxUnavailable"],
        ),
    ],
)  # fmt: skip
def test_what_could_never_run_is_refused_with_every_field(api, webhooks, case, manifest, fields):
    reply = api.ask(manifest)
    assert reply.fields == fields, reply.message
    assert all(field in reply.message for field in fields)


def test_a_null_spec_is_refused_in_plain_words(api, webhooks):
    reply = api.ask(obj("orchestration.aibrix.ai", "StormService", None))
    assert reply.code == 403
    assert "spec: Required value: a StormService needs a selector and a template" in reply.message


@pytest.mark.parametrize("selector", [{"matchExpressions": IN_T}, {"matchLabels": {"app": "t"}}])
def test_a_selector_of_either_form_is_understood(api, webhooks, selector):
    assert api.ask(storm(selector=selector)).accepted


def test_what_is_merely_unwise_is_a_warning(api, webhooks):
    strategy = {"coschedulingSchedulingStrategy": {}}
    odd = role(replicas=-1, schedulingStrategy=strategy)
    manifest = storm(odd, updateStrategy={"maxSurge": 0, "maxUnavailable": "0%"})
    manifest["spec"]["template"]["spec"]["schedulingStrategy"] = strategy
    reply = api.ask(manifest)
    assert reply.accepted
    assert len(reply.warnings) == 3
    assert "maxUnavailable counts as 1" in reply.warnings[0]


# --- ModelAdapter -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["s3://test-bucket/test-model", "gcs://b/p", "huggingface://p/m", "/models/lora", "hf://a/b", "tos://a/b"]
)
def test_a41_c14_c16_artifacts_come_from_known_places(api, webhooks, url):
    assert api.ask(adapter(url)).accepted


@pytest.mark.parametrize("url", ["aabbcc", "", "ms://", "hugingface://x/y", "ftp://b/p", "gs://b/p", "s3://a b"])
def test_c15_artifacts_from_elsewhere_are_refused(api, webhooks, url):
    reply = api.ask(adapter(url))
    assert reply.code == 403
    assert set(reply.fields) == {"spec.artifactURL"}
    if url == "ftp://b/p":
        assert all(word in reply.message for word in ("unsupported schema", url, "s3://", "huggingface://"))


def test_c17_an_artifact_cannot_be_changed_into_nonsense(api, webhooks):
    manifest = adapter()
    assert api.create(manifest).accepted
    reply = api.merge(manifest, {"spec": {"artifactURL": "ftp://x/y"}})
    assert reply.fields == ["spec.artifactURL"]
    assert api.merge(manifest, {"spec": {"artifactURL": "hf://x/y"}}).accepted


def test_a_key_in_clear_text_is_warned_of(api, webhooks):
    warnings = api.ask(adapter(additionalConfig={"api-key": "k"})).warnings
    assert [("clear text" in each, "every pod" in each) for each in warnings] == [(True, False), (False, True)]


# --- KVCache ----------------------------------------------------------------------------------------------------------

PREFIX = "kvcache.orchestration.aibrix.ai"
BACKEND, MODE = f"{PREFIX}/backend", f"{PREFIX}/mode"


def test_a47_a_cache_without_annotations_is_vineyards(api, webhooks):
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    found = api.ask(kvcache(watcher={}, cache={}, service={"ports": ports})).body
    assert found["metadata"]["annotations"] == {BACKEND: "vineyard", MODE: "vineyard"}
    part = {"replicas": 1, "imagePullPolicy": "IfNotPresent", "env": []}
    assert (found["spec"]["watcher"], found["spec"]["cache"], found["spec"]["mode"]) == (part, part, "distributed")


@pytest.mark.parametrize("backend", ["unsupported_backend", "redis"])
def test_c18_an_unknown_backend_is_refused(api, webhooks, backend):
    reply = api.ask(kvcache({BACKEND: backend}))
    assert reply.code == 403
    assert all(name in reply.message for name in ("vineyard", "hpkv", "infinistore"))


@pytest.mark.parametrize(
    ("case", "annotations", "backend"),
    [
        ("C19", {BACKEND: "infinistore", f"infinistore.{PREFIX}/hint-gid-index": "7"}, "infinistore"),
        ("C20", {MODE: "unknown"}, "vineyard"),
        ("C21", {MODE: "distributed"}, "infinistore"),
        ("C21b", {MODE: "centralized"}, "vineyard"),
        ("C21c", {MODE: "distributed", BACKEND: "hpkv"}, "hpkv"),
    ],
)  # fmt: skip
def test_c19_to_c21_the_backend_is_its_annotations_or_the_modes(api, webhooks, case, annotations, backend):
    manifest = kvcache(annotations)
    assert api.ask(manifest).body["metadata"]["annotations"][BACKEND] == backend
    assert kvcache_rules.backend(manifest) == backend


def test_a_number_that_is_none_is_said_and_its_default_named(api, webhooks):
    hpkv = f"hpkv.{PREFIX}"
    odd = {BACKEND: "hpkv", f"{hpkv}/rdma-port": "99999", f"{hpkv}/block-count": "-42", f"{hpkv}/total-slots": "8192"}
    reply = api.ask(kvcache(odd))
    assert [("18512" in each, "1048576" in each) for each in reply.warnings] == [(True, False), (False, True)]
