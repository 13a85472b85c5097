"""Envoy, with its configuration rendered from the one template in `deploy/envoy`."""

from __future__ import annotations

import os
import sys

from csrc import module
from gateway import drain
from gateway.envoy import EnvoyValues, environment_for, render
from gateway.settings import GatewaySettings
from local.build import bin_directory
from local.parts.python import gateway
from local.pki import write_private
from local.settings import LocalSettings
from local.supervisor.part import HttpCheck, Part, fingerprint_of

NAME = "envoy"
WORKERS = max(1, min(4, (os.cpu_count() or 1) // 2))
OPEN_FILES = 65_536
"""Two for each connection that the listener admits, and room for Envoy's own."""

DRAIN_SECONDS = 10
STOP_SECONDS = 12.0
"""Longer than the drain, which starts a process."""


def write_envoy_config(settings: LocalSettings) -> None:
    """Render the configuration into the home; unchanged content is not written."""
    text = render(envoy_values(settings)).encode()
    if not settings.envoy_config.exists() or settings.envoy_config.read_bytes() != text:
        write_private(settings.envoy_config, text)


def envoy_values(settings: LocalSettings) -> EnvoyValues:
    """The gateway's processes listen on sockets beside the segment; how many there are is the gateway's setting."""
    own = GatewaySettings.from_environment(gateway(settings).environment)
    return EnvoyValues(
        listen_port=settings.gateway_port,
        admin_port=settings.envoy_admin_port,
        host=own.host,
        segment=own.segment_path,
        max_requests=own.max_requests,
        ext_proc=own.sockets,
        http=f"127.0.0.1:{settings.gateway_http_port}",
        access_log=settings.logs / "access.log",
        body_limit_bytes=own.message_limit_bytes,
        held_bytes=own.held_bytes,
        idle_timeout=own.idle_timeout,
        tracing=own.tracing,
    )


def envoy(settings: LocalSettings) -> Part:
    """Healthy when its listener is up. It serves what it can while the gateway is away, and ends after its requests."""
    command = (
        str(bin_directory() / "envoy"),
        "-c",
        str(settings.envoy_config),
        "--disable-hot-restart",
        "--concurrency",
        str(WORKERS),
        "--log-level",
        "warning",
    )
    environment = {"HOME": str(settings.home), **environment_for(envoy_values(settings))}
    admin = f"http://127.0.0.1:{settings.envoy_admin_port}"
    files = [settings.envoy_config, bin_directory() / "envoy", module.FILE]
    return Part(
        name=NAME,
        command=command,
        environment=environment,
        check=HttpCheck(f"{admin}/ready"),
        address=settings.endpoint,
        after=("gateway",),
        drain=(sys.executable, "-I", drain.__file__, admin, str(DRAIN_SECONDS)),
        open_files=OPEN_FILES,
        stop_seconds=STOP_SECONDS,
        fingerprint=fingerprint_of(command, environment, files),
    )
