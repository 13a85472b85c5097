"""Steps on PodSets of a RoleSet, on the pods of a PodSet, and on the PodGroups of either."""

from __future__ import annotations

from activities.child_steps import FIRST_PODS, delete_all
from activities.errors import KubeConflict, KubeNotFound
from activities.fences import StaleStep, StepRefused
from activities.resources import PODS, PODSETS
from activities.store import controller_of
from activities.writes import StepContext, create, delete, slow_start
from crds import labels
from planning import gang, render, render_groups
from planning.planner import Json, Resource
from planning.wire import (
    ApplyPodGroup,
    CreateGroupPods,
    CreatePodSets,
    DeleteGroupPods,
    DeletePodGroups,
    DeletePodSets,
    Target,
    UpdatePodSets,
)


async def create_podsets(context: StepContext, step: CreatePodSets) -> None:
    roleset = context.fence.owner()

    async def act(slot: int) -> None:
        podset = render_groups.render_podset(roleset, step.role, slot)
        if podset["metadata"]["labels"][labels.ROLE_TEMPLATE_HASH] != step.template_hash:
            raise StaleStep(f"the template of role {step.role} has changed")
        await create(context, PODSETS, podset)

    await slow_start(step.slots, act, first=FIRST_PODS)


async def update_podsets(context: StepContext, step: UpdatePodSets) -> None:
    """Patch what needs no new pods; a field that the role no longer has goes."""
    wanted = render_groups.mutable_fields(render.role_named(context.fence.owner(), step.role))

    async def act(target: Target) -> None:
        live = context.cache.stores[PODSETS.key].by_uid(target.uid)
        if live is None:
            raise StaleStep(f"PodSet {target.name} is gone")
        kept = {key: live["spec"].get(key) for key in render_groups.MUTABLE if key in live["spec"]}
        body = {"metadata": {"uid": target.uid}, "spec": render.merge_patch(kept, wanted)}
        try:
            answer = await context.client.patch(PODSETS, context.ref.namespace, target.name, body)
        except KubeConflict as error:
            raise StaleStep(f"PodSet {target.name} has changed: {error}") from error
        context.wrote(answer, PODSETS)

    await slow_start(step.targets, act, first=FIRST_PODS)


async def delete_podsets(context: StepContext, step: DeletePodSets) -> None:
    await delete_all(context, PODSETS, step, FIRST_PODS)


async def create_group_pods(context: StepContext, step: CreateGroupPods) -> None:
    """All from one spec: a PodSet that has changed since the decision is planned anew."""
    context.fence.check()
    podset = context.fence.owner()

    async def act(index: int) -> None:
        await create(context, PODS, render_groups.render_group_pod(podset, index, step.restarts))

    await slow_start(step.indexes, act, first=FIRST_PODS)


async def delete_group_pods(context: StepContext, step: DeleteGroupPods) -> None:
    await delete_all(context, PODS, step, FIRST_PODS, step.grace_seconds)


async def apply_pod_group(context: StepContext, step: ApplyPodGroup) -> None:
    """Make the PodGroup, or bring our fields into one that is ours or nobody's."""
    owner, scheduler = context.fence.owner(), gang.scheduler_named(step.scheduler)
    if scheduler is None or gang.scheduler_of(owner) != scheduler:
        raise StaleStep("the scheduling strategy has changed")
    body = gang.render_pod_group(owner, scheduler)
    live = await _pod_group(context, scheduler.resource, body["metadata"]["name"])
    if live is not None:
        _only_ours(context, live)
        body["metadata"]["uid"] = live["metadata"]["uid"]
    answer = await context.client.apply(scheduler.resource, context.ref.namespace, body)
    context.wrote(answer, scheduler.resource)


async def _pod_group(context: StepContext, resource: Resource, name: str) -> Json | None:
    try:
        return await context.client.get(resource, context.ref.namespace, name)
    except KubeNotFound as error:
        if error.about not in ("", name):
            raise
        return None


def _only_ours(context: StepContext, live: Json) -> None:
    name = live["metadata"]["name"]
    if controller_of(live) not in ("", context.ref.uid):
        raise StepRefused("name-conflict", f"PodGroup {name} exists and belongs to somebody else")
    if "deletionTimestamp" in live["metadata"]:
        raise StaleStep(f"PodGroup {name} is still terminating")


async def delete_pod_groups(context: StepContext, step: DeletePodGroups) -> None:
    scheduler = gang.scheduler_named(step.scheduler)
    if scheduler is None:
        raise StaleStep(f"no scheduler {step.scheduler}")
    for target in step.targets:
        context.fence.in_time()
        await delete(context, scheduler.resource, target)
