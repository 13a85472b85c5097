"""Steps on disruption budgets: what evictions may take of a service's or a role's pods."""

from __future__ import annotations

from activities.errors import KubeNotFound
from activities.fences import StepRefused
from activities.kube import JSON_PATCH
from activities.object_steps import own_resource
from activities.resources import BUDGETS
from activities.store import controller_of
from activities.writes import StepContext, create, delete
from planning.budgets import render_budget
from planning.planner import Json
from planning.wire import ApplyBudget, DeleteBudgets


async def apply_budget(context: StepContext, step: ApplyBudget) -> None:
    """Create the budget, or put its spec in place of what it says; a stranger's is left alone."""
    own = own_resource(context)
    desired = render_budget(context.fence.owner(), own.api_version, own.kind, step)
    live = await _budget(context, step.name)
    if live is None:
        await create(context, BUDGETS, desired)
        return
    if controller_of(live) != context.ref.uid:
        raise StepRefused("name-conflict", f"PodDisruptionBudget {step.name} exists and belongs to somebody else")
    patch = [
        {"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]},
        {"op": "add", "path": "/spec", "value": desired["spec"]},
    ]
    context.wrote(await context.client.patch(BUDGETS, context.ref.namespace, step.name, patch, JSON_PATCH), BUDGETS)


async def delete_budgets(context: StepContext, step: DeleteBudgets) -> None:
    for target in step.targets:
        context.fence.in_time()
        await delete(context, BUDGETS, target)


async def _budget(context: StepContext, name: str) -> Json | None:
    store = context.cache.stores.get(BUDGETS.key)
    if store is not None and store.get(context.ref.namespace, name) is None:
        return None
    try:
        return await context.client.get(BUDGETS, context.ref.namespace, name)
    except KubeNotFound:
        return None
