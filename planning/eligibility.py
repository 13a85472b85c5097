"""Whether a running pod can be taken to a new template by another image alone.

Pods that this release made carry a digest of all of their template but the main containers' images, so the old
revision is compared with the new one, whatever the API server, admission or the network put into the pod. For other
pods the live pod is compared with the one that would be made in its place, without what is known to be added to pods.
"""

from __future__ import annotations

from typing import Any, Final

from crds import labels
from planning import topology
from planning.live_match import normalised
from planning.objects import annotations_of, labels_of, spec_of
from planning.render import render_pod
from planning.shape import shape_of

Json = dict[str, Any]
INIT_IMAGES: Final = "init container image changes require pod recreation"
OTHER_FIELDS: Final = "non-image pod fields changed"
ALREADY_UPDATED: Final = "pod is already updated"
NO_IMAGES: Final = "no container image changes found"
NO_BUDGET: Final = "maxUnavailable 0 lets no ready pod go, not even for an update in place"


class Eligibility:
    """One role's new template, to hold pods against."""

    def __init__(self, roleset: Json, role: Json) -> None:
        self._roleset, self._role = roleset, role
        self._shape = shape_of(roleset, role)
        self._hash = topology.role_hash(roleset, role)
        self._images = images_of((role.get("template") or {}).get("spec") or {})

    def fault_of(self, pod: Json) -> str:
        """Why the pod cannot be updated in place; empty when it can."""
        index = annotations_of(pod).get(labels.ROLE_REPLICA_INDEX)
        if index is not None and not index.lstrip("-").isdigit():
            return f'invalid role replica index "{index}"'
        fault = self._fault_of_shape(pod, index)
        if fault or self.changed_images(pod):
            return fault
        is_updated = labels_of(pod).get(labels.ROLE_TEMPLATE_HASH) == self._hash
        return ALREADY_UPDATED if is_updated else NO_IMAGES

    def changed_images(self, pod: Json) -> dict[str, str]:
        """By container: the new image where it differs from the pod's."""
        live = images_of(spec_of(pod))
        return {name: image for name, image in self._images.items() if name in live and live[name] != image}

    def _fault_of_shape(self, pod: Json, index: str | None) -> str:
        noted = annotations_of(pod).get(labels.POD_SHAPE)
        if noted is None:
            return self._fault_of_live(pod, index)
        if noted == self._shape:
            return ""
        same_inits = noted.partition(".")[0] == self._shape.partition(".")[0]
        return OTHER_FIELDS if same_inits else INIT_IMAGES

    def _fault_of_live(self, pod: Json, index: str | None) -> str:
        slot = int(index) if index is not None else None
        desired = render_pod(self._roleset, self._role["name"], name=pod["metadata"]["name"], slot=slot)
        live_inits, wanted_inits = (images_of(spec_of(found), "initContainers") for found in (pod, desired))
        if any(wanted_inits.get(name, image) != image for name, image in live_inits.items()):
            return INIT_IMAGES
        return "" if normalised(pod, desired) == normalised(desired, desired) else OTHER_FIELDS


def images_of(spec: Json, kind: str = "containers") -> dict[str, str]:
    """Images by container."""
    return {container["name"]: container.get("image", "") for container in spec.get(kind) or ()}
