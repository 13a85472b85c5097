"""The defaults that our definitions bring into a pod template, and the template without them.

The API server writes them into every stored template, so two templates that differ only in them are the same. A test
compares the table with the schema.
"""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

_NAME: Final[Json] = {"name": ""}
_CONTAINER: Final[dict[str, Json]] = {
    "ports[]": {"protocol": "TCP"},
    "env[].valueFrom.configMapKeyRef": _NAME,
    "env[].valueFrom.secretKeyRef": _NAME,
    "env[].valueFrom.fileKeyRef": {"optional": False},
    "envFrom[].configMapRef": _NAME,
    "envFrom[].secretRef": _NAME,
    "livenessProbe.grpc": {"service": ""},
    "readinessProbe.grpc": {"service": ""},
    "startupProbe.grpc": {"service": ""},
}
_VOLUME: Final[dict[str, Json]] = {
    "azureDisk": {"cachingMode": "ReadWrite", "fsType": "ext4", "kind": "Shared", "readOnly": False},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"keyring": "/etc/ceph/keyring", "pool": "rbd", "user": "admin"},
    "scaleIO": {"fsType": "xfs", "storageMode": "ThinProvisioned"},
    "configMap": _NAME,
    "csi.nodePublishSecretRef": _NAME,
    "projected.sources[].configMap": _NAME,
    "projected.sources[].secret": _NAME,
    **{f"{driver}.secretRef": _NAME
       for driver in ("cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")},
}  # fmt: skip
POD_TEMPLATE_DEFAULTS: Final[dict[str, Json]] = {
    **{f"spec.{kind}[].{path}": values
       for kind in ("containers", "initContainers", "ephemeralContainers")
       for path, values in _CONTAINER.items()},
    **{f"spec.volumes[].{path}": values for path, values in _VOLUME.items()},
    "spec.imagePullSecrets[]": _NAME,
}  # fmt: skip
"""By the path of an object in a pod template (`[]` goes through a list): the fields that it gets when it lacks them."""


def _tree() -> Json:
    """The table as nested mappings: a step to the next, the fields of a place under the empty step."""
    root: Json = {}
    for path, values in POD_TEMPLATE_DEFAULTS.items():
        node = root
        for step in path.replace("[]", ".[]").split("."):
            node = node.setdefault(step, {})
        node[""] = values
    return root


_TREE: Final = _tree()


def without_defaults(template: Json) -> Json:
    """A pod template that says nothing which the API server would have said for it. The given one is not changed."""
    found: Json = _strip(template, _TREE)
    return found


def _strip(value: Any, tree: Json) -> Any:
    if isinstance(value, list):
        below = tree.get("[]")
        return [_strip(part, below) for part in value] if below else value
    if not isinstance(value, dict):
        return value
    implied = tree.get("", {})
    return {
        key: _strip(part, tree[key]) if key in tree else part
        for key, part in value.items()
        if key not in implied or part != implied[key]
    }
