"""Disruption budgets: what a node's drain may take of a service or of a role.

The budget always names an integer `minAvailable`. With `maxUnavailable` or a percentage the disruption controller asks
the pods' controller for its scale, which a RoleSet does not have, and then allows no eviction at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crds import labels
from crds.intorstr import IntOrStringError, scaled
from planning.objects import name_of, spec_of, uid_of
from planning.render import desired_replicas, owner_reference
from planning.resources import BUDGET
from planning.wire import ApplyBudget, DeleteBudgets, Step, Target

Json = dict[str, Any]


def min_available(tolerance: Json | None, pods: int) -> tuple[int | None, str]:
    """How many of `pods` have to stay by `disruptionTolerance`, and what is wrong with it.

    None without a tolerance. A percentage is rounded up, as the API does for `maxUnavailable` of a budget.
    """
    value = (tolerance or {}).get("maxUnavailable")
    if value is None:
        return None, ""
    try:
        return max(0, pods - scaled(value, pods, round_up=True)), ""
    except IntOrStringError as error:
        return None, f"disruptionTolerance: {error}"


def role_budgets(roleset: Json) -> list[ApplyBudget]:
    """The budgets of a RoleSet's roles; a tolerance that cannot be read makes none."""
    found = []
    for role in spec_of(roleset).get("roles") or ():
        pods = desired_replicas(role) * max(1, int(role.get("podGroupSize") or 1))
        least, _ = min_available(role.get("disruptionTolerance"), pods)
        if least is not None:
            selector = {labels.ROLESET_NAME: name_of(roleset), labels.ROLE_NAME: role["name"]}
            name = f"{name_of(roleset)}-{role['name']}"
            found.append(ApplyBudget(name=name, min_available=least, selector=selector))
    return found


def budget_steps(wanted: Iterable[ApplyBudget], stored: Iterable[Json]) -> list[Step]:
    """What makes `stored` (the budgets that the object owns) say what is `wanted`."""
    known = {name_of(found): found for found in stored}
    by_name = {step.name: step for step in wanted}
    steps: list[Step] = [step for name, step in sorted(by_name.items()) if not _says(known.get(name), step)]
    if leftover := [known[name] for name in sorted(known.keys() - by_name.keys())]:
        steps.append(DeleteBudgets(targets=[Target(name=name_of(found), uid=uid_of(found)) for found in leftover]))
    return steps


def _says(found: Json | None, step: ApplyBudget) -> bool:
    return found is not None and all(spec_of(found).get(key) == value for key, value in budget_spec(step).items())


def budget_spec(step: ApplyBudget) -> Json:
    return {"minAvailable": step.min_available, "selector": {"matchLabels": dict(step.selector)}}


def render_budget(owner: Json, api_version: str, kind: str, step: ApplyBudget) -> Json:
    """The PodDisruptionBudget of `step`, owned by `owner`."""
    metadata: Mapping[str, Any] = {
        "name": step.name,
        "namespace": owner["metadata"]["namespace"],
        "ownerReferences": [owner_reference(owner, api_version, kind)],
    }
    return {"apiVersion": BUDGET.api_version, "kind": BUDGET.kind, "metadata": metadata, "spec": budget_spec(step)}
