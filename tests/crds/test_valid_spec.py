"""What no webhook has judged shows itself: the condition ValidSpec of a PodAutoscaler (CRD case C38)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from planning.podautoscaler import POD_AUTOSCALER, Invalid, first_fault
from tests.crds.conftest import wait_until_asked
from tests.crds.objects import CPU_SOURCE, POD_SOURCE, scaler, schedule
from tests.workflows.rig import eventually

Json = dict[str, Any]
STRATEGY, BOUNDS, SPEC, METRICS = "InvalidScalingStrategy", "InvalidBounds", "InvalidSpec", "MetricsConfigError"
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}

CASES: dict[str, tuple[Json, str, str]] = {
    "no-name": (
        scaler(scaleTargetRef=DEPLOYMENT | {"name": ""}), "MissingScaleTargetRef",
        "scaleTargetRef.kind and scaleTargetRef.name must be set.",
    ),
    "least-below-0": (scaler(minReplicas=-1), BOUNDS, "minReplicas must not be negative."),
    "most-0": (scaler(maxReplicas=0), BOUNDS, "maxReplicas must be positive."),
    "least-above-most": (
        scaler(minReplicas=10, maxReplicas=5), BOUNDS, "minReplicas cannot be greater than maxReplicas.",
    ),
    "hpa-of-a-role": (
        scaler(scalingStrategy="HPA", subTargetSelector={"roleName": "decode"}), STRATEGY,
        "subTargetSelector.roleName is not supported with scalingStrategy=HPA; use APA or KPA for StormService "
        "role-level autoscaling.",
    ),
    "panic-above-observe": (
        scaler(observeWindowSeconds=30), SPEC,
        "panicWindowSeconds must be less than or equal to observeWindowSeconds.",
    ),
    "zone": (scaler(schedules=[schedule(timezone="No/Where")]), SPEC, "schedules[0].timezone: unknown time zone"),
    "no-metric": (
        scaler(POD_SOURCE | {"targetMetric": ""}), METRICS, "metricsSource[0]: targetMetric must be specified",
    ),
    "no-value": (
        scaler(CPU_SOURCE, POD_SOURCE | {"targetValue": ""}), METRICS,
        "metricsSource[1]: targetValue must be specified",
    ),
    "no-port": (scaler(POD_SOURCE | {"port": ""}), METRICS, "port is required for metricSourceType=pod."),
    "no-path": (
        scaler(POD_SOURCE | {"metricSourceType": "external", "endpoint": "e:1", "path": ""}), METRICS,
        "path is required for metricSourceType=external.",
    ),
    "other-resource": (
        scaler(CPU_SOURCE | {"targetMetric": "disk"}), METRICS,
        "for metricSourceType=resource, targetMetric must be 'cpu' or 'memory'.",
    ),
    "resource-port": (
        scaler(CPU_SOURCE | {"port": "8080"}), METRICS,
        "port, endpoint, path, and protocolType are not allowed for metricSourceType=resource.",
    ),
}  # fmt: skip
BESIDE_THE_SCHEMA: tuple[tuple[Json, str, str], ...] = (
    (scaler(observeWindowSeconds=0), SPEC, "observeWindowSeconds must be greater than 0."),
    (scaler(panicWindowSeconds=3601), SPEC, "panicWindowSeconds must be less than or equal to 3600."),
    (scaler(scalingStrategy="VPA"), STRATEGY, "Unsupported scalingStrategy; must be one of HPA/KPA/APA."),
    (
        scaler(POD_SOURCE | {"metricSourceType": "guess"}), METRICS,
        "metricsSource[0]: unsupported metricSourceType: guess",
    ),
    (scaler(metricsSources=[]), METRICS, "at least one metricsSource is required."),
    (scaler(minReplicas=-1, metricsSources=[]), BOUNDS, "minReplicas must not be negative."),
)  # fmt: skip
"""What our schema refuses too, AIBrix's did not always; and of two faults the first."""
GOOD = {"pod": scaler(), "cpu": scaler(CPU_SOURCE), "peak": scaler(schedules=[schedule()])}


@pytest.mark.parametrize(("found", "reason", "message"), BESIDE_THE_SCHEMA)
def test_what_a_schema_would_refuse_is_named_all_the_same(found, reason, message):
    assert first_fault(found["spec"]) == Invalid(reason, message)


async def verdict(world, name: str) -> tuple[str, str, str] | None:
    """Status, reason and message of ValidSpec, once they are about the spec of the moment."""
    found = await world.client.get(POD_AUTOSCALER, world.namespace, name)
    status = found.get("status") or {}
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return None
    shown = next(each for each in status["conditions"] if each["type"] == "ValidSpec")
    return shown["status"], shown["reason"], shown["message"]


async def test_c38_what_was_stored_while_nobody_answered_shows_its_first_fault(api, world, webhooks, operator):
    webhooks.stop()
    await asyncio.sleep(0.2)
    try:
        for name, made in {**{name: case[0] for name, case in CASES.items()}, **GOOD}.items():
            await world.client.create(POD_AUTOSCALER, world.namespace, made | {"metadata": {"name": name}})
    finally:
        webhooks.start()
        wait_until_asked(api)
    for name, (_, reason, message) in CASES.items():
        found = await eventually(lambda name=name: verdict(world, name), what=f"{name} is judged")
        assert found == ("False", reason, message), name
    for name in GOOD:
        found = await eventually(lambda name=name: verdict(world, name), what=f"{name} is judged")
        assert found == ("True", "AsExpected", ""), name
    await world.patch(POD_AUTOSCALER, "least-above-most", {"spec": {"maxReplicas": 12}})
    found = await eventually(lambda: verdict(world, "least-above-most"), what="the mended one is judged again")
    assert found == ("True", "AsExpected", "")
