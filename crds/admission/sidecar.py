"""The runtime sidecar: a container that loads adapters and renames metrics, put in front of the engine's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from crds import labels
from crds.admission.values import annotations_of, items, mapping, mappings, text

Json = dict[str, Any]

NAME: Final = "aibrix-runtime"
DEFAULT_IMAGE: Final = "aibrix/runtime:v0.5.0"
PORT: Final = 8080
VOLUME: Final = "adapter-storage"
MOUNT: Final[Json] = {"name": VOLUME, "mountPath": "/tmp/aibrix/adapters"}  # noqa: S108 - a path in the container
_ENGINES_IN_IMAGES: Final = (
    (("vllm",), "vllm"), (("sglang",), "sglang"), (("text-generation-inference",), "tgi"), (("tgi",), "tgi"),
    (("triton",), "triton"), (("llama", "cpp"), "llamacpp"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sidecar:
    """`engine` is what an annotation names, empty when none does."""

    image: str
    engine: str = ""


def injected(template: Json, sidecar: Sidecar) -> Json:
    """A pod template with the sidecar first; one that has it already is returned as it is."""
    spec = mapping(template, "spec")
    containers = items(spec.get("containers"))
    if any(container.get("name") == NAME for _, container in mappings(containers)):
        return template
    made = [_container(template, sidecar), *(_mounting(container) for container in containers)]
    volumes = [volume for volume in items(spec.get("volumes")) if not _is_other_storage(volume)]
    if not any(volume.get("name") == VOLUME for _, volume in mappings(volumes)):
        volumes = [*volumes, {"name": VOLUME, "emptyDir": {}}]
    return template | {"spec": spec | {"containers": made, "volumes": volumes}}


def engine_of(template: Json, named: str) -> str:
    """The pod's engine label, else the annotation's word, else what an image's name says, else `unknown`."""
    if label := text(mapping(template, "metadata", "labels").get(labels.MODEL_ENGINE)):
        return label
    if named:
        return named
    for _, container in mappings(mapping(template, "spec").get("containers")):
        image = text(container.get("image")).lower()
        for words, engine in _ENGINES_IN_IMAGES:
            if all(word in image for word in words):
                return engine
    return "unknown"


def port_of(template: Json) -> int:
    """Where the engine listens: the port label or annotation, else 8000."""
    for found in (mapping(template, "metadata", "labels"), annotations_of(template)):
        value = text(found.get(labels.MODEL_PORT))
        if value.isascii() and value.isdecimal() and 0 < int(value) < 65536:
            return int(value)
    return labels.DEFAULT_MODEL_PORT


def _container(template: Json, sidecar: Sidecar) -> Json:
    return {
        "name": NAME,
        "image": sidecar.image,
        "command": ["aibrix_runtime", "--port", str(PORT)],
        "env": [
            {"name": "INFERENCE_ENGINE", "value": engine_of(template, sidecar.engine)},
            {"name": "INFERENCE_ENGINE_ENDPOINT", "value": f"http://localhost:{port_of(template)}"},
        ],
        "ports": [{"name": "metrics", "containerPort": PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/healthz", initial=3, period=2),
        "readinessProbe": _probe("/ready", initial=5, period=10),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
        "volumeMounts": [dict(MOUNT)],
    }


def _probe(path: str, *, initial: int, period: int) -> Json:
    return {"httpGet": {"path": path, "port": PORT}, "initialDelaySeconds": initial, "periodSeconds": period}


def _mounting(container: Any) -> Any:
    if not isinstance(container, dict):
        return container
    mounts = items(container.get("volumeMounts"))
    if any(mapping(mount).items() >= MOUNT.items() for mount in mounts):
        return container
    return container | {"volumeMounts": [*mounts, dict(MOUNT)]}


def _is_other_storage(volume: Any) -> bool:
    found = mapping(volume)
    return found.get("name") == VOLUME and "emptyDir" not in found
