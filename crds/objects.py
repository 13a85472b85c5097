"""The other objects that follow from the types and the rules: the webhooks' configurations, and roles for people.

They are written by the same generator as the definitions, so that a kind cannot be forgotten in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from crds import labels
from crds.definition import Definition

Json = dict[str, Any]

WEBHOOK_SERVICE: Final = "aibrix-webhook-service"
TIMEOUT_SECONDS: Final = 5
_STAYS: Final[Json] = {"name": "stays", "expression": "!has(object.metadata.deletionTimestamp)"}
_ASKS_FOR_SIDECAR: Final[Json] = {
    "name": "asks-for-the-sidecar",
    "expression": f"has(object.metadata.annotations) && '{labels.SIDECAR_INJECTION}' in object.metadata.annotations",
}
# plural, group, end of the path, name of the mutating and of the validating webhook
_WEBHOOKS: Final = (
    ("deployments", "apps/v1", "apps-v1-deployment", "medeployment.aibrix.ai", "vedeployment.aibrix.ai"),
    ("kvcaches", labels.ORCHESTRATION_API, "orchestration-aibrix-ai-v1alpha1-kvcache", "mkvcache-v1alpha1.kb.io",
     "vkvcache-v1alpha1.kb.io"),
    ("modeladapters", f"{labels.MODEL_GROUP}/{labels.VERSION}", "model-aibrix-ai-v1alpha1-modeladapter",
     "mmodeladapter.kb.io", "vmodeladapter.kb.io"),
    ("podautoscalers", f"{labels.AUTOSCALING_GROUP}/{labels.VERSION}", "autoscaling-aibrix-ai-v1alpha1-podautoscaler",
     "mpodautoscaler-v1alpha1.kb.io", "vpodautoscaler-v1alpha1.kb.io"),
    ("stormservices", labels.ORCHESTRATION_API, "orchestration-aibrix-ai-v1alpha1-stormservice", "mstormservice.kb.io",
     "vstormservice.kb.io"),
)  # fmt: skip
_EDIT: Final = ("create", "delete", "get", "list", "patch", "update", "watch")
_VIEW: Final = ("get", "list", "watch")


def webhook_configurations() -> list[Json]:
    """The mutating and the validating configuration. The operator adds the certificate authority."""
    return [_configuration("Mutating"), _configuration("Validating")]


def _configuration(which: str) -> Json:
    webhooks = []
    for plural, api, path, mutating, validating in _WEBHOOKS:
        name, verb = (mutating, "mutate") if which == "Mutating" else (validating, "validate")
        only_asking = plural == "deployments" or (plural == "stormservices" and which == "Mutating")
        conditions = [_STAYS, _ASKS_FOR_SIDECAR] if only_asking else [_STAYS]
        webhooks.append(_webhook(name, f"/{verb}-{path}", api, plural, conditions))
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{which}WebhookConfiguration",
        "metadata": {"name": f"aibrix-{which.lower()}-webhook-configuration"},
        "webhooks": webhooks,
    }


def _webhook(name: str, path: str, api: str, plural: str, conditions: list[Json]) -> Json:
    group, version = api.split("/")
    service = {"name": WEBHOOK_SERVICE, "namespace": labels.SYSTEM_NAMESPACE, "path": path, "port": 443}
    rule = {"apiGroups": [group], "apiVersions": [version], "operations": ["CREATE", "UPDATE"], "resources": [plural]}
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": service},
        "failurePolicy": "Ignore",
        "matchConditions": conditions,
        "rules": [rule],
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }


def roles(definitions: Iterable[Definition]) -> list[Json]:
    """An editor and a viewer role for each kind; they are bound to nobody."""
    return [_role(each, *what) for each in definitions for what in (("editor", _EDIT), ("viewer", _VIEW))]


def _role(definition: Definition, name: str, verbs: tuple[str, ...]) -> Json:
    short_group, kind = definition.group.split(".")[0], definition.model.__name__.lower()
    rules = [_rule(definition, "", verbs), _rule(definition, "/status", ("get",))]
    if definition.scale:
        rules.append(_rule(definition, "/scale", ("get", "patch", "update") if name == "editor" else ("get",)))
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"aibrix-{short_group}-{kind}-{name}-role"},
        "rules": rules,
    }


def _rule(definition: Definition, subresource: str, verbs: tuple[str, ...]) -> Json:
    return {"apiGroups": [definition.group], "resources": [definition.plural + subresource], "verbs": list(verbs)}
