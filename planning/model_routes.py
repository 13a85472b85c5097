"""Which HTTPRoutes and ReferenceGrants models need, against those that are there.

A route stays while any object serves its model. Of several the one whose Service the route names keeps it, else the
oldest gets it. Only routes of ours are changed or deleted: those with our label, and those that AIBrix made, which can
be told by their matches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from crds import labels
from crds.metadata import model_name, reference_grant_name, route_name
from crds.routes import GATEWAY, http_route, reference_grant
from planning.objects import annotations_of, in_order, is_deleting, labels_of, name_of, spec_of
from planning.planner import Resource

Json = dict[str, Any]
GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
HTTP_ROUTES: Final = Resource(GATEWAY_GROUP, "v1", "httproutes", "HTTPRoute", optional=True)
REFERENCE_GRANTS: Final = Resource(GATEWAY_GROUP, "v1beta1", "referencegrants", "ReferenceGrant", optional=True)
SOURCES: Final = (
    Resource("apps", "v1", "deployments", "Deployment", optional=True),
    Resource(labels.ORCHESTRATION_GROUP, labels.VERSION, "rayclusterfleets", "RayClusterFleet", optional=True),
    Resource(labels.MODEL_GROUP, labels.VERSION, "modeladapters", "ModelAdapter", optional=True),
    Resource("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet", optional=True),
)
"""Kinds whose objects may name a model. The kinds of the Gateway API and LeaderWorkerSets need not be there."""
FACTS: Final = (
    labels.MODEL_NAME, labels.MODEL_PORT, labels.MODEL_SERVICE_NAME, labels.MODEL_CUSTOM_PATHS, labels.MANAGED_BY,
    labels.CONSOLE_DEPLOYMENT_ID, labels.CONSOLE_DEPLOYMENT_NAME,
)  # fmt: skip
COPIED: Final = (labels.MANAGED_BY, labels.CONSOLE_DEPLOYMENT_ID, labels.CONSOLE_DEPLOYMENT_NAME)


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """`applies` are whole objects, `deletes` live ones. `refused`: an object that gets no route, and why."""

    applies: Sequence[Json] = ()
    deletes: Sequence[Json] = ()
    refused: Sequence[tuple[Json, str]] = field(default=())


def plan(sources: Iterable[Json], routes: Iterable[Json], grants: Iterable[Json], timeout: timedelta) -> RoutePlan:
    """`sources` are objects of SOURCES, models or not."""
    served = _by_route(sources)
    live = {name_of(route): route for route in routes}
    applies, refused = [], []
    for name, rivals in sorted(served.items()):
        found = live.get(name)
        if found is not None and not _is_ours(found, rivals[0]):
            said = f"HTTPRoute {name} exists and was made by somebody else: it is left as it is"
            refused += [(rival, said) for rival in rivals]
            continue
        chosen = _chosen(rivals, found)
        refused += [(rival, _taken(name, chosen)) for rival in rivals if _backend(rival) != _backend(chosen)]
        wanted = _route(chosen, timeout)
        if found is None or not _says(wanted, found):
            applies.append(wanted)
    surplus = [route for name, route in live.items() if name not in served and _is_marked(route)]
    made, left = _grants({source["metadata"]["namespace"] for each in served.values() for source in each}, grants)
    return RoutePlan([*made, *applies], [each for each in (*surplus, *left) if not is_deleting(each)], refused)


def _by_route(sources: Iterable[Json]) -> dict[str, list[Json]]:
    """Objects that name a model, by the name of its route, the oldest first."""
    found: dict[str, list[Json]] = {}
    for source in in_order(sources):
        if model := _model(source):
            found.setdefault(route_name(model), []).append(source)
    return found


def facts_of(source: Json) -> tuple[str | None, ...]:
    """All that a route is made from; empty for an object that names no model."""
    if not _model(source):
        return ()
    own, notes = labels_of(source), annotations_of(source)
    return tuple(place.get(key) for place in (own, notes) for key in FACTS)


def _model(source: Json) -> str:
    return model_name(labels_of(source), annotations_of(source))


def _route(source: Json, timeout: timedelta) -> Json:
    route = http_route(source["metadata"], timeout)
    if route is None:
        raise ValueError(f"{name_of(source)} names no model")
    route["metadata"].setdefault("labels", {})[labels.MODEL_ROUTE] = "true"
    return route


def _backend(source: Json) -> tuple[str, str]:
    name = annotations_of(source).get(labels.MODEL_SERVICE_NAME) or _model(source)
    return source["metadata"]["namespace"], name


def _chosen(rivals: Sequence[Json], route: Json | None) -> Json:
    named = {
        (backend.get("namespace"), backend.get("name"))
        for rule in (spec_of(route).get("rules") or () if route is not None else ())
        for backend in rule.get("backendRefs") or ()
    }
    return next((rival for rival in rivals if _backend(rival) in named), rivals[0])


def _taken(route: str, chosen: Json) -> str:
    namespace, service = _backend(chosen)
    return f"HTTPRoute {route} leads to Service {namespace}/{service} of {chosen['kind']} {name_of(chosen)}"


def _is_marked(route: Json) -> bool:
    return labels_of(route).get(labels.MODEL_ROUTE) == "true"


def _is_ours(route: Json, source: Json) -> bool:
    """Marked, or as AIBrix makes them: below its Gateway, every match for exactly this model."""
    if _is_marked(route):
        return True
    spec = spec_of(route)
    header = [{"type": "Exact", "name": "model", "value": _model(source)}]
    matches = [match for rule in spec.get("rules") or () for match in rule.get("matches") or ()]
    below = any(parent.get("name") == GATEWAY for parent in spec.get("parentRefs") or ())
    return below and bool(matches) and all(match.get("headers") == header for match in matches)


def _says(wanted: Json, live: Json) -> bool:
    """Whether `live` has all of `wanted` and none of what we copied earlier; defaults that were added do not count."""
    metadata, shown = wanted["metadata"], live["metadata"]
    for place in ("labels", "annotations"):
        mine, theirs = metadata.get(place) or {}, shown.get(place) or {}
        if any(mine.get(key) != theirs.get(key) for key in (*COPIED, labels.MODEL_ROUTE)):
            return False
    return _covers(wanted["spec"], spec_of(live))


def _covers(wanted: Any, live: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(_covers(value, live.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(wanted) != len(live):
            return False
        return all(_covers(one, other) for one, other in zip(wanted, live, strict=True))
    return bool(wanted == live)


def _grants(namespaces: Iterable[str], grants: Iterable[Json]) -> tuple[list[Json], list[Json]]:
    """Those to apply, and live ones in whose namespace no model is left."""
    live = {
        grant["metadata"]["namespace"]: grant
        for grant in grants
        if name_of(grant) == reference_grant_name(grant["metadata"]["namespace"])
    }
    wanted = {namespace: grant for namespace in sorted(namespaces) if (grant := reference_grant(namespace)) is not None}
    missing = [
        grant for namespace, grant in wanted.items()
        if namespace not in live or not _covers(grant["spec"], spec_of(live[namespace]))
    ]  # fmt: skip
    return missing, [grant for namespace, grant in live.items() if namespace not in wanted]
