"""Where the API server is and who we are: a kubeconfig, or the ServiceAccount of the pod that we run in.

Reading the files is left to the kubernetes client's loaders, which know every form of credential (token, tokenFile,
client certificate, exec plugin, OIDC). They read once; this module reads again, since tokens are short-lived.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

REREAD_SECONDS = 60.0
"""A token on disk is at most this old; the API server's 401 has it read at once."""


@dataclass(frozen=True, slots=True)
class Access:
    """One reading of the credentials."""

    server: str
    tls: ssl.SSLContext | None
    headers: dict[str, str]


class Credentials:
    """Access that is read again every minute, or when a call was answered by 401.

    `kubeconfig` None means in-cluster, `context` None the kubeconfig's current one. The TLS context is kept
    from the first reading: sessions hold on to it.
    """

    def __init__(self, kubeconfig: str | None, *, context: str | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._access: Access | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()

    async def access(self) -> Access:
        if self._access is not None and time.monotonic() - self._read_at < REREAD_SECONDS:
            return self._access
        async with self._lock:
            if self._access is None or time.monotonic() - self._read_at >= REREAD_SECONDS:
                self._access = await self._read()
                self._read_at = time.monotonic()
        return self._access

    def distrust(self) -> None:
        """The next call reads the files again."""
        self._read_at = time.monotonic() - REREAD_SECONDS

    async def _read(self) -> Access:
        configuration = Configuration()
        if self._kubeconfig is None:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call] # has no annotations
        else:
            await load_kube_config(  # type: ignore[no-untyped-call] # has no annotations
                config_file=self._kubeconfig, context=self._context, client_configuration=configuration
            )
        token = await configuration.get_api_key_with_prefix("BearerToken")
        tls = self._access.tls if self._access is not None else tls_context(configuration)
        return Access(
            server=configuration.host.rstrip("/"),
            tls=tls,
            headers={"Authorization": _bearer(token)} if token else {},
        )


def _bearer(token: str) -> str:
    return token if " " in token else f"Bearer {token}"


def tls_context(configuration: Configuration) -> ssl.SSLContext | None:
    """None for plain HTTP; else a context that checks the server as the kubeconfig says."""
    if not configuration.host.startswith("https"):
        return None
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
