"""What keeps a request that no strategy routes from its model's HTTPRoute (gateway 4.10).

    HTTPRoutes of aibrix-system ── watch ──► problem of each model ──► segment ──► 503 of the kernel

All routes are watched, so no request waits for the API server, and what a Gateway says of a route is true here within
milliseconds. Where the Gateway API is not there, or has not answered yet, nothing is known and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crds import labels
from crds.metadata import route_name
from gateway.kube import KubeClient
from gateway.topology import Json
from gateway.watch import ObjectWatch

GROUP = "gateway.networking.k8s.io"
ROUTES = f"/apis/{GROUP}/v1/namespaces/{labels.SYSTEM_NAMESPACE}/httproutes"


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTPRoute by its name, and why it cannot be used; empty: it can."""

    name: str
    problem: str


def route_of(subject: Json) -> Route:
    """An HTTPRoute reduced to what its Gateways say of it."""
    name = subject["metadata"]["name"]
    parents: Iterable[Json] = (subject.get("status") or {}).get("parents") or ()
    return Route(name, ", ".join(_problems(f"httproute: {labels.SYSTEM_NAMESPACE}/{name}", parents)))


def _problems(route: str, parents: Iterable[Json]) -> Iterable[str]:
    for parent in parents:
        conditions: Iterable[Json] = parent.get("conditions") or ()
        if not conditions:
            yield f"{route}, does not have valid status"
            return
        for each in conditions:
            kind, reason = each.get("type"), each.get("reason") or ""
            if kind == "Accepted" and reason != kind:
                yield f"{route}, route is not accepted: {reason}."
            if kind == "ResolvedRefs" and reason != kind:
                yield f"{route}, route's object references are not resolved: {reason}."


class RouteWatch(ObjectWatch[Route]):
    """The HTTPRoutes of models."""

    def __init__(self, client: KubeClient, changed: Callable[[], None]) -> None:
        super().__init__(client, ROUTES, "", route_of, changed)

    @property
    def is_settled(self) -> bool:
        """They are known, or cannot be: a cluster need not have the kind."""
        return self.is_synced or self.has_failed

    def problems(self, models: Iterable[str]) -> dict[str, str]:
        """Why requests of these models cannot go by their route; models whose route is well are left out."""
        if not self.is_synced:
            return {}
        known = {each.name: each.problem for each in self.values.values()}
        names = {model: route_name(model) for model in models}
        found = {model: known.get(name, f'httproutes.{GROUP} "{name}" not found') for model, name in names.items()}
        return {model: problem for model, problem in found.items() if problem}
