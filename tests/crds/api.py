"""Plain calls to the API server: one connection, answers as they come. A test asks hundreds of questions with it."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.crds.objects import NAMESPACE

Json = dict[str, Any]

PLURALS = {
    "StormService": "stormservices", "RoleSet": "rolesets", "PodSet": "podsets", "KVCache": "kvcaches",
    "RayClusterFleet": "rayclusterfleets", "RayClusterReplicaSet": "rayclusterreplicasets",
    "PodAutoscaler": "podautoscalers", "ModelAdapter": "modeladapters", "ModelClaim": "modelclaims",
    "Deployment": "deployments", "Service": "services", "Pod": "pods", "ConfigMap": "configmaps", "Secret": "secrets",
    "ServiceAccount": "serviceaccounts", "Role": "roles", "RoleBinding": "rolebindings",
    "PersistentVolumeClaim": "persistentvolumeclaims", "ResourceClaimTemplate": "resourceclaimtemplates",
    "HTTPRoute": "httproutes", "ReferenceGrant": "referencegrants",
}  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """What the API server said: the object or a Status, and its warnings."""

    code: int
    body: Json
    warnings: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        return self.code < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def fields(self) -> list[str]:
        causes = (self.body.get("details") or {}).get("causes") or []
        return [cause.get("field", "") for cause in causes]


class Api:
    """Calls as the administrator of `kubeconfig`."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self.server = cluster["server"]
        self.session = requests.Session()
        self.session.trust_env = False  # a proxy or authority of the shell is not the cluster's
        self.session.verify = str(_written(folder / "ca.crt", cluster["certificate-authority-data"]))
        certificate = _written(folder / "client.crt", user["client-certificate-data"])
        self.session.cert = (str(certificate), str(_written(folder / "client.key", user["client-key-data"])))

    def ask(self, obj: Json, *, validation: str = "Strict") -> Reply:
        """Create without storing: what would be stored, or why not."""
        return self._call("POST", path_of(obj), obj, {"dryRun": "All", "fieldValidation": validation})

    def ask_text(self, text: str, at: Json, *, validation: str = "Strict") -> Reply:
        """As `ask`, with YAML as somebody wrote it, to be an object beside `at`."""
        query = {"dryRun": "All", "fieldValidation": validation}
        return self._send("POST", path_of(at), text.encode(), query, "application/yaml")

    def create(self, obj: Json) -> Reply:
        return self._call("POST", path_of(obj), obj, {"fieldValidation": "Strict"})

    def get(self, obj: Json) -> Reply:
        return self._call("GET", named(obj))

    def replace(self, obj: Json, *, dry: bool = False) -> Reply:
        return self._call("PUT", named(obj), obj, {"dryRun": "All"} if dry else {})

    def merge(self, obj: Json, patch: Json, sub: str = "") -> Reply:
        return self._call("PATCH", named(obj) + sub, patch, {}, "application/merge-patch+json")

    def apply(self, obj: Json, *, dry: bool = False, validation: str = "Strict") -> Reply:
        """Server-side."""
        query = {"fieldManager": "test", "fieldValidation": validation} | ({"dryRun": "All"} if dry else {})
        return self._call("PATCH", named(obj), obj, query, "application/apply-patch+yaml")

    def delete(self, obj: Json) -> Reply:
        return self._call("DELETE", named(obj))

    def _call(
        self, method: str, path: str, body: Json | None = None, query: Json | None = None,
        kind: str = "application/json",
    ) -> Reply:  # fmt: skip
        return self._send(method, path, json.dumps(body).encode() if body is not None else None, query, kind)

    def _send(self, method: str, path: str, data: bytes | None, query: Json | None, kind: str) -> Reply:
        answer = self.session.request(
            method, self.server + path, data=data, params=query, headers={"Content-Type": kind}, timeout=30
        )
        said = re.findall(r'299 - "((?:[^"\\]|\\.)*)"', answer.headers.get("Warning", ""))
        return Reply(answer.status_code, answer.json(), said)


def path_of(obj: Json) -> str:
    root = f"/apis/{obj['apiVersion']}" if "/" in obj["apiVersion"] else f"/api/{obj['apiVersion']}"
    return f"{root}/namespaces/{obj['metadata'].get('namespace', NAMESPACE)}/{PLURALS[obj['kind']]}"


def named(obj: Json) -> str:
    return f"{path_of(obj)}/{obj['metadata']['name']}"


def _written(path: Path, data: str) -> Path:
    path.write_bytes(base64.b64decode(data))
    return path
