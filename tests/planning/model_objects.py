"""The objects of the model cluster, and what is true of them whatever a status says."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from crds import labels
from planning.wire import Memory
from tests.planning.model_rules import (
    GRACE,
    NAMESPACE,
    OVERDUE,
    START,
    STORM,
    Broken,
    Json,
    is_leaving,
    replicas_of,
    size_of,
    slot_of,
    stamp,
)


@dataclass
class Objects:
    """All objects by (kind, name), with what only the model knows of each: the shape of pods and groups in `shapes`."""

    now: datetime = START
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    shapes: dict[str, tuple[Json, int]] = field(default_factory=dict)
    memories: dict[tuple[str, str, str | None], Memory] = field(default_factory=dict)
    rollout: str | None = None
    log: list[str] = field(default_factory=list)
    made: int = 0

    def add(self, key: str, name: str, owner: Json | None = None, /, **parts: Any) -> Json:
        if (key, name) in self.objects:
            raise Broken(f"{key} {name} is created twice")
        self.made += 1
        metadata: Json = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{self.made}",
            "generation": 1,
            "resourceVersion": str(self.made),
            "creationTimestamp": stamp(self.now),
            **parts.pop("metadata", {}),
        }
        if owner is not None:
            reference = {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
            metadata["ownerReferences"] = [{**reference, "controller": True}]
        found = {"metadata": metadata, **parts}
        self.objects[key, name] = found
        return found

    def every(self, kind: str, owner: Json | None = None) -> list[Json]:
        uid = owner["metadata"]["uid"] if owner is not None else None
        return [
            found
            for (key, _), found in sorted(self.objects.items())
            if key == kind
            and (uid is None or any(o["uid"] == uid for o in found["metadata"].get("ownerReferences", ())))
        ]

    @property
    def storm(self) -> Json:
        return self.objects[STORM, "s"]

    def touch(self, found: Json) -> None:
        self.made += 1
        found["metadata"]["resourceVersion"] = str(self.made)

    def remove(self, kind: str, name: str, after: timedelta = timedelta()) -> None:
        found = self.objects.get((kind, name))
        if found is not None and not is_leaving(found):
            found["metadata"]["deletionTimestamp"] = stamp(self.now + after)
            self.touch(found)

    def finish(self, name: str) -> None:
        """The kubelet is done with a pod that leaves."""
        found = self.objects.get(("pod", name))
        if found is not None and is_leaving(found):
            del self.objects["pod", name]

    def collect(self) -> None:
        """The API server forgets what is deleted and held by no finalizer."""
        for (kind, name), found in list(self.objects.items()):
            if kind != "pod" and is_leaving(found) and not found["metadata"].get("finalizers"):
                del self.objects[kind, name]

    # --- what is true, whatever a status says -----------------------------------------------------------------------

    def is_available(self, member: Json, role: Json) -> bool:
        """Ready for the role's minReadySeconds, and neither leaving nor ended; of a group every pod is."""
        since = self._up(member) if is_group(member) else self._ready_since(member)
        lasts = timedelta(seconds=int(role.get("minReadySeconds") or 0))
        return since is not None and since + lasts <= self.now

    def _ready_since(self, pod: Json) -> datetime | None:
        ended = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
        return None if is_leaving(pod) or ended else said_ready(pod)

    def _up(self, podset: Json) -> datetime | None:
        """Since when the PodSet says that the group is whole, if it is."""
        ready = [pod for pod in self.every("pod", podset) if self._ready_since(pod) is not None]
        whole = len(ready) == podset["spec"]["podGroupSize"] and not is_leaving(podset)
        return said_ready(podset) if whole else None

    def members_of(self, roleset: Json, role: str) -> list[Json]:
        """Single pods and groups of a role, whatever it asks for at the moment."""
        found = [*self.every("pod", roleset), *self.every("podset", roleset)]
        return [member for member in found if member["metadata"]["labels"][labels.ROLE_NAME] == role]

    def is_current(self, member: Json, role: Json) -> bool:
        return self.shapes[member["metadata"]["uid"]] == (role["template"], size_of(role))

    def serving(self, role: Json, members: Iterable[Json]) -> int:
        """Available members; where they have slots, one counts in each below N, and every one of the other kind."""
        found = [member for member in members if self.is_available(member, role)]
        if not role.get("stateful") and size_of(role) == 1:
            return len(found)
        placed = [member for member in found if is_group(member) == (size_of(role) > 1) and slot_of(member) is not None]
        slots = {slot for member in placed if (slot := slot_of(member)) is not None and slot < replicas_of(role)}
        return len(slots) + len(found) - len(placed)

    def is_roleset_available(self, roleset: Json) -> bool:
        """As many available members as each role asks for, in whichever slots: Ready looks at counts alone."""
        for role in roleset["spec"]["roles"]:
            members = self.members_of(roleset, role["name"])
            if sum(self.is_available(member, role) for member in members) < replicas_of(role):
                return False
        return not is_leaving(roleset)

    def is_lost(self, member: Json) -> bool:
        """Ended, or overdue on a node that nobody hears of: the place may be filled."""
        ended = (member.get("status") or {}).get("phase") in ("Failed", "Succeeded") and not is_group(member)
        until = member["metadata"].get("deletionTimestamp")
        patience = OVERDUE + (GRACE if is_group(member) else timedelta())
        return ended or (until is not None and datetime.fromisoformat(until) + patience <= self.now)

    def add_pod(self, owner: Json, name: str, template: Json, marks: dict[str, str], notes: dict[str, str]) -> Json:
        return self.add(
            "pod", name, owner, kind="Pod",
            metadata={"labels": marks, "annotations": notes},
            spec=deepcopy(template.get("spec") or {}),
            status={"phase": "Pending"},
        )  # fmt: skip


def is_group(member: Json) -> bool:
    return "podGroupSize" in (member.get("spec") or {})


def said_ready(found: Json) -> datetime | None:
    """Since when the object's own condition says Ready."""
    conditions = (found.get("status") or {}).get("conditions") or ()
    ready = [each for each in conditions if each["type"] == "Ready" and each["status"] == "True"]
    return datetime.fromisoformat(ready[0]["lastTransitionTime"]) if ready else None
