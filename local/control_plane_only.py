"""Just the control plane, for tests: a real API server with its controllers and, if wanted, Temporal.

    with ControlPlane(LocalSettings(home=tmp_path, api_server_port=21001, ...)) as cluster:
        cluster.kubectl("apply", "-f", "-", stdin=manifest)

It goes down with the process that started it, whatever ends that process.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.build import build_control_plane
from local.errors import KubectlError, NotRunningError, SupervisorError
from local.kubeconfig import kubectl
from local.parts.control_plane import ControlPlaneFiles, control_plane, write_kubeconfigs
from local.parts.temporal import temporal
from local.pki import ensure_pki
from local.settings import LocalSettings
from local.supervisor.client import SupervisorClient, is_supervised, start_supervisor

DEFAULT_ACCOUNT_SECONDS = 20.0


class ControlPlane:
    """A context manager: inside it the API server answers and ServiceAccounts are made."""

    def __init__(self, settings: LocalSettings, *, with_temporal: bool = False) -> None:
        self.settings = settings
        self._with_temporal = with_temporal
        self._supervisor: SupervisorClient | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Raises BuildError or SupervisorError, with nothing left running. A home serves one at a time."""
        home = self.settings.home
        if is_supervised(home):
            raise SupervisorError(f"a system runs in {home} already")
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        binary = build_control_plane(home / "logs" / "build.log")
        pki = ensure_pki(self.settings, datetime.now(UTC))
        write_kubeconfigs(self.settings, pki)
        parts = control_plane(self.settings, ControlPlaneFiles(binary, pki))
        if self._with_temporal:
            parts.append(temporal(self.settings))
        self._supervisor = start_supervisor(home, parent=os.getpid())
        try:
            self._supervisor.ensure(parts, _ignore)
            self._wait_for_default_account()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process. The state stays in the home."""
        if self._supervisor:
            with suppress(NotRunningError):
                self._supervisor.shutdown(_ignore)
            self._supervisor = None

    @property
    def supervisor(self) -> SupervisorClient:
        """For faults: `supervisor.by_hand("kill", "api-server", hold_seconds=5)`."""
        if self._supervisor is None:
            raise RuntimeError("the control plane is not started")
        return self._supervisor

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.settings.kubeconfig

    @property
    def node_kubeconfig(self) -> Path:
        """For `system:node:<node name>`."""
        return self.settings.node_kubeconfig

    @property
    def api_port(self) -> int:
        return self.settings.api_server_port

    @property
    def client_ca(self) -> Path:
        """The authority of those who may call the kubelet API: the API server only."""
        return self.settings.pki / "kubelet-client-ca.crt"

    @property
    def kubelet_client_cert(self) -> Path:
        return self.settings.pki / "kubelet-client.crt"

    @property
    def kubelet_client_key(self) -> Path:
        return self.settings.pki / "kubelet-client.key"

    @property
    def ca(self) -> Path:
        """The authority of everything that serves: API server and kubelet API."""
        return self.settings.pki / "ca.crt"

    @property
    def node_cert(self) -> Path:
        """What the node agent serves with."""
        return self.settings.pki / "node.crt"

    @property
    def node_key(self) -> Path:
        return self.settings.pki / "node.key"

    @property
    def temporal_address(self) -> str:
        return self.settings.temporal_address

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - named as subprocess names it
        """Run kubectl as administrator and return what it printed. Raises KubectlError."""
        return kubectl(self.kubeconfig, *arguments, stdin=input)

    def _wait_for_default_account(self) -> None:
        deadline = time.monotonic() + DEFAULT_ACCOUNT_SECONDS
        while True:
            try:
                self.kubectl("get", "serviceaccount", "default", "--namespace", "default")
            except KubectlError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def _ignore(_event: dict[str, Any]) -> None:
    """The report of somebody who does not listen."""
