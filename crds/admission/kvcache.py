"""KVCache: which backend keeps the cache, said by annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crds import labels
from crds.admission.faults import Fault, not_supported
from crds.admission.values import annotations_of, mapping, text
from crds.metadata import port_annotation, positive_annotation

Json = dict[str, Any]

BACKENDS = ("vineyard", "hpkv", "infinistore")
DEFAULT_BACKEND = "vineyard"
_BACKEND_OF_MODE = {"distributed": "infinistore"}


def backend(obj: Json) -> str:
    """The backend annotation, else what the deprecated mode annotation means, else vineyard."""
    found = annotations_of(obj)
    own = text(found.get(labels.KVCACHE_BACKEND))
    return own or _BACKEND_OF_MODE.get(text(found.get(labels.KVCACHE_MODE)), DEFAULT_BACKEND)


def with_defaults(obj: Json) -> Json:
    """The object with both annotations."""
    found = annotations_of(obj)
    mode = text(found.get(labels.KVCACHE_MODE)) or DEFAULT_BACKEND
    wanted = found | {labels.KVCACHE_BACKEND: backend(obj), labels.KVCACHE_MODE: mode}
    return obj if wanted == found else obj | {"metadata": mapping(obj, "metadata") | {"annotations": wanted}}


def faults(obj: Json) -> Iterator[Fault]:
    found = backend(obj)
    if found not in BACKENDS:
        yield not_supported(f"metadata.annotations[{labels.KVCACHE_BACKEND}]", found, BACKENDS)


def warnings(obj: Json) -> Iterator[str]:
    if labels.KVCACHE_MODE in annotations_of(obj) and annotations_of(obj)[labels.KVCACHE_MODE] != DEFAULT_BACKEND:
        yield f"annotation {labels.KVCACHE_MODE} is deprecated: use {labels.KVCACHE_BACKEND}"
    if backend(obj) == DEFAULT_BACKEND and not mapping(obj, "spec", "metadata", "etcd"):
        yield "the vineyard backend needs spec.metadata.etcd: without it no cache pod starts"

    for key, default in labels.KVCACHE_PORTS.items():
        if (value := text(annotations_of(obj).get(key))) and not port_annotation({key: value}, key, 0):
            yield f"annotation {key} is ignored: {value!r} is not a port, {default} is used"
    for key, default in labels.KVCACHE_COUNTS.items():
        if (value := text(annotations_of(obj).get(key))) and not positive_annotation({key: value}, key, 0):
            yield f"annotation {key} is ignored: {value!r} is not a number above 0, {default} is used"


def judged(obj: Json) -> Any:
    found = annotations_of(obj)
    return [obj.get("spec"), found.get(labels.KVCACHE_BACKEND), found.get(labels.KVCACHE_MODE)]
