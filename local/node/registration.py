"""The Node object and its Lease."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from local.node.api import STRATEGIC, ApiClient, ApiError, ConflictError, NotFoundError
from local.node.files import Json
from local.node.settings import NodeSettings
from local.node.status import timestamp

log = logging.getLogger(__name__)

LEASE_RENEWAL_SECONDS = 10.0
LEASE_DURATION_SECONDS = 40
STATUS_SECONDS = 300.0
SILENCE_SECONDS = 25.0  # after which the node controller may have marked the node as unknown
VERSION = "v1.36.3"
# Tells the API server to hand WebSocket streams of exec, attach and port-forward to this node as they are.
DECLARED_FEATURES = ["ExtendWebSocketsToKubelet"]
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_HEALTHY = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


def node_labels(settings: NodeSettings) -> dict[str, str]:
    """The labels that schedulers and users expect, and those of the settings."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return {
        "kubernetes.io/hostname": settings.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
        "node.kubernetes.io/instance-type": "brixflow-local",
        **settings.labels,
    }


def allocatable(settings: NodeSettings) -> dict[str, str]:
    """Capacity and allocatable resources; they are equal, since nothing is reserved."""
    return {
        "cpu": str(settings.cpus),
        "memory": settings.memory,
        "ephemeral-storage": "1Ti",
        "pods": str(settings.pods),
        "nvidia.com/gpu": str(settings.gpus),
    }


def node_status(settings: NodeSettings, previous: Json, now: float) -> Json:
    """The status; transition times are kept from `previous`."""
    before = {one["type"]: one for one in previous.get("conditions", ())}
    conditions = []
    for kind, value, reason, message in _HEALTHY:
        same = kind in before and before[kind]["status"] == value
        since = before[kind]["lastTransitionTime"] if same else timestamp(now)
        stamps = {"lastHeartbeatTime": timestamp(now), "lastTransitionTime": since}
        conditions.append({"type": kind, "status": value, "reason": reason, "message": message, **stamps})
    resources = allocatable(settings)
    return {
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions,
        "addresses": [
            {"type": "InternalIP", "address": str(settings.bridge_address)},
            {"type": "Hostname", "address": settings.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": settings.port}},
        "declaredFeatures": DECLARED_FEATURES,
        "nodeInfo": _node_info(),
    }


def _node_info() -> Json:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = Path("/etc/machine-id")
    return {
        "machineID": machine.read_text().strip() if machine.exists() else boot.replace("-", ""),
        "systemUUID": boot,
        "bootID": boot,
        "kernelVersion": platform.release(),
        "osImage": platform.platform(),
        "containerRuntimeVersion": "brixflow://1",
        "kubeletVersion": VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
    }


class Registration:
    """Keeps the Node and its Lease alive."""

    def __init__(self, settings: NodeSettings, api: ApiClient) -> None:
        self._settings = settings
        self._api = api
        self._node_path = f"/api/v1/nodes/{settings.name}"
        self._lease_path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        self._owner: Json | None = None

    async def run(self) -> None:
        """Registers, then renews the Lease every ten seconds and the status rarely, until cancelled."""
        status_at = renewed_at = float("-inf")
        while True:
            try:
                now = time.monotonic()
                if now - status_at > STATUS_SECONDS or now - renewed_at > SILENCE_SECONDS:
                    await self.register()
                    status_at = now
                await self._renew()
                renewed_at = time.monotonic()
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("node_not_renewed error=%r", error)
                await asyncio.sleep(1)
            else:
                await asyncio.sleep(LEASE_RENEWAL_SECONDS)

    async def register(self) -> None:
        """Creates the Node or takes over the existing one, and writes its status."""
        labels = node_labels(self._settings)
        try:
            node = await self._api.get(self._node_path)
            if not labels.items() <= node["metadata"].get("labels", {}).items():
                await self._api.patch(self._node_path, {"metadata": {"labels": labels}})
        except NotFoundError:
            metadata = {"name": self._settings.name, "labels": labels}
            node = await self._api.post("/api/v1/nodes", {"metadata": metadata, "spec": {}})
        self._owner = {"apiVersion": "v1", "kind": "Node", "name": self._settings.name, "uid": node["metadata"]["uid"]}
        status = node_status(self._settings, node.get("status", {}), time.time())
        await self._api.patch(f"{self._node_path}/status", {"status": status}, STRATEGIC)

    async def _renew(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._settings.name, "leaseDurationSeconds": LEASE_DURATION_SECONDS, "renewTime": now}
        try:
            await self._api.patch(f"{self._lease_path}/{self._settings.name}", {"spec": spec})
        except NotFoundError:
            metadata = {"name": self._settings.name, "namespace": "kube-node-lease", "ownerReferences": [self._owner]}
            try:
                await self._api.post(self._lease_path, {"metadata": metadata, "spec": spec})
            except ConflictError:
                log.info("lease_exists node=%s", self._settings.name)
