"""The world's part that acts on running pods: image patches, completions, drains, warm-ups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from crds import labels
from planning import names
from planning.eligibility import Eligibility
from planning.flight import has_gate, restarts_of, state_after
from planning.objects import format_time
from planning.render import render_pod
from planning.shape import shape_of
from planning.warm_up import mark
from planning.wire import Memory

Json = dict[str, Any]


def set_condition(found: Json, kind: str, value: bool, at: datetime) -> None:
    conditions = found.setdefault("status", {}).setdefault("conditions", [])
    conditions[:] = [each for each in conditions if each["type"] != kind]
    conditions.append({"type": kind, "status": str(value), "lastTransitionTime": format_time(at)})


class PodActions:
    """What the cluster needs for them: objects, a clock, numbers for versions. `said` are Events about steps."""

    now: datetime
    objects: dict[tuple[str, str], Json]
    said: list[tuple[str, str]]
    _count: Iterator[int]

    def _patch_pods(self, found: Json, step: Any, memory: Memory) -> None:
        eligibility = self._eligibility(found, step)
        for target in step.targets:
            pod = self._exact(target)
            assert eligibility.fault_of(pod) == ""
            images = eligibility.changed_images(pod)
            marks = {
                labels.IN_PLACE_TARGET_HASH: step.template_hash,
                labels.IN_PLACE_STATE: state_after(pod, images),
                labels.IN_PLACE_SINCE: format_time(self.now),
            }
            for gone in (labels.DRAIN_SINCE, labels.IN_PLACE_PENDING_REASON):
                pod["metadata"]["annotations"].pop(gone, None)
            pod["metadata"]["annotations"] |= marks
            self._gate(pod, False)
            for container in pod["spec"]["containers"]:
                container["image"] = images.get(container["name"], container["image"])
            self.tell("InPlaceUpdateStarted", step, target)

    def _complete_pods(self, found: Json, step: Any, memory: Memory) -> None:
        role_ = next(role for role in found["spec"]["roles"] if role["name"] == step.role)
        for target in step.targets:
            pod = self._exact(target)
            rendered = render_pod(found, step.role, name="x", slot=None)["metadata"]
            own = [k for k in rendered["labels"] if k.endswith(("role-revision", "role-revision-name"))]
            pod["metadata"]["labels"] |= {k: rendered["labels"][k] for k in (labels.ROLE_TEMPLATE_HASH, *own)}
            kept = {
                k: v for k, v in pod["metadata"]["annotations"].items()
                if "in-place-update-" not in k and k != labels.IN_PLACE_SINCE
            }  # fmt: skip
            noted = {labels.TEMPLATE_DIGEST: names.role_digest(role_), labels.RESTARTS_SEEN: str(restarts_of(pod))}
            pod["metadata"]["annotations"] = kept | noted | {labels.POD_SHAPE: shape_of(found, role_)}
            self._gate(pod, True)
            self.tell("InPlaceUpdateCompleted", step, target)

    def _note_pods(self, found: Json, step: Any, memory: Memory) -> None:
        for target, reason in zip(step.targets, step.reasons, strict=True):
            self._exact(target)["metadata"]["annotations"][labels.IN_PLACE_PENDING_REASON] = reason

    def _drain_pods(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            pod = self._exact(target)
            self._gate(pod, False)
            pod["metadata"]["annotations"][labels.DRAIN_SINCE] = format_time(self.now)

    def _restore_pods(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            pod = self._exact(target)
            pod["metadata"]["annotations"].pop(labels.DRAIN_SINCE, None)
            self._gate(pod, True)

    def _warm_up_pods(self, found: Json, step: Any, memory: Memory) -> None:
        for target in step.targets:
            pod = self.objects["pod", target.name]
            pod["metadata"]["annotations"][labels.WARM_UP] = mark("running", step.template_hash, 0, self.now)

    def _fall_back(self, found: Json, step: Any, memory: Memory) -> None:
        told = {step.role: step.template_hash}
        found["metadata"].setdefault("annotations", {})[labels.IN_PLACE_FALLBACK] = json.dumps(told)
        self.said.append(("InPlaceFallback", step.message))

    def _eligibility(self, found: Json, step: Any) -> Eligibility:
        return Eligibility(found, next(role for role in found["spec"]["roles"] if role["name"] == step.role))

    def _exact(self, target: Any) -> Json:
        """The pod in the version that the step was decided for, in a new version from now on."""
        pod = self.objects["pod", target.name]
        assert pod["metadata"]["resourceVersion"] == target.resource_version
        pod["metadata"]["resourceVersion"] = str(next(self._count))
        return pod

    def _gate(self, pod: Json, opened: bool) -> None:
        if has_gate(pod):
            set_condition(pod, labels.IN_PLACE_READY, opened, self.now)
            if not opened:
                set_condition(pod, labels.READY, False, self.now)

    def tell(self, reason: str, step: Any, target: Any) -> None:
        self.said.append((reason, f"role {step.role} pod {target.name}"))
