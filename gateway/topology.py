"""Which pods serve which model: pure rules from a Pod object to what the kernel is told.

A pod takes part when it names a model; it may be chosen when it has an address, is Ready and is not being deleted. Pods
that may not be chosen stay listed, so that a model whose pods all fail answers 503 and not 400.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from crds import labels
from csrc.binding import Pod

RAY_NODE_TYPE = "ray.io/node-type"
DATA_PARALLEL_SIZE = "data-parallel-size"
METRICS_PATH = "/metrics"
METRICS_PATHS = {"trtllm": "/prometheus/metrics"}
DEFAULT_ENGINE = "vllm"
MAX_PORT = 65535
MODEL_BYTES = 255

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod that serves a model, reduced to what routing and metrics need."""

    uid: str
    namespace: str
    name: str
    model: str
    ip: str
    ports: tuple[int, ...]
    metrics_port: int | None
    ready: bool
    engine: str
    role: str
    roleset: str
    role_replica_index: str
    labels: Mapping[str, str] = field(hash=False)
    config: str = ""
    created: str = ""
    claimed: bool = False
    """A ModelClaim brought the model to this pod; others may be there."""

    @property
    def keys(self) -> tuple[str, ...]:
        """What the kernel knows the pod's ports by."""
        is_one = len(self.ports) == 1 and not self.claimed
        return (self.uid,) if is_one else tuple(f"{self.uid}/{port}" for port in self.ports)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A model that is loaded into pods of another one: its name, and the names of those pods."""

    namespace: str
    name: str
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A metrics page to be asked for: of one port, or of all data-parallel engines of a pod, by rank."""

    keys: tuple[str, ...]
    pod: str
    host: str
    port: int
    path: str
    model: str


def endpoint_of(pod: Json) -> Endpoint | None:
    """The pod as an endpoint, or None when it serves no model or is not the one that answers for its group."""
    metadata: Json = pod["metadata"]
    own: Mapping[str, str] = metadata.get("labels") or {}
    notes: Mapping[str, str] = metadata.get("annotations") or {}
    model = own.get(labels.MODEL_NAME) or notes.get(labels.MODEL_NAME) or ""
    return endpoint_for(pod, model) if is_model_name(model) and answers_for_group(own) else None


def is_model_name(text: str) -> bool:
    """False for what the kernel takes for no name; annotations may hold anything."""
    try:
        return 0 < len(text.encode()) <= MODEL_BYTES
    except UnicodeEncodeError:
        return False


def answers_for_group(own: Mapping[str, str]) -> bool:
    """False for a pod that serves only together with another one, by its labels."""
    return own.get(RAY_NODE_TYPE) != "worker" and _group_index(own) <= 0


def endpoint_for(pod: Json, model: str) -> Endpoint:
    """The pod as an endpoint that serves this model."""
    metadata: Json = pod["metadata"]
    own: Mapping[str, str] = metadata.get("labels") or {}
    notes: Mapping[str, str] = metadata.get("annotations") or {}
    environment = _environment(pod)
    return Endpoint(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        model=model,
        ip=(pod.get("status") or {}).get("podIP") or "",
        ports=_ports(own, environment),
        metrics_port=_metrics_port(own),
        ready=is_ready(pod),
        engine=own.get(labels.MODEL_ENGINE) or notes.get(labels.MODEL_ENGINE) or DEFAULT_ENGINE,
        role=own.get(labels.ROLE_NAME) or environment.get(labels.ENV_ROLE_NAME, ""),
        roleset=environment.get(labels.ENV_ROLESET_NAME, ""),
        role_replica_index=environment.get(labels.ENV_ROLE_REPLICA_INDEX, ""),
        labels=own,
        config=notes.get(labels.MODEL_CONFIG, ""),
        created=metadata.get("creationTimestamp") or "",
    )


def adapter_of(subject: Json) -> Adapter:
    """A ModelAdapter with the pods that its status lists."""
    metadata: Json = subject["metadata"]
    instances: Iterable[str] = (subject.get("status") or {}).get("instances") or ()
    return Adapter(metadata["namespace"], metadata["name"], tuple(instances))


def with_adapters(endpoints: Iterable[Endpoint], adapters: Iterable[Adapter]) -> list[Endpoint]:
    """The endpoints, and once more under the name of each adapter that is loaded into one.

    A pod that is not known is skipped, and served once it is. A pod that changes keeps its adapters.
    """
    found = list(endpoints)
    pods = {(each.namespace, each.name): each for each in found}
    served = {(each.uid, each.model) for each in found}
    for adapter in sorted(adapters, key=lambda each: (each.namespace, each.name)):
        for name in adapter.instances:
            pod = pods.get((adapter.namespace, name))
            if pod is not None and (pod.uid, adapter.name) not in served:
                served.add((pod.uid, adapter.name))
                found.append(replace(pod, model=adapter.name))
    return found


def is_ready(pod: Json) -> bool:
    """True when the pod may be chosen: an address, condition Ready, and no deletion under way."""
    status: Json = pod.get("status") or {}
    if not status.get("podIP") or pod["metadata"].get("deletionTimestamp"):
        return False
    conditions: Iterable[Json] = status.get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def models_of(endpoints: Iterable[Endpoint]) -> dict[str, list[Pod]]:
    """The whole truth for the kernel: each model with its pods, in a stable order."""
    models: dict[str, list[Pod]] = {}
    for endpoint in sorted(endpoints, key=lambda each: (each.namespace, each.name, each.uid)):
        models.setdefault(endpoint.model, []).extend(_pods_of(endpoint))
    return models


def _pods_of(endpoint: Endpoint) -> Iterable[Pod]:
    host = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
    for key, port in zip(endpoint.keys, endpoint.ports, strict=True):
        yield Pod(
            key=key,
            namespace=endpoint.namespace,
            name=endpoint.name,
            address=f"{host}:{port}" if host else "",
            ready=endpoint.ready,
            engine=endpoint.engine,
            labels=endpoint.labels,
        )


def targets_of(endpoints: Iterable[Endpoint]) -> Iterable[Target]:
    """The pages of all pods that may be chosen. A pod that names a metrics port has one page for all its engines."""
    for endpoint in endpoints:
        if not endpoint.ready:
            continue
        path = METRICS_PATHS.get(endpoint.engine, METRICS_PATH)
        name = f"{endpoint.namespace}/{endpoint.name}"
        if endpoint.metrics_port is not None:
            yield Target(endpoint.keys, name, endpoint.ip, endpoint.metrics_port, path, endpoint.model)
            continue
        for key, port in zip(endpoint.keys, endpoint.ports, strict=True):
            yield Target((key,), name, endpoint.ip, port, path, endpoint.model)


def _metrics_port(own: Mapping[str, str]) -> int | None:
    """As labelled; without a label each port serves its own page."""
    if labels.MODEL_METRIC_PORT not in own:
        return None
    port = _integer(own[labels.MODEL_METRIC_PORT])
    return port if port is not None and 0 < port <= MAX_PORT else labels.DEFAULT_MODEL_PORT


def _group_index(own: Mapping[str, str]) -> int:
    return _integer(own.get(labels.POD_GROUP_INDEX, "")) or 0


def _ports(own: Mapping[str, str], environment: Mapping[str, str]) -> tuple[int, ...]:
    base = _integer(own.get(labels.MODEL_PORT, ""))
    if base is None or not 0 < base <= MAX_PORT:
        return (labels.DEFAULT_MODEL_PORT,)
    count = max(1, _integer(environment.get(DATA_PARALLEL_SIZE, "")) or 1)
    return tuple(range(base, min(base + count, MAX_PORT + 1)))


def _environment(pod: Json) -> dict[str, str]:
    containers: Iterable[Json] = (pod.get("spec") or {}).get("containers") or ()
    first: Json = next(iter(containers), {})
    return {each["name"]: each.get("value") or "" for each in first.get("env") or ()}


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
