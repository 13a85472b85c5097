"""Children that lost their owner, and whose they are: a StormService that was deleted with `--cascade=orphan`.

An object of the same name takes back what matches its selector and comes from a revision that is its own or comes along
with it. Nothing but the owner reference changes, so no pod restarts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crds import labels
from planning.limits import Allowance
from planning.objects import in_order, is_deleting, labels_of, name_of, spec_of, uid_of
from planning.render import service_spec
from planning.resources import BUDGET, CONTROLLER_REVISION, SERVICE
from planning.roleset import ROLESET
from planning.wire import Adopt, Step, Target

Json = dict[str, Any]


def adoptions(storm: Json, ownerless: Mapping[str, Sequence[Json]], stored: Iterable[Json]) -> list[Step]:
    """What to adopt: revisions first, then RoleSets, the Service and the budget."""
    name, allowance = name_of(storm), Allowance()
    free = {key: [found for found in in_order(objects) if not is_deleting(found)] for key, objects in ownerless.items()}
    revisions = [f for f in free.get(CONTROLLER_REVISION.key, ()) if labels_of(f).get(labels.NAME) == name]
    known = {name_of(found) for found in (*stored, *revisions)}
    rolesets = [f for f in free.get(ROLESET.key, ()) if _is_ours(storm, f, known)]
    services = [f for f in free.get(SERVICE.key, ()) if name_of(f) == name and _serves(storm, f)]
    budgets = [f for f in free.get(BUDGET.key, ()) if name_of(f) == name and _guards(storm, f)]
    found = ((CONTROLLER_REVISION, revisions), (ROLESET, rolesets), (SERVICE, services), (BUDGET, budgets))
    return [Adopt(kind=resource.key, targets=_targets(objects, allowance)) for resource, objects in found if objects]


def _targets(objects: Sequence[Json], allowance: Allowance) -> list[Target]:
    return [
        Target(name=name_of(found), uid=uid_of(found), resource_version=str(found["metadata"]["resourceVersion"]))
        for found in allowance.targets(objects)
    ]


def _is_ours(storm: Json, roleset: Json, revisions: set[str]) -> bool:
    carried = labels_of(roleset)
    made_here = carried.get(labels.STORM_SERVICE_NAME) == name_of(storm)
    return made_here and carried.get(labels.STORM_SERVICE_REVISION) in revisions and selects(storm, carried)


def selects(storm: Json, carried: Mapping[str, str]) -> bool:
    """Whether `spec.selector` matches those labels; an empty selector matches nothing."""
    selector = spec_of(storm).get("selector") or {}
    exact: Mapping[str, str] = selector.get("matchLabels") or {}
    expressions: Sequence[Json] = selector.get("matchExpressions") or ()
    if not exact and not expressions:
        return False
    fits = all(carried.get(key) == value for key, value in exact.items())
    return fits and all(_holds(expression, carried) for expression in expressions)


def _holds(expression: Json, carried: Mapping[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return carried.get(key) in values
        case "NotIn":
            return carried.get(key) not in values
        case "Exists":
            return key in carried
        case "DoesNotExist":
            return key not in carried
    return False


def _serves(storm: Json, service: Json) -> bool:
    return all(spec_of(service).get(key) == value for key, value in service_spec(storm).items())


def _guards(storm: Json, budget: Json) -> bool:
    wanted = {"matchLabels": {labels.STORM_SERVICE_NAME: name_of(storm)}}
    return spec_of(budget).get("selector") == wanted
