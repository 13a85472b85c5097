"""Every sample is applied with the webhooks on, strictly, and again without a change (sample cases L1 to L5)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from crds.generate import DEFINITIONS
from tests.crds.objects import NAMESPACE
from tests.crds.test_kinds import holds

SAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "samples").glob("*.yaml"))
INJECTED = {"adaptable", "plain"}


def documents(path: Path) -> list[dict]:
    found = [each for each in yaml.safe_load_all(path.read_text()) if each]
    return [{**each, "metadata": {**each["metadata"], "namespace": NAMESPACE}} for each in found]


def test_each_kind_has_a_sample():
    kinds = {each["kind"] for path in SAMPLES for each in documents(path)}
    assert kinds >= {each.model.__name__ for each in DEFINITIONS}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_stored_as_it_stands_and_once(api, webhooks, path):
    for manifest in documents(path):
        first = api.apply(manifest)
        assert first.accepted, first.message
        assert holds(first.body["spec"], manifest["spec"]) or manifest["metadata"]["name"] in INJECTED
        second = api.apply(manifest)
        assert first.body["metadata"].get("generation") == second.body["metadata"].get("generation")
        assert api.delete(manifest).accepted


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
