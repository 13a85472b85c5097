"""Which parts a system consists of, given its settings, and the files that they run with."""

from __future__ import annotations

from datetime import UTC, datetime

from local.build import control_plane_binary
from local.parts.control_plane import ControlPlaneFiles, control_plane, write_kubeconfigs
from local.parts.envoy import envoy, write_envoy_config
from local.parts.python import gateway, node_agent, operator
from local.parts.temporal import temporal
from local.pki import ensure_pki
from local.settings import LocalSettings
from local.supervisor.part import Part


def foundation(settings: LocalSettings) -> list[Part]:
    """etcd, API server, controller manager, scheduler and Temporal: all that is not brixflow's. Writes their files.

    What the user brings (an existing cluster, an existing Temporal) is left out.
    """
    parts = []
    if settings.external_kubeconfig is None:
        pki = ensure_pki(settings, datetime.now(UTC))
        write_kubeconfigs(settings, pki)
        parts += control_plane(settings, ControlPlaneFiles(control_plane_binary(), pki))
    if settings.external_temporal is None:
        parts.append(temporal(settings))
    return parts


def brixflow_parts(settings: LocalSettings) -> list[Part]:
    """Node agent (for a cluster of our own), operator, gateway and Envoy. Needs the accounts' kubeconfigs."""
    write_envoy_config(settings)
    own_node = [node_agent(settings)] if settings.external_kubeconfig is None else []
    return [*own_node, operator(settings), gateway(settings), envoy(settings)]
