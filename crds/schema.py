"""From a pydantic model to the structural OpenAPI schema that the API server takes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from crds.fields import EMBEDDED
from crds.kubernetes.embed import INT_OR_STRING, embedded

Json = dict[str, Any]
_COPIED = (
    "format", "enum", "default", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "maxProperties", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
)  # fmt: skip
_IMPLIED = (
    ("minimum", -(2**31)), ("maximum", 2**31 - 1), ("minimum", -(2**63)), ("maximum", 2**63 - 1),
)  # fmt: skip
"""Bounds that the format of an integer says already."""


class Whole(dict[str, Any]):
    """A schema that somebody else wrote: files show it in one piece."""


def structural(model: type[BaseModel]) -> Json:
    """The model's schema with references resolved, null branches dropped and nothing the API server refuses."""
    document = model.model_json_schema(by_alias=True)
    return _convert(document, document.get("$defs", {}))


def _convert(node: Json, definitions: Json) -> Json:
    node = _flatten(node, definitions)
    found: Json = {key: node[key] for key in _COPIED if node.get(key) is not None and (key, node[key]) not in _IMPLIED}
    if EMBEDDED in node:
        return Whole(embedded(node[EMBEDDED]) | found)
    if node.get("x-kubernetes-int-or-string"):
        return INT_OR_STRING | found
    if "type" in node:
        found["type"] = node["type"]
    if "properties" in node:
        found["properties"] = {name: _convert(part, definitions) for name, part in node["properties"].items()}
    if "items" in node:
        found["items"] = _convert(node["items"], definitions)
    extra = node.get("additionalProperties")
    if isinstance(extra, dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        found["additionalProperties"] = _convert(extra, definitions)
    return found


def _flatten(node: Json, definitions: Json) -> Json:
    """One node with its reference and its only non-null branch merged into it; what the node says itself wins."""
    own = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    if "$ref" in node:
        return _flatten(definitions[node["$ref"].rsplit("/", 1)[1]], definitions) | own
    branches = [branch for branch in node.get("anyOf", ()) if branch.get("type") != "null"]
    return _flatten(branches[0], definitions) | own if len(branches) == 1 else node
