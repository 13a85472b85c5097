"""What the API server writes into a pod template is no change of it: no pod is rolled by a newer release."""

from __future__ import annotations

import json
from copy import deepcopy

from crds.kubernetes.defaults import POD_TEMPLATE_DEFAULTS, without_defaults
from crds.kubernetes.embed import embedded
from planning.names import role_digest, template_digest
from tests.crds.objects import storm

TEMPLATE = {
    "metadata": {"labels": {"app": "t"}},
    "spec": {
        "imagePullSecrets": [{}],
        "containers": [
            {
                "name": "c", "image": "i", "ports": [{"containerPort": 8000}],
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"key": "k"}}}],
                "livenessProbe": {"grpc": {"port": 1}},
                "securityContext": {"seLinuxOptions": {"user": "admin"}},
            }
        ],
        "volumes": [{"name": "v", "rbd": {"image": "x", "monitors": ["m"]}}, {"name": "w", "iscsi": {
            "iqn": "q", "lun": 1, "targetPortal": "p", "secretRef": {}}}],
    },
}  # fmt: skip


def paths(schema: dict, path: str = "") -> dict[str, dict]:
    """The defaults of a schema by the path of the object that has them."""
    fields = schema.get("properties", {})
    own = {name: part["default"] for name, part in fields.items() if "default" in part}
    found = {path: own} if own else {}
    for name, part in fields.items():
        found |= paths(part, f"{path}.{name}" if path else name)
    if "items" in schema:
        found |= paths(schema["items"], f"{path}[]")
    return found


def test_the_table_has_all_defaults_of_the_published_template():
    assert paths(embedded("PodTemplateSpec")) == POD_TEMPLATE_DEFAULTS


def test_a_stored_template_has_the_digest_of_the_one_that_was_sent(api):
    sent = {"name": "engine", "template": TEMPLATE}
    manifest = storm(sent, {"name": "other", "podGroupSize": 1, "updateStrategy": {}, "template": TEMPLATE})
    stored = api.ask(manifest).body["spec"]["template"]
    assert "TCP" in json.dumps(stored)
    assert role_digest(stored["spec"]["roles"][0]) == role_digest(sent)
    assert template_digest(stored) == template_digest(manifest["spec"]["template"])


def test_what_was_said_on_purpose_stays():
    kept = without_defaults(TEMPLATE)
    assert kept == TEMPLATE
    changed = deepcopy(TEMPLATE)
    changed["spec"]["containers"][0]["ports"][0]["protocol"] = "UDP"
    changed["spec"]["containers"][0]["securityContext"] = {}
    assert without_defaults(changed) == changed


def test_a_template_with_nothing_in_it_stays_so():
    assert without_defaults({}) == {}
    assert without_defaults({"spec": None}) == {"spec": None}
