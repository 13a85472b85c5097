"""The smallest valid object of each kind, and ways to change it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
NAMESPACE = "crds-test"
POD = {"spec": {"containers": [{"name": "c", "image": "i"}]}}


def obj(group: str, kind: str, spec: Any, name: str = "t", **metadata: Any) -> Json:
    head = {"apiVersion": f"{group}/v1alpha1", "kind": kind}
    return head | {"metadata": {"name": name, "namespace": NAMESPACE} | metadata, "spec": spec}


def role(**fields: Any) -> Json:
    return {"name": "worker", "template": POD} | fields


def storm(
    *roles: Json, name: str = "t", annotations: Json | None = None, template: Json | None = None, **spec: Any
) -> Json:
    made = template or {"metadata": {"labels": {"app": "t"}}, "spec": {"roles": list(roles) or [role()]}}
    whole = {"selector": {"matchLabels": {"app": "t"}}, "template": made} | spec
    return obj("orchestration.aibrix.ai", "StormService", whole, name, annotations=annotations or {})


def roleset(*roles: Json, **spec: Any) -> Json:
    return obj("orchestration.aibrix.ai", "RoleSet", {"roles": list(roles) or [role()]} | spec)


def podset(**spec: Any) -> Json:
    return obj("orchestration.aibrix.ai", "PodSet", {"podGroupSize": 2, "template": POD} | spec)


def kvcache(annotations: Json | None = None, **spec: Any) -> Json:
    return obj("orchestration.aibrix.ai", "KVCache", spec, annotations=annotations or {})


def ray(kind: str, **spec: Any) -> Json:
    template = {
        "metadata": {"labels": {"app": "t"}},
        "spec": {"headGroupSpec": {"rayStartParams": {}, "template": POD}},
    }
    whole = {"selector": {"matchLabels": {"app": "t"}}, "template": template}
    return obj("orchestration.aibrix.ai", kind, whole | spec)


POD_SOURCE = {
    "metricSourceType": "pod", "protocolType": "http", "port": "8080", "path": "/metrics",
    "targetMetric": "gpu_cache_usage_perc", "targetValue": "0.5",
}  # fmt: skip
CPU_SOURCE = {"metricSourceType": "resource", "targetMetric": "cpu", "targetValue": "50"}


def scaler(*sources: Json, annotations: Json | None = None, drop: tuple[str, ...] = (), **spec: Any) -> Json:
    whole = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "minReplicas": 1, "maxReplicas": 10, "scalingStrategy": "KPA",
        "metricsSources": list(sources) or [POD_SOURCE],
    } | spec  # fmt: skip
    kept = {key: value for key, value in whole.items() if key not in drop}
    return obj("autoscaling.aibrix.ai", "PodAutoscaler", kept, annotations=annotations or {})


def schedule(**fields: Any) -> Json:
    return {"name": "peak", "startTime": "09:00", "endTime": "18:00", "minReplicas": 4} | fields


def adapter(url: str = "s3://bucket/model", **spec: Any) -> Json:
    return obj("model.aibrix.ai", "ModelAdapter", {"podSelector": {}, "artifactURL": url} | spec)


def claim(**spec: Any) -> Json:
    whole = {"podSelector": {"matchLabels": {"pool.aibrix.ai/name": "p"}}, "artifactURL": "huggingface://a/b"}
    return obj("model.aibrix.ai", "ModelClaim", whole | spec)


def pod(**metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "t", "namespace": NAMESPACE} | metadata} | POD


def deployment(*containers: Json, annotations: Json | None = None) -> Json:
    made = list(containers) or [{"name": "vllm", "image": "vllm/vllm-openai:latest"}]
    template = {"metadata": {"labels": {"app": "t"}}, "spec": {"containers": made}}
    spec = {"selector": {"matchLabels": {"app": "t"}}, "template": template}
    metadata = {"name": "t", "namespace": NAMESPACE, "annotations": annotations or {}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def stand_in(name: str, version: str, kind: str, scope: str = "Namespaced") -> Json:
    """A definition that takes any object, for a kind that is not ours to ship."""
    plural, _, group = name.partition(".")
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in"}},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": scope,
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }
