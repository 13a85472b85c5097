"""Kubernetes' published types as structural schemas, ready to stand inside a CustomResourceDefinition.

What the API server's document says in its own way is put as definitions must have it: references are resolved, the
two int-or-string types get their extension, an embedded object keeps five fields of its metadata. Enumerations are
left out, so that a value which a newer Kubernetes knows passes: it is judged when the pod is made. Unknown fields are
not kept, so that a misspelt one is refused or dropped as in any pod.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from crds.kubernetes.fetch import CORE, FILE

Json = dict[str, Any]

INT_OR_STRING: Final[Json] = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
QUANTITY_PATTERN: Final = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
QUANTITY: Final[Json] = INT_OR_STRING | {"pattern": QUANTITY_PATTERN}
_STRINGS: Final[Json] = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA: Final[Json] = {
    "type": "object",
    "properties": {
        "annotations": _STRINGS,
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "labels": _STRINGS,
        "name": {"type": "string"},
        "namespace": {"type": "string"},
    },
}
_WHOLE: Final[dict[str, Json]] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": METADATA,
}
_COPIED: Final = ("type", "format", "x-kubernetes-map-type", "x-kubernetes-list-type", "x-kubernetes-list-map-keys")


@cache
def _schemas() -> dict[str, Json]:
    found: dict[str, Json] = json.loads(FILE.read_text())["schemas"]
    return found


@cache
def embedded(name: str) -> Json:
    """The structural schema of the core/v1 type `name`. Shared: nobody may change it."""
    return _convert({"$ref": CORE + name})


def _convert(node: Json) -> Json:
    reference = node.get("$ref") or next((part["$ref"] for part in node.get("allOf", ())), None)
    if reference:
        name = reference.rsplit("/", 1)[-1]
        return _WHOLE.get(name) or _convert(_schemas()[name])
    found: Json = {key: node[key] for key in _COPIED if key in node}
    if "properties" in node:
        required = node.get("required", ())
        found["properties"] = {key: _property(part, key in required) for key, part in node["properties"].items()}
    if node.get("required"):
        found["required"] = list(node["required"])
    if "items" in node:
        found["items"] = _convert(node["items"])
    if "additionalProperties" in node:
        found["additionalProperties"] = _convert(node["additionalProperties"])
    return found


def _property(node: Json, is_required: bool) -> Json:
    """Only an optional scalar has a default that means something; the others are a language's empty values."""
    found, default = _convert(node), node.get("default")
    if is_required or default is None or isinstance(default, dict):
        return found
    return found | {"default": default}
