"""Gateway and Envoy without Kubernetes: what needs no API server starts in two seconds."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.envoy import EnvoyValues, environment_for, render
from gateway.settings import GatewaySettings, Host
from tests.gateway.parts import Engine, Part, free_port
from tests.gateway.rig import ENVOY, OURS


class Standalone:
    """Gateway and Envoy on a file of endpoints."""

    def __init__(self, host: Host, home: Path, **variables: str) -> None:
        self.file = home / "endpoints.yaml"
        given = {
            "BRIXFLOW_ENDPOINTS_FILE": str(self.file),
            "BRIXFLOW_GATEWAY_HOST": host,
            "BRIXFLOW_GATEWAY_PROCESSES": "1",
            "BRIXFLOW_SEGMENT_PATH": str(home / "shm" / "segment"),
            "BRIXFLOW_EXT_PROC_ADDRESS": f"127.0.0.1:{free_port()}",
            "BRIXFLOW_GATEWAY_HTTP_ADDRESS": f"127.0.0.1:{free_port()}",
            "AIBRIX_SHUTDOWN_DRAIN_SECONDS": "1",
            **variables,
        }
        self.settings = GatewaySettings.from_environment(given)
        self.environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"} | OURS | given
        self.home, self.port, self.parts = home, free_port(), list[Part]()

    def say(self, *engines: Engine, model: str = "m") -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"models: [{{name: {model}, endpoints: {[each.address for each in engines]}}}]")
        fresh.replace(self.file)

    def start(self) -> None:
        values = EnvoyValues(
            host=self.settings.host, segment=self.settings.segment_path, ext_proc=self.settings.sockets,
            listen_port=self.port, admin_port=free_port(), http=self.settings.http_address,
            access_log=Path("/dev/null"), listen_address="127.0.0.1", tracing=self.settings.tracing,
        )  # fmt: skip
        config = self.home / "envoy.yaml"
        config.write_text(render(values))
        command = [str(ENVOY), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
        gateway = [sys.executable, "-m", "gateway.process"]
        self.parts.append(Part.start("gateway", self.home, gateway, self.environment))
        self.parts.append(Part.start("envoy", self.home, command, os.environ | environment_for(values)))

    def stop(self) -> None:
        for part in reversed(self.parts):
            part.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://{self.settings.http_address}"


@contextlib.contextmanager
def without_kubernetes(host: Host, **variables: str) -> Iterator[Standalone]:
    """One that is not started; what was started ends with the block."""
    with tempfile.TemporaryDirectory(prefix="brixst-") as home:
        alone = Standalone(host, Path(home), **variables)
        try:
            yield alone
        finally:
            alone.stop()
