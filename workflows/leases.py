"""The Lease by which one operator acts at a time; AIBrix's own manager uses the same one.

    wait ──(free, expired, or ours)──► hold ──(renewed every 2 s)──► hold
      ▲                                  │
      └──(released, or not renewed for 10 s)

A holder that cannot renew stops 5 s before others may take over. Clocks are not compared: a Lease has expired when it
was *seen* unchanged for its whole duration.

A restarted process need not wait for its own predecessor. It goes on at once when the Lease carries its identity and
the process that held it is gone for certain: an annotation names that process (boot, PID namespace, pid, start time),
which can be looked up on the same machine. From another PID namespace that cannot be seen; there a supervised identity
(`BRIXFLOW_OPERATOR_IDENTITY`) is taken as the supervisor's word that its predecessor has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from activities.errors import KubeConflict, KubeError, KubeExists, KubeNotFound
from activities.kube import KubeClient
from activities.resources import LEASES
from planning.planner import Json

log = logging.getLogger(__name__)

LEASE_NAME = "aibrix-controller-manager"
HOLDER_PROCESS = "brixflow.aibrix.ai/holder-process"
LEASE_SECONDS = 15
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """Names one process for as long as its machine is up: `boot/pid namespace/pid/start time`."""

    place: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.place}/{self.pid}/{self.started}"

    @classmethod
    def of(cls, pid: int) -> ProcessMark | None:
        """None when no such process runs."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            place = f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
        except (OSError, IndexError):
            return None
        return None if fields[0] == "Z" else cls(place, pid, fields[19])

    @classmethod
    def parse(cls, text: str) -> ProcessMark | None:
        place, _, rest = text.rpartition("/")
        place, _, pid = place.rpartition("/")
        return cls(place, int(pid), rest) if pid.isdigit() and rest else None


class Lease:
    """Acquires and keeps the Lease; `held` is True only while no other process can hold it."""

    def __init__(self, client: KubeClient, namespace: str, identity: str, *, supervised: bool) -> None:
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._supervised = supervised
        self._mark = ProcessMark.of(os.getpid())
        self._renewed = float("-inf")
        self._seen: tuple[str, float] = ("", 0.0)
        self.holder = ""

    @property
    def held(self) -> bool:
        return time.monotonic() - self._renewed < RENEW_SECONDS

    async def acquire(self) -> None:
        """Return once the Lease is ours."""
        while True:
            if await self._attempt():
                break
            await asyncio.sleep(RETRY_SECONDS)
        log.info("lease-acquired identity=%s", self._identity)

    async def keep(self) -> None:
        """Renew for as long as that works; return when the Lease is lost."""
        while self.held:
            await asyncio.sleep(RETRY_SECONDS)
            await self._attempt()
        log.warning("lease-lost identity=%s holder=%s", self._identity, self.holder)

    async def release(self) -> None:
        """Let another process acquire it at once."""
        if not self.held:
            return
        self._renewed = float("-inf")
        try:
            lease = await self._client.get(LEASES, self._namespace, LEASE_NAME, deadline=2.0)
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.replace(LEASES, self._namespace, LEASE_NAME, lease)
        except KubeError as error:
            log.warning("lease-not-released error=%s", error)

    async def _attempt(self) -> bool:
        """Renew or take the Lease if that may be done; True when it is ours afterwards."""
        asked = time.monotonic()
        try:
            lease = await self._read()
            if lease is None:
                await self._client.create(LEASES, self._namespace, self._fresh(), deadline=RENEW_SECONDS / 2)
            elif self._may_take(lease):
                await self._client.replace(LEASES, self._namespace, LEASE_NAME, self._taken(lease))
            else:
                self._renewed = float("-inf")
                return False
        except (KubeConflict, KubeExists):
            return False
        except KubeError as error:
            log.warning("lease-failed error=%s", error)
            return False
        self._renewed, self.holder = asked, self._identity
        return True

    async def _read(self) -> Json | None:
        try:
            return await self._client.get(LEASES, self._namespace, LEASE_NAME, deadline=RENEW_SECONDS / 2)
        except KubeNotFound:
            return None

    def _may_take(self, lease: Json) -> bool:
        spec = lease.get("spec") or {}
        self.holder = spec.get("holderIdentity") or ""
        if not self.holder or self._is_own(lease):
            return True
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, time.monotonic())
        return time.monotonic() - self._seen[1] > float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    def _is_own(self, lease: Json) -> bool:
        """Ours, or left behind by a predecessor of the same identity that is gone for certain."""
        if self.holder != self._identity or self._mark is None:
            return False
        noted = (lease["metadata"].get("annotations") or {}).get(HOLDER_PROCESS, "")
        holder = ProcessMark.parse(noted)
        if holder is None or holder.place != self._mark.place:
            return self._supervised
        return holder == self._mark or ProcessMark.of(holder.pid) != holder

    def _fresh(self) -> Json:
        metadata = {"name": LEASE_NAME, "namespace": self._namespace, "annotations": {}}
        body: Json = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
        return self._taken(body)

    def _taken(self, lease: Json) -> Json:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(lease.get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        annotations = {**(lease["metadata"].get("annotations") or {}), HOLDER_PROCESS: str(self._mark or "")}
        return {**lease, "metadata": {**lease["metadata"], "annotations": annotations}, "spec": spec}
