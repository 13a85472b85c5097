"""Steps on children: RoleSets of a StormService, pods of a RoleSet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from activities.errors import KubeConflict
from activities.fences import StaleStep
from activities.object_steps import revision_named
from activities.pod_steps import GATE_OPENED, set_gate
from activities.resources import PODS, REVISIONS, ROLESETS
from activities.writes import StepContext, create, delete, slow_start
from crds import labels
from planning import names, render
from planning.planner import Json, Resource
from planning.wire import CreatePods, CreateRoleSets, DeletePods, DeleteRoleSets, Target, UpdateRoleSets

FIRST_ROLESETS = 1
FIRST_PODS = 16


def suffix(context: StepContext, place: int) -> str:
    """The name's end for the object at `place` within this step: the same whenever this decision is carried out."""
    return names.suffix(context.ref.uid, context.run_id, context.number, context.first_index + place)


async def create_rolesets(context: StepContext, step: CreateRoleSets) -> None:
    storm = context.fence.owner()
    revision = await revision_named(context, step.revision)

    async def act(place: int) -> None:
        name = names.roleset_name(context.ref.name, suffix(context, place))
        await create(context, ROLESETS, render.render_roleset(storm, revision, step.indexes[place], name))

    await slow_start(range(len(step.indexes)), act, first=FIRST_ROLESETS)


async def update_rolesets(context: StepContext, step: UpdateRoleSets) -> None:
    """Patch each RoleSet in place; one that is missing or has changed answers a conflict, never a new object."""
    revision = await revision_named(context, step.revision)
    await context.fence.check_live()

    async def act(target: Target) -> None:
        await _patch_roleset(context, revision, target)

    await slow_start(step.targets, act, first=FIRST_ROLESETS, before=context.fence.check)


async def _patch_roleset(context: StepContext, revision: Json, target: Target) -> None:
    live = context.cache.stores[ROLESETS.key].by_uid(target.uid)
    if live is None:
        raise StaleStep(f"RoleSet {target.name} is gone")
    body = render.roleset_update(context.fence.owner(), revision, live)
    body["metadata"]["uid"] = target.uid
    if target.resource_version:
        body["metadata"]["resourceVersion"] = target.resource_version
    try:
        answer = await context.client.patch(ROLESETS, context.ref.namespace, target.name, body)
    except KubeConflict as error:
        raise StaleStep(f"RoleSet {target.name} has changed: {error}") from error
    context.wrote(answer, ROLESETS)


async def delete_rolesets(context: StepContext, step: DeleteRoleSets) -> None:
    await delete_all(context, ROLESETS, step, FIRST_ROLESETS)


async def create_pods(context: StepContext, step: CreatePods) -> None:
    """Create pods of the RoleSet's template, or of an older revision's; a gate is opened as soon as there is one."""
    roleset = context.fence.owner()
    if step.revision:
        revision = await context.client.get(REVISIONS, context.ref.namespace, step.revision)
        roleset = render.roleset_at(roleset, revision, step.role)

    async def act(place: int) -> None:
        made = await create(context, PODS, _pod(context, step, roleset, place))
        await set_gate(context, made, "", GATE_OPENED)

    await slow_start(range(len(step.slots) or step.count), act, first=FIRST_PODS)


def _pod(context: StepContext, step: CreatePods, roleset: Json, place: int) -> Json:
    slot = step.slots[place] if step.slots else None
    if slot is None:
        name = names.stateless_pod_name(context.ref.name, step.role, suffix(context, place))
    else:
        name = names.stateful_pod_name(context.ref.name, step.role, step.template_hash, slot)
    pod = render.render_pod(roleset, step.role, name=name, slot=slot)
    if pod["metadata"]["labels"].get(labels.ROLE_TEMPLATE_HASH) != step.template_hash:
        raise StaleStep(f"the template of role {step.role} has changed")
    return pod


async def delete_pods(context: StepContext, step: DeletePods) -> None:
    await delete_all(context, PODS, step, FIRST_PODS, step.grace_seconds)


class Deletion(Protocol):
    """A step that deletes its targets."""

    @property
    def targets(self) -> Sequence[Target]: ...

    @property
    def disruptive(self) -> bool: ...


async def delete_all(
    context: StepContext, resource: Resource, step: Deletion, first: int, grace_seconds: int = 0
) -> None:
    if step.disruptive:
        await context.fence.check_live()

    async def act(target: Target) -> None:
        await delete(context, resource, target, grace_seconds)

    before = context.fence.check if step.disruptive else context.fence.in_time
    await slow_start(step.targets, act, first=first, before=before)
