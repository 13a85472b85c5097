"""Edits: what stays, what may be mended step by step, and what happens while nobody answers (cases C38, D13)."""

from __future__ import annotations

import base64
import json
import time

import pytest

from crds.admission.review import RULES, validate
from tests.crds.conftest import wait_until_asked
from tests.crds.objects import NAMESPACE, adapter, deployment, kvcache, obj, role, scaler, storm

SIDECAR = {"model.aibrix.ai/sidecar-injection": "true"}
KVCACHE_PREFIX = "kvcache.orchestration.aibrix.ai"
STOPPED_SECONDS = 4.0
"""For two edits; a call that waits for an answer would cost 5 s."""
STORM = RULES["orchestration-aibrix-ai-v1alpha1-stormservice"]


@pytest.fixture(scope="module")
def unasked(api, webhooks):
    """Objects that were stored while the operator was stopped (C38: all of them are)."""
    webhooks.stop()
    time.sleep(0.2)
    stored = {
        "storm": storm(role(updateStrategy={"maxSurge": "abc"}), name="bad", selector={"matchLabels": {"app": "u"}}),
        "empty": obj("orchestration.aibrix.ai", "StormService", None, "empty"),
        "adapter": adapter("ftp://x/y"),
        "scaler": scaler(minReplicas=10, maxReplicas=5),
        "cache": kvcache({"kvcache.orchestration.aibrix.ai/backend": "redis"}),
    }
    for each in stored.values():
        each["metadata"]["name"] = "unasked-" + each["metadata"]["name"]
        each["metadata"]["finalizers"] = ["test.brixflow/keep"]
    replies = {name: api.create(each) for name, each in stored.items()}
    assert all(reply.accepted for reply in replies.values()), [reply.message for reply in replies.values()]
    read = {name: api.get(each) for name, each in stored.items()}
    assert all(reply.accepted for reply in read.values())
    webhooks.start()
    wait_until_asked(api)
    yield {name: stored[name] for name in stored}
    for each in stored.values():
        api.merge(each, {"metadata": {"finalizers": None}})


def test_a_stored_fault_may_stay_while_something_else_is_edited(api, unasked):
    for each in unasked.values():
        reply = api.merge(each, {"metadata": {"labels": {"touched": "yes"}}})
        assert reply.accepted, reply.message
    assert api.merge(unasked["storm"], {"spec": {"replicas": 2}}).accepted
    assert api.merge(unasked["adapter"], {"spec": {"baseModel": "b"}}).accepted
    assert api.merge(unasked["scaler"], {"spec": {"observeWindowSeconds": 90}}).accepted


def test_an_edit_answers_for_what_it_makes_worse(api, unasked):
    reply = api.merge(unasked["storm"], {"spec": {"updateStrategy": {"maxUnavailable": "many"}}})
    assert reply.fields == ["spec.updateStrategy.maxUnavailable"]
    reply = api.merge(unasked["scaler"], {"spec": {"scaleTargetRef": {"name": ""}}})
    assert reply.fields == ["spec.scaleTargetRef.name"]
    assert api.merge(unasked["adapter"], {"spec": {"artifactURL": "ftp://other"}}).fields == ["spec.artifactURL"]


def test_an_edit_may_mend_one_fault_of_many(api, unasked):
    assert api.merge(unasked["storm"], {"spec": {"selector": {"matchLabels": {"app": "t"}}}}).accepted
    assert api.merge(unasked["scaler"], {"spec": {"maxReplicas": 12}}).accepted
    assert api.merge(unasked["adapter"], {"spec": {"artifactURL": "hf://a/b"}}).accepted
    backend = {"kvcache.orchestration.aibrix.ai/backend": "hpkv"}
    assert api.merge(unasked["cache"], {"metadata": {"annotations": backend}}).accepted
    good = storm()["spec"]
    assert api.merge(unasked["empty"], {"spec": good}).accepted


def test_an_object_that_is_going_is_not_judged(api, unasked):
    for each in unasked.values():
        assert api.delete(each).accepted
        assert api.merge(each, {"metadata": {"finalizers": None}}).accepted
        assert api.get(each).code == 404


def test_while_nobody_answers_everything_else_goes_on_and_admission_catches_up(api, control_plane, webhooks):
    """The table "While the operator is away" of docs/admission.md, row by row; other tests ask about what is stored."""
    names = ("away-storm", "away-deployment", "away-cache")
    made = [storm(annotations=SIDECAR), deployment(annotations=SIDECAR), kvcache()]
    made = [each | {"metadata": each["metadata"] | {"name": name}} for each, name in zip(made, names, strict=True)]
    served = storm(name="away-served")
    assert api.create(served).accepted
    webhooks.stop()
    try:
        assert api.get(served).accepted
        start = time.monotonic()
        assert api.merge(served, {"spec": {"replicas": 2}}, "/scale").accepted
        assert api.merge(served, {"metadata": {"labels": {"touched": "yes"}}}).accepted
        assert time.monotonic() - start < STOPPED_SECONDS
        assert "away-served" in control_plane.kubectl("get", "stormservices", "-n", NAMESPACE)
        assert not api.ask(storm(updateStrategy={"type": "Recreate"})).accepted, "the schema judges all the same"
        assert all(api.create(each).accepted for each in made)
        assert [is_injected(api.get(each).body) for each in made] == [False] * 3
        assert api.delete(served).accepted
    finally:
        webhooks.start()
        wait_until_asked(api)
    for each in made:
        assert api.merge(each, {"metadata": {"labels": {"touched": "yes"}}}).accepted
    assert [is_injected(api.get(each).body) for each in made] == [True] * 3
    for each in made:
        assert api.delete(each).accepted


def is_injected(found: dict) -> bool:
    """Whether admission has added what the object asks for: the sidecar, or the backend."""
    return "aibrix-runtime" in json.dumps(found["spec"]) or f"{KVCACHE_PREFIX}/backend" in found["metadata"].get(
        "annotations", {}
    )


def test_a_fault_stays_the_same_when_its_list_is_reordered():
    bad, good = role(name="bad", updateStrategy={"maxSurge": "x"}), role(name="good")
    old, new = storm(bad, good), storm(good, bad)
    assert validate(STORM, {"operation": "UPDATE", "oldObject": old, "object": new}).faults == []


def test_a_selector_that_works_stays(api, webhooks):
    manifest = storm(name="selected")
    assert api.create(manifest).accepted
    both = {"selector": {"matchLabels": {"app": "u"}}, "template": {"metadata": {"labels": {"app": "u"}}}}
    reply = api.merge(manifest, {"spec": both})
    assert reply.fields == ["spec.selector"]
    assert "field is immutable" in reply.message


# --- certificates -----------------------------------------------------------------------------------------------------


def secret_of(control_plane) -> dict[str, bytes]:
    found = json.loads(
        control_plane.kubectl("get", "secret", "aibrix-webhook-server-cert", "-n", "aibrix-system", "-o", "json")
    )
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


def bundles_of(control_plane) -> set[bytes]:
    kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations"
    found = json.loads(control_plane.kubectl("get", kinds, "-o", "json"))["items"]
    return {base64.b64decode(hook["clientConfig"]["caBundle"]) for each in found for hook in each["webhooks"]}


def test_d13_the_secret_and_all_webhooks_are_filled(control_plane, webhooks):
    held = secret_of(control_plane)
    assert held.keys() == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
    assert bundles_of(control_plane) == {held["ca.crt"]}
    assert webhooks.admission.waiting_for() == ""


def test_an_emptied_secret_is_filled_anew_and_the_webhooks_go_on(api, control_plane, webhooks):
    before = secret_of(control_plane)
    control_plane.kubectl(
        "patch", "secret", "aibrix-webhook-server-cert", "-n", "aibrix-system", "--type=merge", "-p", '{"data": null}'
    )
    webhooks.run(webhooks.admission.refresh())
    after = secret_of(control_plane)
    assert before["ca.crt"] != after["ca.crt"]
    assert bundles_of(control_plane) == {after["ca.crt"]}
    wait_until_asked(api)


def test_applying_the_manifests_again_keeps_certificate_and_trust(api, control_plane, webhooks):
    before = secret_of(control_plane)
    control_plane.kubectl("apply", "--server-side", "-k", "deploy/local")
    assert secret_of(control_plane) == before
    assert bundles_of(control_plane) == {before["ca.crt"]}
    assert not api.ask(scaler(maxReplicas=-1)).accepted
