"""Writes `schemas.json`: the part of the API server's own OpenAPI document that our kinds embed.

    kubectl get --raw /openapi/v3/api/v1 | python -m crds.kubernetes.fetch v1.36.3

The local control plane serves the document (`make up`); the argument is that server's version, which the file names.
Descriptions are left out: they are most of the document, and every object would carry them in its definition.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

SOURCE: Final = "/openapi/v3/api/v1"
FILE: Final = Path(__file__).with_name("schemas.json")
CORE: Final = "io.k8s.api.core.v1."
ROOTS: Final = (
    "PodTemplateSpec", "Service", "ServicePort", "ResourceRequirements", "EnvVar", "EnvFromSource", "VolumeMount",
    "SecurityContext", "NodeSelector", "ObjectReference", "LocalObjectReference",
)  # fmt: skip
_LEFT_OUT: Final = (
    "description", "x-kubernetes-patch-merge-key", "x-kubernetes-patch-strategy", "x-kubernetes-unions",
    "x-kubernetes-group-version-kind",
)  # fmt: skip


def excerpt(document: Json, version: str) -> Json:
    """The schemas of ROOTS and of all they refer to, sorted by name."""
    schemas = document["components"]["schemas"]
    wanted: dict[str, Json] = {}
    waiting = [CORE + name for name in ROOTS]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted[name] = _plain(schemas[name])
            waiting += _references(wanted[name])
    return {"source": SOURCE, "version": version, "schemas": dict(sorted(wanted.items()))}


def _plain(node: Any) -> Any:
    """`node` without what says nothing about validity; a property may still be called `description`."""
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key not in _LEFT_OUT}
    return {
        key: {name: _plain(part) for name, part in value.items()} if key == "properties" else _plain(value)
        for key, value in kept.items()
    }


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for part in node for name in _references(part)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].rsplit("/", 1)[1]] if isinstance(node.get("$ref"), str) else []
    return own + [name for part in node.values() for name in _references(part)]


def main(arguments: list[str]) -> int:
    found = excerpt(json.load(sys.stdin), arguments[0])
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(schema)}" for name, schema in found["schemas"].items())
    head = f'{{"source":{json.dumps(found["source"])},"version":{json.dumps(found["version"])},"schemas":{{\n'
    FILE.write_text(f"{head}{lines}\n}}}}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
