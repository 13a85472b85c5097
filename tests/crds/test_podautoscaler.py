"""PodAutoscaler, asked of the API server with the webhooks on (CRD cases A1 to A35, C37)."""

from __future__ import annotations

import pytest

from tests.crds.objects import CPU_SOURCE, POD_SOURCE, scaler, schedule

EXTERNAL = {"metricSourceType": "external", "targetMetric": "queue", "targetValue": "40"}
ENDPOINT = {"endpoint": "h:80", "protocolType": "http", "path": "/metrics"}
WEEK = ["Mon", "Tue", "Wed", "Thu", "Fri"]
ANGELES = schedule(timezone="America/Los_Angeles", daysOfWeek=WEEK)
STORM = {"apiVersion": "orchestration.aibrix.ai/v1alpha1", "kind": "StormService", "name": "s"}

ACCEPTED = {
    "A2": scaler(CPU_SOURCE, scalingStrategy="HPA", maxReplicas=5),
    "A3": scaler(minReplicas=0),
    "A4": scaler(observeWindowSeconds=600, panicWindowSeconds=60),
    "A9": scaler(EXTERNAL | ENDPOINT, scalingStrategy="APA"),
    "A10": scaler(EXTERNAL, scalingStrategy="APA"),
    "A11": scaler(EXTERNAL | {"metricSourceType": "domain"}, scalingStrategy="APA"),
    "A13": scaler(CPU_SOURCE, CPU_SOURCE | {"targetMetric": "memory", "targetValue": "128"}),
    "A23": scaler(schedules=[ANGELES]),
    "A33": scaler(schedules=[schedule(endTime="10:00"), schedule(name="b", startTime="10:00", endTime="11:00")]),
    "a custom metric needs nothing more": scaler(
        {"metricSourceType": "custom", "targetMetric": "m", "targetValue": "1e2"}
    ),
    "a schedule may go above the base maximum": scaler(schedules=[schedule(maxReplicas=12)]),
}

# case: object, what the message must hold, fields of the causes (None: the schema refuses, whose causes are its own)
REFUSED = {
    "A1": (scaler(scalingStrategy="INVALID_STRATEGY"), ["scalingStrategy", "Unsupported value"], None),
    "A5": (scaler(observeWindowSeconds=0), ["observeWindowSeconds"], None),
    "A6": (scaler(observeWindowSeconds=3601), ["observeWindowSeconds", "3600"], None),
    "A7": (scaler(observeWindowSeconds=60, panicWindowSeconds=120), [], ["spec.panicWindowSeconds"]),
    "A7b": (scaler(observeWindowSeconds=30), [], ["spec.panicWindowSeconds"]),
    "A8": (scaler(panicWindowSeconds=-1), ["panicWindowSeconds"], None),
    "A12": (scaler({"metricSourceType": "external", "targetValue": "1"}), ["targetMetric"], None),
    "A12b": (scaler(EXTERNAL | {"targetMetric": ""}), [], ["spec.metricsSources[0].targetMetric"]),
    "A14": (scaler(CPU_SOURCE, CPU_SOURCE | {"targetMetric": "disk"}), [], ["spec.metricsSources[1].targetMetric"]),
    "A15": (scaler(drop=("metricsSources",)), ["at least one metricsSource"], ["spec.metricsSources"]),
    "A15b": (scaler(metricsSources=[]), ["metricsSources"], None),
    "A16": (scaler(CPU_SOURCE | {"port": "8080"}), ["Forbidden"], ["spec.metricsSources[0].port"]),
    "A17": (scaler(POD_SOURCE | {"path": ""}), ["Required"], ["spec.metricsSources[0].path"]),
    "A19": (scaler(minReplicas=10, maxReplicas=5), [], ["spec.minReplicas", "spec.maxReplicas"]),
    "A20": (scaler(minReplicas=-1), ["must not be negative"], ["spec.minReplicas"]),
    "A21": (scaler(minReplicas=0, maxReplicas=0), ["must be positive"], ["spec.maxReplicas"]),
    "A22": (
        scaler(scalingStrategy="HPA", scaleTargetRef=STORM, subTargetSelector={"roleName": "decode"}),
        ["subTargetSelector"], ["spec.subTargetSelector.roleName"],
    ),
    "A24": (scaler(schedules=[schedule(startTime="9:00")]), ["startTime", "spec.schedules"], None),
    "A25": (scaler(schedules=[schedule(endTime="18:00:00")]), ["endTime"], None),
    "A26": (scaler(schedules=[schedule(startTime="18:00", endTime="09:00")]), [], ["spec.schedules[0].endTime"]),
    "A27": (scaler(schedules=[schedule(daysOfWeek=["Monday"])]), ["Monday"], ["spec.schedules[0].daysOfWeek"]),
    "A27b": (scaler(schedules=[schedule(daysOfWeek=[])]), ["daysOfWeek"], None),
    "A28": (scaler(schedules=[schedule(timezone="Mars/Olympus_Mons")]), ["Mars"], ["spec.schedules[0].timezone"]),
    "A29": (
        scaler(schedules=[schedule(endTime="10:00"), schedule(startTime="11:00")]),
        ["duplicate"], ["spec.schedules[1].name"],
    ),
    "A30": (
        scaler(schedules=[{"name": "p", "startTime": "09:00", "endTime": "10:00"}]),
        ["at least one"], ["spec.schedules[0]"],
    ),
    "A31": (scaler(schedules=[schedule(minReplicas=11)]), ["maxReplicas 10"], ["spec.schedules[0].minReplicas"]),
    "A32": (
        scaler(schedules=[schedule(endTime="11:00"), schedule(name="b", startTime="10:00", endTime="12:00")]),
        ["overlap"], ["spec.schedules[1]"],
    ),
    "A34": (
        scaler(schedules=[schedule(timezone="UTC", endTime="10:00"),
                          schedule(name="b", timezone="America/Los_Angeles", startTime="11:00")]),
        ["timezone"], ["spec.schedules"],
    ),
    "A35": (scaler(schedules=[schedule(name="Bad_Name")]), ["name"], None),
    "no target": (scaler(scaleTargetRef={}), [], ["spec.scaleTargetRef.name", "spec.scaleTargetRef.kind"]),
    "C37": (
        scaler({"metricSourceType": "pod", "targetMetric": "m", "targetValue": "1"}, minReplicas=-1, scaleTargetRef={}),
        ["is invalid"],
        ["spec.scaleTargetRef.name", "spec.scaleTargetRef.kind", "spec.minReplicas",
         "spec.metricsSources[0].protocolType", "spec.metricsSources[0].port", "spec.metricsSources[0].path"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_makes_sense_is_stored_as_it_came(api, webhooks, case):
    reply = api.ask(ACCEPTED[case])
    assert reply.accepted, reply.message
    assert reply.body["spec"] == ACCEPTED[case]["spec"]


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_with_its_fields(api, webhooks, case):
    asked, words, fields = REFUSED[case]
    reply = api.ask(asked)
    assert (reply.code, reply.body["reason"]) == (422, "Invalid")
    assert all(word in reply.message for word in words), reply.message
    if fields is not None:
        assert reply.fields == fields
        assert 'admission webhook "vpodautoscaler-v1alpha1.kb.io" denied the request' in reply.message


@pytest.mark.parametrize(
    ("value", "words"),
    [("0", "must be greater than 0"), ("-5", "must be greater than 0"), ("-0x1p-2", "must be greater than 0")]
    + [(text, "must be a valid number")
       for text in ("abc", "100m", "not-a-number", "-100m", "NaN", "+Inf", "1e400", "1_000", "٣")],
)  # fmt: skip
def test_a18_a_target_value_is_a_finite_number_above_0(api, webhooks, value, words):
    reply = api.ask(scaler(POD_SOURCE | {"targetValue": value}))
    assert words in reply.message
    assert reply.fields == ["spec.metricsSources[0].targetValue"]


@pytest.mark.parametrize("value", ["0.5", "1e2", ".5", "5.", "0x1p-2", "0x_1Fp0", "+3"])
def test_target_values_are_read_as_go_reads_them(api, webhooks, value):
    assert api.ask(scaler(POD_SOURCE | {"targetValue": value})).accepted


def test_a40_all_fields_of_a_schedule_are_kept(api, webhooks):
    whole = ANGELES | {"minReplicas": 2, "maxReplicas": 12, "daysOfWeek": ["mon", "TUE"]}
    assert api.ask(scaler(schedules=[whole])).body["spec"]["schedules"] == [whole]


def test_what_nobody_reads_is_warned_of(api, webhooks):
    annotations = {
        "kpa.autoscaling.aibrix.ai/scale-down-delay": "60s",
        "autoscaling.aibrix.ai/max-scale-up-rate": "fast",
        "autoscaling.aibrix.ai/scale-up-cooldown-window": "5 minutes",
    }
    source = EXTERNAL | {"metricSourceType": "domain"}
    warnings = "\n".join(api.ask(scaler(source, annotations=annotations)).warnings)
    for words in ("scale-down-cooldown-window", "max-scale-up-rate", "5 minutes", "deprecated"):
        assert words in warnings


def test_what_cannot_work_but_was_always_taken_is_a_warning(api, webhooks):
    target = {"apiVersion": "a/b/c", "kind": "Deployment", "name": "d"}
    reply = api.ask(scaler(POD_SOURCE | {"port": "metrics"}, scaleTargetRef=target))
    assert reply.accepted
    assert all(word in text for word, text in zip(("apiVersion", ".port"), reply.warnings, strict=True))
    assert api.ask(scaler(minReplicas=0)).warnings == []
