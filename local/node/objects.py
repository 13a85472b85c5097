"""ConfigMaps, Secrets and service account tokens, fetched by name when a pod needs them.

Requests for one object that come within a second share one answer: fifty pods with the same volumes cost one request.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from local.node.api import ApiClient, NotFoundError
from local.node.files import Json

FRESH_SECONDS = 1.0
_PLURALS = {"ConfigMap": "configmaps", "Secret": "secrets"}


@dataclass(frozen=True)
class Token:
    """A bound service account token and when to ask for the next one."""

    text: str
    renew_at: float


class ObjectSource:
    """Reads objects for pods."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._answers: dict[tuple[str, str, str], tuple[float, asyncio.Task[dict[str, bytes] | None]]] = {}

    async def data(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        """The object's data, `binaryData` included; None when it does not exist. Raises ApiError."""
        key = (kind, namespace, name)
        asked_at, task = self._answers.get(key, (0.0, None))
        if task is None or time.monotonic() - asked_at > FRESH_SECONDS:
            task = asyncio.create_task(self._read(kind, namespace, name))
            self._answers[key] = (time.monotonic(), task)
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Drops answers that are no longer fresh."""
        limit = time.monotonic() - FRESH_SECONDS
        self._answers = {key: value for key, value in self._answers.items() if value[0] > limit}

    async def _read(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        try:
            found = await self._api.get(f"/api/v1/namespaces/{namespace}/{_PLURALS[kind]}/{name}")
        except NotFoundError:
            return None
        return _decode(kind, found)

    async def token(self, pod: Json, audience: str | None, seconds: int) -> Token:
        """A token of the pod's service account, bound to the pod."""
        metadata = pod["metadata"]
        account = pod["spec"].get("serviceAccountName", "default")
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"audiences": [audience] if audience else [], "expirationSeconds": seconds, "boundObjectRef": bound}
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        answer = await self._api.post(path, {"spec": spec})
        return Token(answer["status"]["token"], renewal_time(answer["status"]["expirationTimestamp"], time.time()))


def renewal_time(expiry: str, now: float) -> float:
    """A token is renewed after 80 % of its life or a day, whichever is sooner, as a kubelet does."""
    end = datetime.fromisoformat(expiry).timestamp()
    return now + min(0.8 * (end - now), 86400.0)


def _decode(kind: str, found: Json) -> dict[str, bytes]:
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}
    data = {key: value.encode() for key, value in found.get("data", {}).items()}
    return data | {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}


def as_text(data: Mapping[str, bytes] | None) -> dict[str, str] | None:
    """For environment variables."""
    return None if data is None else {key: value.decode(errors="replace") for key, value in data.items()}
