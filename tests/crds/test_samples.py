"""Every sample is applied with the webhooks on, strictly, and again without a change (sample cases L1 to L5)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from crds.generate import DEFINITIONS
from tests.crds.objects import NAMESPACE, adapter, kvcache, podset, storm

SAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "samples").glob("*.yaml"))
INJECTED = {"adaptable", "plain"}


def documents(path: Path) -> list[dict]:
    found = [each for each in yaml.safe_load_all(path.read_text()) if each]
    return [{**each, "metadata": {**each["metadata"], "namespace": NAMESPACE}} for each in found]


def test_each_kind_has_a_sample():
    kinds = {each["kind"] for path in SAMPLES for each in documents(path)}
    assert kinds >= {each.model.__name__ for each in DEFINITIONS}


WARNED = {
    "assistant-apa-cpu": ("up-fluctuation-tolerance", "down-fluctuation-tolerance", "apa.autoscaling.aibrix.ai/window"),
    "throughput-kpa": ("scale-down-delay",),
    "optimizer-kpa": ("scale-down-delay", "metricSourceType"),
    "coder-small-gpu": ("metricSourceType",),
    "coder-large-gpu": ("metricSourceType",),
    "lora-with-key": ("clear text",),
    "placed-cache": ("needs spec.metadata.etcd",),
}
"""Samples that are stored with a warning: what AIBrix users have and what there is better."""


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_stored_as_it_stands_and_once(api, webhooks, path):
    for manifest in documents(path):
        name = manifest["metadata"]["name"]
        first = api.apply(manifest)
        assert first.accepted, first.message
        for part in ("spec", "data", "rules", "subjects"):
            assert said(first.body.get(part), manifest.get(part)) or name in INJECTED, (name, part)
        ours = manifest["apiVersion"].endswith("aibrix.ai/v1alpha1")
        expected = WARNED.get(name, ()) if ours else ()
        assert len(first.warnings) == len(expected), first.warnings
        assert all(word in text for word, text in zip(expected, first.warnings, strict=True))
        second = api.apply(manifest)
        assert first.body["metadata"].get("generation") == second.body["metadata"].get("generation")
        assert first.body["metadata"]["uid"] == second.body["metadata"]["uid"]
        assert api.delete(manifest).accepted


def said(whole, part) -> bool:
    """As `holds`; a number that Kubernetes keeps as text is the same number."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(said(whole.get(key), value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole or ()) == len(part) and all(said(*pair) for pair in zip(whole or (), part, strict=True))
    return part is None or str(whole) == str(part)


def test_strategies_and_modes_of_every_name_have_a_sample():
    """What the definitions enumerate is used somewhere, so that no choice of users is left untried."""
    text = "\n".join(path.read_text() for path in SAMPLES)
    choices = (
        "HPA", "KPA", "APA", "metricSourceType: pod", "metricSourceType: resource", "metricSourceType: external",
        "metricSourceType: domain", "RollingUpdate", "InPlaceUpdate", "InPlaceIfPossible", "Sequential", "Parallel",
        "Interleave", "Preferred", "Required", "scope: StormService", "scope: RoleSet", "scope: Role,",
        "coschedulingSchedulingStrategy", "volcanoSchedulingStrategy", "godelSchedulingStrategy",
        "recoveryPolicy: Recreate", "backend: infinistore", "backend: hpkv", "engine: sglang", "engine: vllm",
        "storm-service-mode: pool", "storm-service-mode: replica",
    )  # fmt: skip
    assert [choice for choice in choices if choice not in text] == []


OLD_CACHE = {"replicas": 1, "service": {"type": "ClusterIP", "port": 9600}, "cacheSpec": {"image": "i"}}


@pytest.mark.parametrize(
    ("manifest", "code", "words"),
    [
        (adapter() | {"spec": None}, 403, "spec.artifactURL"),
        (storm() | {"spec": None}, 403, "a StormService needs a selector and a template"),
        (kvcache() | {"spec": OLD_CACHE}, 422, "spec.service.ports"),
    ],
    ids=["an adapter without spec", "a StormService without spec", "a cache of an older API"],
)
def test_manifests_that_never_worked_are_refused_in_plain_words(api, webhooks, manifest, code, words):
    """Sample cases S3, S4, S28: verdict R."""
    reply = api.ask(manifest, validation="Warn")
    assert reply.code == code
    assert words in reply.message


def test_a_key_that_is_written_twice_is_refused_strictly_and_the_last_wins_leniently(api, webhooks):
    """Sample case S12: `volumes` twice in one pod."""
    manifest = podset()
    text = yaml.safe_dump(manifest).replace("podGroupSize: 2", "podGroupSize: 2\n  podGroupSize: 3")
    strict, lenient = api.ask_text(text, manifest), api.ask_text(text, manifest, validation="Warn")
    assert strict.code == 400
    assert '"podGroupSize" already set in map' in strict.message
    assert lenient.body["spec"]["podGroupSize"] == 3
    assert len(lenient.warnings) == 1


def test_an_outdated_autoscaler_is_refused_strictly_and_leniently(api, webhooks):
    """Sample case L2: unknown fields are dropped, and then there is no metric left."""
    manifest = {
        "apiVersion": "autoscaling.aibrix.ai/v1alpha1",
        "kind": "PodAutoscaler",
        "metadata": {"name": "old", "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "minReplicas": 1, "maxReplicas": 10, "scalingStrategy": "HPA", "targetMetric": "cpu", "targetValue": "40",
        },
    }  # fmt: skip
    assert "spec.targetMetric" in api.ask(manifest).message
    assert "at least one metricsSource" in api.ask(manifest, validation="Warn").message


def test_an_unknown_field_is_refused_strictly_and_dropped_with_a_warning(api, webhooks):
    """Verdict W: `spec.behavior` of a PodAutoscaler."""
    manifest = documents(SAMPLES[0].with_name("podautoscaler-role.yaml"))[0]
    manifest["spec"]["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    assert "spec.behavior" in api.ask(manifest).message
    lenient = api.ask(manifest, validation="Warn")
    assert "behavior" not in lenient.body["spec"]
    assert "spec.behavior" in lenient.warnings[0]
