"""Temporal: the development server with its UI, and a database file, so that histories outlive it."""

from __future__ import annotations

from local.build import bin_directory
from local.settings import LocalSettings
from local.supervisor.part import HttpCheck, Part, fingerprint_of

NAME = "temporal"
TUNING = (
    # One node needs one partition a queue; more of them only forward tasks to each other.
    "--dynamic-config-value=matching.numTaskqueueReadPartitions=1",
    "--dynamic-config-value=matching.numTaskqueueWritePartitions=1",
    # No wait for the disk at each commit: a killed process loses nothing, a power cut may.
    "--sqlite-pragma=synchronous=off",
)


def temporal(settings: LocalSettings) -> Part:
    """Healthy when the UI's API knows the default namespace, which needs the server, its database and the UI."""
    flags = {
        "ip": "127.0.0.1",
        "port": settings.temporal_port,
        "ui-port": settings.temporal_ui_port,
        "metrics-port": settings.temporal_metrics_port,
        "db-filename": settings.home / "temporal.db",
        "log-level": "warn",
    }
    command = (
        str(bin_directory() / "temporal"),
        "server",
        "start-dev",
        *(f"--{flag}={value}" for flag, value in flags.items()),
        *TUNING,
    )
    # Garbage is collected at three times the live heap: a burst of starts allocates much and keeps little.
    environment = {"HOME": str(settings.home), "GOMEMLIMIT": "640MiB", "GOGC": "200"}
    return Part(
        name=NAME,
        command=command,
        environment=environment,
        check=HttpCheck(f"{settings.temporal_ui}/api/v1/namespaces/default"),
        address=settings.temporal_ui,
        fingerprint=fingerprint_of(command, environment, [bin_directory() / "temporal"]),
    )
