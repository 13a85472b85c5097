"""An object with what belongs to it, read live: commands act on what is, not on what a cache saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from activities.kube import KubeClient, path_of
from activities.resources import PODS, PODSETS, REVISIONS, ROLESETS, STORM_SERVICES
from crds import labels
from planning.forecast import Forecast, forecast, forecast_podset, forecast_roleset
from planning.objects import name_of, uid_of
from planning.planner import Json, Resource

KINDS = {resource.key: resource for resource in (STORM_SERVICES, ROLESETS, PODSETS)}
_POD_LABELS = {
    STORM_SERVICES.kind: labels.STORM_SERVICE_NAME,
    ROLESETS.kind: labels.ROLESET_NAME,
    PODSETS.kind: labels.PODSET_NAME,
}


@dataclass(frozen=True, slots=True)
class Family:
    """A StormService with its RoleSets and revisions, or a RoleSet or PodSet alone; pods when they were asked for."""

    live: Json
    rolesets: Sequence[Json] = ()
    revisions: Sequence[Json] = ()
    pods: Sequence[Json] = field(default=())

    def forecast(self, wanted: Json | None = None, *, values: bool = False) -> Forecast:
        """What is left to do, or what becoming `wanted` takes."""
        match self.live["kind"]:
            case "StormService":
                return forecast(self.live, self.rolesets, self.revisions, wanted, values=values)
            case "RoleSet":
                return forecast_roleset(self.live, wanted, values=values)
        return forecast_podset(self.live, wanted, values=values)


async def read_family(
    client: KubeClient, resource: Resource, namespace: str, name: str, *, pods: bool = False
) -> Family:
    """Raises KubeError."""
    return await family_of(client, await client.get(resource, namespace, name), pods=pods)


async def family_of(client: KubeClient, live: Json, *, pods: bool = False) -> Family:
    """Raises KubeError."""
    namespace, name = live["metadata"]["namespace"], name_of(live)
    rolesets: Sequence[Json] = ()
    revisions: Sequence[Json] = ()
    if live["kind"] == STORM_SERVICES.kind:
        rolesets = await _owned(client, ROLESETS, live, f"{labels.STORM_SERVICE_NAME}={name}")
        revisions = await _owned(client, REVISIONS, live, f"{labels.NAME}={name}")
    found: Sequence[Json] = ()
    if pods:
        found = await listed(client, PODS, namespace, f"{_POD_LABELS[live['kind']]}={name}")
    return Family(live, rolesets, revisions, found)


async def _owned(client: KubeClient, resource: Resource, owner: Json, selector: str) -> Sequence[Json]:
    found = await listed(client, resource, owner["metadata"]["namespace"], selector)
    return [
        each for each in found
        if any(ref.get("uid") == uid_of(owner) for ref in each["metadata"].get("ownerReferences") or ())
    ]  # fmt: skip


async def listed(client: KubeClient, resource: Resource, namespace: str, selector: str) -> Sequence[Json]:
    found = await client.call("GET", path_of(resource, namespace), params={"labelSelector": selector})
    return list(found.get("items") or ())
