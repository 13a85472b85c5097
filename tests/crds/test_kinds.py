"""Each kind as people meet it: created, read back, applied again, explained, listed (CRD cases A50, A51; size)."""

from __future__ import annotations

import json

import pytest

from crds.generate import DEFINITIONS
from crds.schema import structural
from tests.crds.generated import fullest
from tests.crds.objects import NAMESPACE, adapter, claim, kvcache, podset, ray, role, roleset, scaler, storm

API_SERVER_LIMIT_BYTES = 1536 * 1024
"""What etcd takes in one request, and so the API server in one object."""

OBJECTS = {
    "stormservice": storm(role(replicas=2)),
    "roleset": roleset(role(stateful=True)),
    "podset": podset(),
    "kvcache": kvcache(cache={"replicas": 2, "template": role()["template"]}, mode="centralized"),
    "rayclusterfleet": ray("RayClusterFleet", strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}),
    "rayclusterreplicaset": ray("RayClusterReplicaSet"),
    "podautoscaler": scaler(),
    "modeladapter": adapter(credentialsSecretRef={"name": "s"}, additionalConfig={"rank": "8"}),
    "modelclaim": claim(engineConfig={"args": {"--max-model-len": "1"}}),
}
COLUMNS = {
    "stormservice": "NAME REPLICAS READY PAUSED AGE",
    "roleset": "NAME READY AGE",
    "podset": "NAME READYPODS TOTALPODS PHASE AGE",
    "kvcache": "NAME AGE",
    "rayclusterfleet": "NAME AGE",
    "rayclusterreplicaset": "NAME AGE",
    "podautoscaler": "NAME MINPODS MAXPODS REPLICAS STRATEGY AGE",
    "modeladapter": "NAME PHASE DESIRED READY CANDIDATES MODEL PATH AGE",
    "modelclaim": "NAME PHASE DESIRED READY ENGINE ARTIFACT AGE",
}


def test_no_kind_is_forgotten():
    kinds = [each.model.__name__.lower() for each in DEFINITIONS]
    assert sorted(kinds) == sorted(OBJECTS)


def holds(whole, part) -> bool:
    """Whether everything that was said is still there."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(holds(*pair) for pair in zip(whole, part, strict=True))
    return whole == part


@pytest.mark.parametrize("kind", OBJECTS)
def test_what_was_applied_is_read_back_and_applying_it_again_changes_nothing(api, webhooks, kind):
    manifest = OBJECTS[kind]
    manifest = {**manifest, "metadata": {**manifest["metadata"], "name": "whole"}}
    first = api.apply(manifest)
    assert first.accepted, first.message
    second = api.apply(manifest)
    found = api.get(manifest).body
    assert holds(found["spec"], manifest["spec"])
    model = next(each.model for each in DEFINITIONS if each.model.__name__ == manifest["kind"])
    model.model_validate(found)
    assert first.body["metadata"]["generation"] == second.body["metadata"]["generation"] == 1
    assert api.delete(manifest).accepted


WHOLE = {
    "stormservice": {
        "selector": {
            "matchLabels": {"app": "t"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["t"]}],
        },
    },
    "podautoscaler": {
        "observeWindowSeconds": 90, "panicWindowSeconds": 30, "subTargetSelector": {"roleName": "decode"},
        "schedules": [{"name": "peak", "timezone": "UTC", "daysOfWeek": ["Mon"], "startTime": "09:00",
                       "endTime": "18:00", "minReplicas": 2, "maxReplicas": 3}],
    },
    "modeladapter": {"replicas": 1},
    "modelclaim": {"replicas": 1},
}  # fmt: skip
"""Where one valid value a field makes no object that the rules take."""


@pytest.mark.parametrize("kind", OBJECTS)
def test_with_every_field_of_its_schema_nothing_is_lost(api, webhooks, kind):
    """By the API server, by the webhooks and by the types: down to the last field of an embedded pod."""
    definition = next(each for each in DEFINITIONS if each.model.__name__.lower() == kind)
    schema = structural(definition.model)["properties"]["spec"]
    manifest = {**OBJECTS[kind], "spec": fullest(schema, OBJECTS[kind]["spec"] | WHOLE.get(kind, {}))}
    manifest["metadata"] = {"name": "fullest", "namespace": NAMESPACE}
    reply = api.apply(manifest)
    assert reply.accepted, reply.message
    found = api.get(manifest).body
    assert holds(found["spec"], manifest["spec"])
    kept = definition.model.model_validate(found).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert holds(kept["spec"], manifest["spec"])
    again = api.replace(found)
    assert again.body["metadata"]["generation"] == found["metadata"]["generation"]
    assert api.delete(manifest).accepted


WORSE = {
    "stormservice": ({"updateStrategy": {"maxSurge": "x"}}, "spec.updateStrategy.maxSurge", "x"),
    "roleset": ({"updateStrategy": "Random"}, "spec.updateStrategy", "Unsupported value"),
    "podset": ({"podGroupSize": 1}, "spec.podGroupSize", "greater than or equal to 2"),
    "kvcache": ({"service": {}}, "spec.service.ports", "Required value"),
    "rayclusterfleet": (
        {"template": {"spec": {"headGroupSpec": None}}},
        "spec.template.spec.headGroupSpec",
        "Required",
    ),
    "rayclusterreplicaset": ({"replicas": "two"}, "spec.replicas", "must be of type integer"),
    "podautoscaler": ({"maxReplicas": 0}, "spec.maxReplicas", "must be positive"),
    "modeladapter": ({"artifactURL": "ftp://x/y"}, "spec.artifactURL", "unsupported schema"),
    "modelclaim": ({"engine": "tgi"}, "spec.engine", "Unsupported value"),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_edit_into_what_is_invalid_is_refused_with_its_field_and_changes_nothing(api, webhooks, kind):
    manifest = {**OBJECTS[kind], "metadata": {"name": "edited", "namespace": NAMESPACE}}
    before = api.apply(manifest).body
    patch, field, words = WORSE[kind]
    reply = api.merge(manifest, {"spec": patch})
    assert reply.code in (403, 422)
    assert field in reply.fields
    assert words in reply.message
    after = api.get(manifest).body
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    assert api.delete(manifest).accepted


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_without_spec_is_known_to_the_types_and_the_schema(kind):
    """With the webhooks away it is stored: the API server asks for no spec."""
    model = next(each.model for each in DEFINITIONS if each.model.__name__.lower() == kind)
    assert model.model_validate({"spec": None}).model_dump(exclude_none=True) == {}


def test_a50_a51_the_columns_of_every_kind(api, webhooks, control_plane):
    for manifest in OBJECTS.values():
        assert api.create({**manifest, "metadata": {**manifest["metadata"], "name": "listed"}}).accepted
    for kind, columns in COLUMNS.items():
        shown = control_plane.kubectl("get", kind, "listed", "-n", NAMESPACE)
        assert shown.splitlines()[0].split() == columns.split()
    assert "listed" in control_plane.kubectl("get", "mc", "-n", NAMESPACE)
    everything = control_plane.kubectl("get", "aibrix", "-n", NAMESPACE, "-o", "name").split()
    assert sum(name.endswith("/listed") for name in everything) == len(OBJECTS)


def test_explain_reaches_into_every_kind(control_plane):
    for kind in OBJECTS:
        assert len(control_plane.kubectl("explain", f"{kind}.spec", "--recursive").splitlines()) > 10
    path = "stormservice.spec.template.spec.roles.template.spec.containers.livenessProbe.httpGet"
    assert "path" in control_plane.kubectl("explain", path)


def test_the_largest_definition_leaves_a_third_of_the_room(control_plane):
    listed = control_plane.kubectl("get", "crd", "-o", "json", "--show-managed-fields")
    sizes = {
        each["metadata"]["name"]: len(json.dumps(each, separators=(",", ":"))) for each in json.loads(listed)["items"]
    }
    assert max(sizes.values()) < 0.7 * API_SERVER_LIMIT_BYTES
    assert len(sizes) == len(OBJECTS)
