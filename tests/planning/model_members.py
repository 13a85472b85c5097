"""Steps on the members of roles: single pods, PodSets, and the pods of a PodSet, each with the rule it must keep."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from crds import labels
from tests.planning.model_objects import Objects
from tests.planning.model_rules import GRACE, Json, Room, check, is_leaving, replicas_of, role_of, size_of


class Members(Objects):
    """What a RoleSet and a PodSet may ask for."""

    # --- steps on a RoleSet -----------------------------------------------------------------------------------------

    def _create_pods(self, owner: Json, step: Any) -> None:
        role = self._role_at(owner, step.role, step.revision)
        self._has_room(owner, role, len(step.slots) or step.count)
        prefix = f"{owner['metadata']['name']}-{step.role}"
        for slot in step.slots:
            self._pod(
                owner, role, step, f"{prefix}-{step.template_hash}-{slot}", {labels.ROLE_REPLICA_INDEX: str(slot)}
            )
        for _ in range(step.count):
            self._pod(owner, role, step, f"{prefix}-{self.made}", {})

    def _role_at(self, owner: Json, name: str, revision: str) -> Json:
        """The role, with the pod template of `revision` where one is named."""
        role = role_of(owner, name)
        if not revision:
            return role
        stored = self.objects["controllerrevision", revision]["data"]["spec"]["template"]["spec"]
        return role | {"template": role_of({"spec": stored}, name)["template"]}

    def _has_room(self, owner: Json, role: Json, more: int) -> None:
        room = Room.of(role, replicas_of(role))
        held = [member for member in self.members_of(owner, role["name"]) if not self.is_lost(member)]
        check(len(held) + more <= room.most, f"{len(held) + more} of {role['name']}, at most {room.most} may be")
        check(not is_leaving(owner), "a RoleSet that leaves creates pods")

    def _pod(self, owner: Json, role: Json, step: Any, name: str, index: dict[str, str]) -> None:
        made = self.add_pod(owner, name, role["template"], self._marks(owner, step) | index, dict(index))
        self.shapes[made["metadata"]["uid"]] = (deepcopy(role["template"]), 1)

    def _marks(self, owner: Json, step: Any) -> dict[str, str]:
        return {
            labels.ROLE_NAME: step.role,
            labels.ROLESET_NAME: owner["metadata"]["name"],
            labels.ROLE_TEMPLATE_HASH: step.template_hash,
        }

    def _create_podsets(self, owner: Json, step: Any) -> None:
        role = role_of(owner, step.role)
        self._has_room(owner, role, len(step.slots))
        for slot in step.slots:
            check(slot < replicas_of(role), f"slot {slot} of {replicas_of(role)} is filled")
            index = {labels.ROLE_REPLICA_INDEX: str(slot)}
            spec = {"podGroupSize": size_of(role), "template": deepcopy(role["template"])} | policy_of(role)
            name = f"{owner['metadata']['name']}-{step.role}-{step.template_hash}-{slot}"
            marks = {"labels": self._marks(owner, step) | index, "annotations": index}
            metadata = marks | {"finalizers": [labels.PODSET_FINALIZER]}
            made = self.add("podset", name, owner, kind="PodSet", metadata=metadata, spec=spec)
            self.shapes[made["metadata"]["uid"]] = (deepcopy(role["template"]), size_of(role))

    def _update_podsets(self, owner: Json, step: Any) -> None:
        for target in step.targets:
            podset = self.objects["podset", target.name]
            podset["spec"] |= policy_of(role_of(owner, step.role))
            podset["metadata"]["generation"] += 1
            self.touch(podset)

    def _delete_pods(self, owner: Json, step: Any) -> None:
        for pod in self._hit(owner, "pod", step):
            self.remove("pod", pod["metadata"]["name"], after=GRACE)

    def _delete_podsets(self, owner: Json, step: Any) -> None:
        for podset in self._hit(owner, "podset", step):
            self.remove("podset", podset["metadata"]["name"])

    def _hit(self, owner: Json, kind: str, step: Any) -> list[Json]:
        hit = [found for target in step.targets if (found := self.objects.get((kind, target.name))) is not None]
        role = next((each for each in owner["spec"]["roles"] if each["name"] == step.role), None)
        if role is not None and not is_leaving(owner):
            self._spares(owner, role, hit)
        return hit

    def _spares(self, owner: Json, role: Json, hit: Sequence[Json]) -> None:
        room, members = Room.of(role, replicas_of(role)), self.members_of(owner, role["name"])
        gone = {member["metadata"]["uid"] for member in hit}
        kept = [member for member in members if member["metadata"]["uid"] not in gone]
        before, after = self.serving(role, members), self.serving(role, kept)
        check(after >= min(before, room.floor), f"{role['name']}: {before} to {after} available, floor {room.floor}")
        updated = [
            self.serving(role, [each for each in some if self.is_current(each, role)]) for some in (members, kept)
        ]
        check(updated[1] >= min(updated[0], room.wanted), f"{role['name']}: an untouched member goes, {updated}")

    # --- steps on a PodSet ------------------------------------------------------------------------------------------

    def _create_group_pods(self, owner: Json, step: Any) -> None:
        check(not is_leaving(owner), "a PodSet that leaves creates pods")
        name = owner["metadata"]["name"]
        for index in step.indexes:
            check(index < owner["spec"]["podGroupSize"], f"{name} has no place {index}")
            marks = owner["metadata"]["labels"] | {labels.PODSET_NAME: name, labels.POD_GROUP_INDEX: str(index)}
            notes = {labels.GROUP_RESTARTS: str(step.restarts)} if step.restarts else {}
            self.add_pod(owner, f"{name}-{index}", owner["spec"]["template"], marks, notes)

    def _delete_group_pods(self, owner: Json, step: Any) -> None:
        pods = self.every("pod", owner)
        names = {target.name for target in step.targets}
        for pod in [pod for pod in pods if pod["metadata"]["name"] in names]:
            if not is_leaving(owner):
                check(self._may_go(owner, pods, pod), f"a pod of a group that is well goes: {pod['metadata']['name']}")
            self.remove("pod", pod["metadata"]["name"], after=GRACE)

    def _may_go(self, owner: Json, pods: Sequence[Json], pod: Json) -> bool:
        """It has ended, or another's end or loss takes it along: every one in a group that lives and dies as one."""
        if self.is_lost(pod):
            return True
        whole = len([each for each in pods if not is_leaving(each)]) == owner["spec"]["podGroupSize"]
        if owner["spec"]["recoveryPolicy"] == "Recreate":
            return not whole or any(self.is_lost(each) or has_restarted(each) for each in pods)
        return not whole and has_restarted(pod)


def policy_of(role: Json) -> Json:
    as_one = role.get("recoveryPolicy") in ("Group", "Service")
    return {"recoveryPolicy": "Recreate" if as_one else "ReplaceUnhealthy"}


def has_restarted(pod: Json) -> bool:
    return any(each["restartCount"] for each in (pod.get("status") or {}).get("containerStatuses") or ())
