"""Deployment: gets the runtime sidecar when its annotation asks for it; nothing of it is judged."""

from __future__ import annotations

from typing import Any

from crds import labels
from crds.admission.sidecar import Sidecar, injected
from crds.admission.values import annotations_of, mapping, text

Json = dict[str, Any]


def with_sidecar(obj: Json, image: str) -> Json:
    """Only the exact annotation value `true` asks for it."""
    found, template = annotations_of(obj), mapping(obj, "spec", "template")
    if found.get(labels.SIDECAR_INJECTION) != "true" or not mapping(template, "spec"):
        return obj
    sidecar = Sidecar(text(found.get(labels.SIDECAR_IMAGE)) or image, text(found.get(labels.MODEL_ENGINE)))
    made = injected(template, sidecar)
    return obj if made is template else obj | {"spec": mapping(obj, "spec") | {"template": made}}
