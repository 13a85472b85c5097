"""A thin client of the Kubernetes API: raw JSON, because typed models are too slow for watches.

ApiError            the API server answered with a Status that is not a success
├─ NotFoundError         404: the object is gone; final
├─ ConflictError         409: another uid or version; read again
└─ WatchExpiredError     410: list again
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import orjson

from local.node.files import Json

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"{status} {body.get('reason', '')}: {body.get('message', '')}")
        self.status = status
        self.message = str(body.get("message", ""))


class NotFoundError(ApiError):
    """The object does not exist."""


class ConflictError(ApiError):
    """The object is another one, or has changed, or exists already."""


class WatchExpiredError(ApiError):
    """The resource version is too old."""


_ERRORS = {404: NotFoundError, 409: ConflictError, 410: WatchExpiredError}


def _error(status: int, body: Json) -> ApiError:
    return _ERRORS.get(status, ApiError)(status, body)


class ApiClient:
    """Requests to one API server with the credentials of a kubeconfig."""

    def __init__(self, server: str, context: ssl.SSLContext, headers: dict[str, str]) -> None:
        self.server = server.rstrip("/")
        connector = aiohttp.TCPConnector(ssl=context, limit=32, keepalive_timeout=30)
        timeout = aiohttp.ClientTimeout(total=30, sock_connect=5)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)

    @classmethod
    def from_kubeconfig(cls, path: Path) -> ApiClient:
        """Reads the current context of `path`."""
        from kubernetes.client import Configuration
        from kubernetes.config import load_kube_config

        read = Configuration()
        load = cast("Callable[..., None]", load_kube_config)
        load(config_file=str(path), client_configuration=read, persist_config=False)
        context = ssl.create_default_context(cafile=read.ssl_ca_cert)
        if read.cert_file:
            context.load_cert_chain(read.cert_file, read.key_file)
        token = read.get_api_key_with_prefix("authorization")
        return cls(read.host, context, {"Authorization": token} if token else {})

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Json:
        """One request; returns the decoded object, raises ApiError or aiohttp.ClientError."""
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content, "Accept": "application/json"}
        async with self._session.request(method, self.server + path, data=data, headers=headers) as answer:
            raw = await answer.read()
        if answer.status < 300:
            decoded: Json = orjson.loads(raw)
            return decoded
        raise _error(answer.status, _status_body(raw))

    async def get(self, path: str) -> Json:
        """GET."""
        return await self.request("GET", path)

    async def post(self, path: str, body: Json) -> Json:
        """POST."""
        return await self.request("POST", path, body)

    async def patch(self, path: str, body: Json, content: str = MERGE) -> Json:
        """PATCH, a JSON merge patch unless said otherwise."""
        return await self.request("PATCH", path, body, content)

    async def watch(self, path: str, version: str) -> AsyncIterator[Json]:
        """Events of a watch, bookmarks included, until the server ends it. Raises WatchExpiredError."""
        joint = "&" if "?" in path else "?"
        query = f"{joint}watch=1&allowWatchBookmarks=1&timeoutSeconds=590&resourceVersion={version}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=620)
        async with self._session.get(self.server + path + query, timeout=timeout) as answer:
            if answer.status != 200:
                raise _error(answer.status, _status_body(await answer.read()))
            async for event in _lines(answer.content):
                if event["type"] == "ERROR":
                    raise _error(int(event["object"].get("code", 500)), event["object"])
                yield event


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[Json]:
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield orjson.loads(line)


def _status_body(raw: bytes) -> Json:
    with contextlib.suppress(orjson.JSONDecodeError):
        decoded = orjson.loads(raw)
        if isinstance(decoded, dict):
            return decoded
    return {"message": raw[:200].decode(errors="replace")}
