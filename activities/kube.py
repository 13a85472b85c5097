"""Calls to the API server: plain JSON over kept-alive connections, each with a deadline.

The generated client turns every answer into objects and back, which costs more than the call. Here an object is the
JSON that the server sent, without `managedFields`. Every failure is one of `activities.errors`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import orjson

from activities.credentials import Credentials
from activities.errors import (
    KubeAmbiguous,
    KubeError,
    KubeForbidden,
    KubeThrottled,
    KubeUnauthorized,
    KubeUnavailable,
    error_from,
)
from planning.planner import Json, Resource

CALL_SECONDS = 10.0
CONNECTIONS = 32
LINE_LIMIT_BYTES = 16 * 1024 * 1024
"""An object is at most 3 MiB in etcd; a longer line in a watch is no object."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
"""For kinds of Kubernetes only: lists are merged by their keys."""
APPLY_PATCH = "application/apply-patch+yaml"
FIELD_MANAGER = "brixflow"


def path_of(resource: Resource, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
    """The URL path of a collection, an object, or one of its subresources."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    parts = [root, f"namespaces/{namespace}" if namespace else "", resource.plural, name or "", sub or ""]
    return "/".join(part for part in parts if part)


def version_number(obj: Mapping[str, Any]) -> int:
    """An object's resourceVersion as a number: the API server promises that they can be compared."""
    try:
        return int(obj["metadata"].get("resourceVersion") or 0)
    except ValueError:
        return 0


class KubeClient:
    """One session with the API server. `may_write` is asked before each write: False without the Lease."""

    def __init__(self, credentials: Credentials, *, may_write: Callable[[], bool] = lambda: True) -> None:
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self.may_write = may_write

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, resource: Resource, namespace: str, name: str, *, deadline: float = CALL_SECONDS) -> Json:
        return await self.call("GET", path_of(resource, namespace, name), deadline=deadline)

    async def create(self, resource: Resource, namespace: str, body: Json, *, deadline: float = CALL_SECONDS) -> Json:
        params = {"fieldManager": FIELD_MANAGER}
        return await self.call("POST", path_of(resource, namespace), body=body, params=params, deadline=deadline)

    async def replace(
        self, resource: Resource, namespace: str, name: str, body: Json, *, sub: str | None = None
    ) -> Json:
        params = {"fieldManager": FIELD_MANAGER}
        return await self.call("PUT", path_of(resource, namespace, name, sub), body=body, params=params)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Any, kind: str = MERGE_PATCH, sub: str | None = None
    ) -> Json:
        params, path = {"fieldManager": FIELD_MANAGER}, path_of(resource, namespace, name, sub)
        return await self.call("PATCH", path, body=body, params=params, content_type=kind)

    async def apply(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Server-side apply: the fields of `body` are ours from now on, those we no longer name go, others stay."""
        path = path_of(resource, namespace, body["metadata"]["name"])
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self.call("PATCH", path, body=body, params=params, content_type=APPLY_PATCH)

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, version: str = "", grace_seconds: int = 0
    ) -> Json:
        """Delete exactly the object with `uid`, in that version if any: another one answers KubeConflict.

        `grace_seconds` is what a pod gets instead of its own grace; 0 leaves that.
        """
        preconditions = {"uid": uid} | ({"resourceVersion": version} if version else {})
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        body["propagationPolicy"] = "Background"
        if grace_seconds:
            body["gracePeriodSeconds"] = grace_seconds
        return await self.call("DELETE", path_of(resource, namespace, name), body=body)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        deadline: float = CALL_SECONDS,
        accept: str = "",
    ) -> Json:
        """One call, tried again while the server asks for patience and `deadline` (seconds) allows it.

        `accept` asks for another form of the answer, such as metadata alone.
        """
        if method != "GET" and not self.may_write():
            raise KubeForbidden("this process does not hold the operator's Lease")
        ends = time.monotonic() + deadline
        refused = False
        while True:
            try:
                return await self._once(method, path, body, params, content_type, ends - time.monotonic(), accept)
            except KubeThrottled as error:
                pause = error.retry_after if error.retry_after is not None else 1.0
                if time.monotonic() + pause >= ends:
                    raise
                await asyncio.sleep(pause)
            except KubeUnauthorized:
                self._credentials.distrust()
                if refused:
                    raise
                refused = True

    async def _once(
        self, method: str, path: str, body: Any, params: Mapping[str, str] | None, content_type: str, seconds: float,
        accept: str = "",
    ) -> Json:  # fmt: skip
        access = await self._credentials.access()
        headers = access.headers | ({"Content-Type": content_type} if body is not None else {}) | _accepting(accept)
        data = orjson.dumps(body) if body is not None else None
        timeout = aiohttp.ClientTimeout(total=max(seconds, 0.1))
        session = await self.session()
        try:
            async with (
                self._slots,
                session.request(
                    method, access.server + path, data=data, params=params, headers=headers, timeout=timeout
                ) as answer,
            ):
                raw = await answer.read()
                if answer.status >= 300:
                    raise error_from(answer.status, raw, _retry_after(answer))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _no_answer(error) from error
        return trimmed(orjson.loads(raw))

    async def watch(
        self, path: str, params: Mapping[str, str], silence_seconds: float, accept: str = ""
    ) -> AsyncIterator[Json]:
        """The events of a watch until the server ends it; KubeAmbiguous after `silence_seconds` without a byte."""
        access = await self._credentials.access()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS, sock_read=silence_seconds)
        session = await self.session()
        try:
            async with session.get(
                access.server + path, params=params, headers=access.headers | _accepting(accept), timeout=timeout
            ) as answer:
                if answer.status >= 300:
                    raise error_from(answer.status, await answer.read(), _retry_after(answer))
                async for line in _lines(answer.content):
                    yield orjson.loads(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _no_answer(error) from error

    async def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            access = await self._credentials.access()
            tls = access.tls if access.tls is not None else True
            connector = aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
        for line in whole:
            if line:
                yield line
        if len(rest) > LINE_LIMIT_BYTES:
            raise KubeAmbiguous("a line of the watch is longer than any object")


def _accepting(form: str) -> dict[str, str]:
    return {"Accept": form} if form else {}


def trimmed(obj: Json) -> Json:
    """The object without `managedFields`: half its size, and nobody here reads them."""
    metadata = obj.get("metadata")
    if metadata is not None:
        metadata.pop("managedFields", None)
    return obj


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _no_answer(error: Exception) -> KubeError:
    if isinstance(error, aiohttp.ClientConnectorError):
        return KubeUnavailable(f"the API server cannot be reached: {error}")
    return KubeAmbiguous(f"no answer from the API server: {type(error).__name__}: {error}")
