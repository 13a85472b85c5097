"""A live pod and the one that would be made in its place, both without what the cluster is known to add.

The list is AIBrix's: defaults of the API server for most pods, the tokens of service accounts, bookkeeping of in-place
updates. What is not in it makes a difference.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from crds import labels

Json = dict[str, Any]
_OWN_PREFIX: Final = "brixflow.aibrix.ai/"
_SERVER_METADATA: Final = (
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "managedFields", "generateName", "selfLink",
)  # fmt: skip
_OWN_LABELS: Final = (labels.ROLE_TEMPLATE_HASH, labels.ROLE_REVISION, labels.ROLE_REVISION_NAME)
_OWN_ANNOTATIONS: Final = (labels.IN_PLACE_TARGET_HASH, labels.IN_PLACE_STATE, labels.IN_PLACE_PENDING_REASON)
_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_SPEC_DEFAULTS: Final[Json] = {
    "schedulerName": "default-scheduler",
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "terminationGracePeriodSeconds": 30,
    "enableServiceLinks": True,
    "serviceAccountName": "default",
    "serviceAccount": "default",
    "securityContext": {},
    "priority": 0,
    "preemptionPolicy": "PreemptLowerPriority",
}
_CONTAINER_DEFAULTS: Final[Json] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}


def default_pull_policy(image: str) -> str:
    """What the API server writes where a container names no pull policy."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def normalised(pod: Json, desired: Json) -> Json:
    """`pod` as it is compared; `desired` says which fields the template leaves to the cluster."""
    spec = deepcopy(pod.get("spec") or {})
    wanted = desired.get("spec") or {}
    spec.pop("hostname", None)
    if not wanted.get("nodeName"):
        spec.pop("nodeName", None)
    for field, implied in _SPEC_DEFAULTS.items():
        if not wanted.get(field) and spec.get(field) == implied:
            spec.pop(field)
    spec["tolerations"] = [each for each in spec.get("tolerations") or () if not _is_usual(each)]
    _drop_tokens(spec)
    for kind in ("containers", "initContainers"):
        wishes = {container["name"]: container for container in wanted.get(kind) or ()}
        spec[kind] = [_container(c, wishes.get(c["name"]), main=kind == "containers") for c in spec.get(kind) or ()]
    found: Json = _compact({"metadata": _metadata(pod["metadata"]), "spec": spec})
    return found


def _metadata(metadata: Json) -> Json:
    kept = {key: value for key, value in metadata.items() if key not in _SERVER_METADATA}
    kept["labels"] = {key: value for key, value in (kept.get("labels") or {}).items() if key not in _OWN_LABELS}
    kept["annotations"] = {
        key: value
        for key, value in (kept.get("annotations") or {}).items()
        if key not in _OWN_ANNOTATIONS and not key.startswith(_OWN_PREFIX)
    }
    return kept


def _container(container: Json, wanted: Json | None, *, main: bool) -> Json:
    found = {key: value for key, value in container.items() if _CONTAINER_DEFAULTS.get(key) != value}
    if wanted is None:
        return found
    found.pop("image", None)
    implied = default_pull_policy(wanted.get("image", ""))
    if not wanted.get("imagePullPolicy") and found.get("imagePullPolicy") == implied:
        found.pop("imagePullPolicy")
    if main:
        found["env"] = [
            {**entry, "value": ""} if entry.get("name") == labels.ENV_ROLE_TEMPLATE_HASH else entry
            for entry in found.get("env") or ()
        ]
    return found


def _is_usual(toleration: Json) -> bool:
    usual = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    return toleration.get("key") in _TAINTS and {k: v for k, v in toleration.items() if k != "key"} == usual


def _drop_tokens(spec: Json) -> None:
    tokens = {volume["name"] for volume in spec.get("volumes") or () if _is_token(volume)}
    spec["volumes"] = [volume for volume in spec.get("volumes") or () if volume["name"] not in tokens]
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            mounts = container.get("volumeMounts") or ()
            container["volumeMounts"] = [mount for mount in mounts if mount["name"] not in tokens]


def _is_token(volume: Json) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    return volume["name"].startswith("kube-api-access-") and any("serviceAccountToken" in each for each in sources)


def _compact(value: Any) -> Any:
    """Without what is empty: nil and empty are the same."""
    if isinstance(value, dict):
        kept = {key: _compact(part) for key, part in value.items()}
        return {key: part for key, part in kept.items() if part not in (None, "", [], {})}
    return [_compact(part) for part in value] if isinstance(value, list) else value
