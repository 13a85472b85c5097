"""What of a role's pods cannot change while they run, as a digest that each pod carries."""

from __future__ import annotations

from typing import Any, Final

from crds.kubernetes.defaults import without_defaults
from planning import names
from planning.gang import gang_marks
from planning.live_match import default_pull_policy
from planning.objects import spec_of
from planning.topology import topology_term

Json = dict[str, Any]
DIGEST_LENGTH: Final = 16


def shape_of(roleset: Json, role: Json) -> str:
    """Digests of the init images and of everything else that cannot change in a running pod."""
    template = without_defaults(role.get("template") or {})
    spec = template.get("spec") or {}
    inits = {container.get("name"): container.get("image") for container in spec.get("initContainers") or ()}
    kept = {
        **spec,
        "containers": [_without_image(container) for container in spec.get("containers") or ()],
        "initContainers": [{**container, "image": ""} for container in spec.get("initContainers") or ()],
    }
    mode = (spec_of(roleset).get("topologyPolicy") or {}).get("mode") or "Preferred"
    term = topology_term(roleset, role["name"])
    placed = [gang_marks(roleset), term and [term, mode]]
    rest = [template.get("metadata") or {}, kept, *placed]
    return f"{names.digest(inits)[:DIGEST_LENGTH]}.{names.digest(rest)[:DIGEST_LENGTH]}"


def _without_image(container: Json) -> Json:
    image = container.get("image", "")
    return {**container, "image": "", "imagePullPolicy": container.get("imagePullPolicy") or default_pull_policy(image)}
