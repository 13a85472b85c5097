"""A model's way through Envoy Gateway, as the labels and annotations of its object ask for it.

    Deployment, fleet, ModelAdapter ──► HTTPRoute in aibrix-system ──► Service beside the object
                                        ReferenceGrant beside the object: it may name that Service

Both kinds are made from metadata alone. Whoever keeps them in the cluster decides when, and merges what others wrote.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from crds import labels
from crds.metadata import custom_paths, model_name, model_port, reference_grant_name, route_name

Json = dict[str, Any]

GATEWAY: Final = "aibrix-eg"
DEFAULT_TIMEOUT: Final = timedelta(seconds=120)
MATCHES_A_RULE: Final = 8
"""Gateway API takes no more in one rule."""
PATHS: Final = (
    "/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/rerank",
    "/v1/classify", "/generate", "/generatevideo", "/v1/audio/transcriptions", "/v1/audio/translations",
)  # fmt: skip


def http_route(metadata: Json, timeout: timedelta = DEFAULT_TIMEOUT) -> Json | None:
    """The HTTPRoute that an object with this metadata asks for; None when it is no model."""
    own_labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    model = model_name(own_labels, annotations)
    if not model:
        return None
    backend = {
        "name": annotations.get(labels.MODEL_SERVICE_NAME) or model,
        "namespace": metadata.get("namespace") or "default",
        "port": model_port(own_labels),
    }
    paths = list(dict.fromkeys((*PATHS, *custom_paths(annotations))))
    rules = [
        {
            "matches": [_match(path, model) for path in paths[first : first + MATCHES_A_RULE]],
            "backendRefs": [backend],
            "timeouts": {"request": f"{timeout.total_seconds():.0f}s"},
        }
        for first in range(0, len(paths), MATCHES_A_RULE)
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": route_name(model),
            "namespace": labels.SYSTEM_NAMESPACE,
            **_marks(own_labels, annotations),
        },
        "spec": {"parentRefs": [{"name": GATEWAY, "namespace": labels.SYSTEM_NAMESPACE}], "rules": rules},
    }


def reference_grant(namespace: str) -> Json | None:
    """What lets routes of the Gateway's namespace name Services of `namespace`; None where none is needed."""
    if namespace == labels.SYSTEM_NAMESPACE:
        return None
    source = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": labels.SYSTEM_NAMESPACE}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": reference_grant_name(namespace), "namespace": namespace},
        "spec": {"from": [source], "to": [{"group": "", "kind": "Service"}]},
    }


def _match(path: str, model: str) -> Json:
    header = {"type": "Exact", "name": "model", "value": model}
    return {"path": {"type": "PathPrefix", "value": path}, "headers": [header]}


def _marks(own_labels: Json, annotations: Json) -> Json:
    """What the console finds its routes by; nothing else of the object is copied."""
    managed = own_labels.get(labels.MANAGED_BY)
    console = (labels.CONSOLE_DEPLOYMENT_ID, labels.CONSOLE_DEPLOYMENT_NAME)
    found: Json = {"annotations": {key: value for key in console if (value := annotations.get(key))}}
    found["labels"] = {labels.MANAGED_BY: managed} if managed == labels.MANAGED_BY_CONSOLE else {}
    return {key: value for key, value in found.items() if value}
