"""The step `adopt`: children that an owner of the same name left behind get a controller again, and nothing else."""

from __future__ import annotations

from activities.errors import KubeConflict, KubeNotFound
from activities.fences import StaleStep
from activities.object_steps import own_resource
from activities.store import controller_of
from activities.writes import StepContext, slow_start
from planning.planner import Json
from planning.render import owner_reference
from planning.wire import Adopt, Target

FIRST_ADOPTED = 4


async def adopt(context: StepContext, step: Adopt) -> None:
    """Add our owner reference to each target; one that changed meanwhile or found another controller is left."""
    store = context.cache.stores[step.kind]
    own = own_resource(context)
    ours = owner_reference(context.fence.owner(), own.api_version, own.kind)
    await context.fence.check_live()

    async def act(target: Target) -> None:
        live = store.by_uid(target.uid)
        if live is not None and controller_of(live) == context.ref.uid:
            return
        if live is None or controller_of(live):
            raise StaleStep(f"{step.kind} {target.name} is gone or has another controller")
        body = {"metadata": _claim(live, target, ours)}
        try:
            answer = await context.client.patch(store.resource, context.ref.namespace, target.name, body)
        except (KubeConflict, KubeNotFound) as error:
            raise StaleStep(f"{step.kind} {target.name} has changed: {error}") from error
        context.wrote(answer, store.resource)

    await slow_start(step.targets, act, first=FIRST_ADOPTED, before=context.fence.check)


def _claim(live: Json, target: Target, ours: Json) -> Json:
    """Preconditions, and the owners it has with ours behind them."""
    others = [found for found in live["metadata"].get("ownerReferences") or () if found["uid"] != ours["uid"]]
    return {"uid": target.uid, "resourceVersion": target.resource_version, "ownerReferences": [*others, ours]}
