"""A small reading client of the API server: kubeconfig or in-cluster identity, raw JSON, nothing else.

The generated client would build an object tree for every pod; the gateway needs a few fields of each. Errors:

    KubeError
    |- WatchExpired   410: the version is too old, list anew
    |- KubeRefused    any other status of the server: retry later
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, NoReturn, Self

import aiohttp
import orjson
from kubernetes.aio import client, config

CONNECT_TIMEOUT_SECONDS = 5


class KubeError(Exception):
    """Root of what the API server answers instead of data."""


class WatchExpired(KubeError):  # noqa: N818 - a leaf of the tree above, named by what happened
    """The resource version is no longer known: list anew."""


class KubeRefused(KubeError):  # noqa: N818 - a leaf of the tree above, named by what happened
    """The server answered with an error status; retry later."""


class KubeClient:
    """Reads from one API server. Use `connect`, and close it."""

    def __init__(self, kubeconfig: str, configuration: Any, session: aiohttp.ClientSession) -> None:
        self._kubeconfig = kubeconfig
        self._configuration = configuration
        self._session = session

    @classmethod
    async def connect(cls, kubeconfig: str) -> Self:
        """A client with the identity of `kubeconfig`, or of the pod it runs in when that is empty."""
        configuration = await _identity(kubeconfig)
        connector = aiohttp.TCPConnector(ssl=_ssl_context(configuration))
        return cls(kubeconfig, configuration, aiohttp.ClientSession(connector=connector))

    async def get(self, path: str, query: Mapping[str, str], timeout_seconds: float) -> dict[str, Any]:
        """The JSON document at `path`."""
        async with await self._ask(path, query, timeout_seconds) as got:
            document: dict[str, Any] = orjson.loads(await got.read())
            return document

    async def watch(
        self, path: str, query: Mapping[str, str], timeout_seconds: float
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Batches of watch events as they arrive, until the server ends the watch or the time is up."""
        async with await self._ask(path, query, timeout_seconds) as got:
            rest = b""
            async for chunk in got.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if lines:
                    yield [orjson.loads(line) for line in lines if line]

    async def _ask(self, path: str, query: Mapping[str, str], timeout_seconds: float) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS)
        address = f"{self._configuration.host}{path}"
        got = await self._session.get(address, params=query, headers=await self._headers(), timeout=timeout)
        if got.status != HTTPStatus.OK:
            if got.status == HTTPStatus.UNAUTHORIZED:
                # A token in the file may have been renewed since it was read.
                self._configuration = await _identity(self._kubeconfig)
            async with got:
                _raise_for(got.status, await got.read())
        return got

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _headers(self) -> dict[str, str]:
        settings = await self._configuration.auth_settings()
        return {each["key"]: each["value"] for each in settings.values() if each["in"] == "header" and each["value"]}


async def _identity(kubeconfig: str) -> Any:
    configuration = client.Configuration()
    if kubeconfig:
        await config.load_kube_config(  # type: ignore[no-untyped-call] # the loader has no annotations
            config_file=kubeconfig, client_configuration=configuration
        )
    else:
        config.load_incluster_config(  # type: ignore[no-untyped-call] # the loader has no annotations
            client_configuration=configuration
        )
    return configuration


def _ssl_context(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _raise_for(status: int, body: bytes) -> NoReturn:
    if status == HTTPStatus.GONE:
        raise WatchExpired("the resource version is too old")
    raise KubeRefused(f"status {status}: {body[:300].decode(errors='replace')}")
