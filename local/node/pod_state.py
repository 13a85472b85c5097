"""A pod's memory and its folder on disk.

pods/<uid>/
  state.json      address, sandbox number, records; replaced after every change
  pod.json        the object as last seen, to end a pod whose object went while the agent was away
  shim.*, events  the shim's files
  logs/<container>/<attempt>.log, containers/<container>/<attempt>/, volumes/<name>/, etc-*
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.node.files import Json, read_json, write_json
from local.node.records import ContainerRecord, Waiting, records_for


@dataclass
class PodState:
    """One pod as the agent knows it."""

    pod: Json
    directory: Path
    records: dict[str, ContainerRecord]
    started_at: float
    sandbox: int = 0
    address: str = ""
    sequence: int = 0  # the last event of the current shim that is accounted for
    finished: bool = False
    failed: bool = False
    initialized: bool = False
    ending: bool = False
    volumes_ready: bool = False  # in the current sandbox
    has_sandbox: bool = False
    tokens_until: dict[str, float] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """The pod's uid."""
        return str(self.pod["metadata"]["uid"])

    @property
    def spec(self) -> Json:
        """The pod's spec."""
        spec: Json = self.pod["spec"]
        return spec

    @property
    def title(self) -> str:
        """namespace/name, for logs."""
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    def container(self, name: str) -> Json:
        """The spec of a container or init container."""
        everyone: list[Json] = [*self.spec["containers"], *self.spec.get("initContainers", ())]
        return next(one for one in everyone if one["name"] == name)

    def container_folder(self, name: str, attempt: int) -> Path:
        """Root, upper and work folders of an attempt."""
        return self.directory / "containers" / name / str(attempt)

    def log_path(self, name: str, attempt: int) -> Path:
        """The log of one attempt, relative to the pod's folder."""
        return Path("logs") / name / f"{attempt}.log"

    def new_container_id(self, record: ContainerRecord) -> str:
        """An id like a container runtime's."""
        return hashlib.sha256(f"{self.uid}/{record.name}/{record.attempt}/{self.sandbox}".encode()).hexdigest()

    def save(self) -> None:
        """Writes the state file."""
        write_json(self.directory / "state.json", self._to_json())

    def save_pod(self) -> None:
        """Writes the object as last seen."""
        write_json(self.directory / "pod.json", self.pod)

    def _to_json(self) -> dict[str, Any]:
        return {
            "started_at": self.started_at,
            "sandbox": self.sandbox,
            "address": self.address,
            "sequence": self.sequence,
            "finished": self.finished,
            "failed": self.failed,
            "initialized": self.initialized,
            "ending": self.ending,
            "volumes_ready": self.volumes_ready,
            "records": [record.to_json() for record in self.records.values()],
        }

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.directory, ignore_errors=True)


def load_pod(pod: Json, pods: Path) -> PodState:
    """The pod's state from its folder, or a fresh one that continues from the object's own status."""
    directory = pods / pod["metadata"]["uid"]
    saved = read_json(directory / "state.json")
    fresh = records_for(pod["spec"])
    if not saved:
        directory.mkdir(parents=True, exist_ok=True)
        _continue_from_status(fresh, pod.get("status", {}))
        return PodState(pod, directory, {one.name: one for one in fresh}, time.time())
    known = {one["name"]: ContainerRecord.from_json(one) for one in saved.pop("records")}
    return PodState(pod, directory, {one.name: known.get(one.name, one) for one in fresh}, **saved)


def _continue_from_status(records: list[ContainerRecord], status: Json) -> None:
    """Where the folder is lost, restart counts go on from what the API server knows."""
    listed = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    statuses = {one["name"]: one for one in listed}
    for record in records:
        known = statuses.get(record.name)
        if known and known.get("containerID"):
            record.attempt = known.get("restartCount", 0)
            record.image = known.get("image", "")
            record.state = Waiting("ContainerCreating")
