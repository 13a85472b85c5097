"""Steps on the object itself and on what stands beside it: finalizers, revisions, the headless Service."""

from __future__ import annotations

from typing import Any

from activities.errors import KubeConflict, KubeNotFound
from activities.fences import StaleStep, StepRefused
from activities.kube import JSON_PATCH
from activities.resources import REVISIONS, SERVICES
from activities.store import controller_of
from activities.writes import StepContext, create, delete
from planning import names, render
from planning.planner import Json, Resource
from planning.wire import (
    AddFinalizer,
    ApplyService,
    CreateRevision,
    DeleteRevisions,
    ReleaseFinalizer,
    RenumberRevision,
)

CONFLICT_TRIES = 5
SERVICE_FIELDS = ("type", "selector", "clusterIP", "publishNotReadyAddresses")


async def add_finalizer(context: StepContext, step: AddFinalizer) -> None:
    await _edit_finalizers(context, step.finalizer, present=True)


async def release_finalizer(context: StepContext, step: ReleaseFinalizer) -> None:
    """Only of an object that is being deleted: never by a decision about an earlier life."""
    if "deletionTimestamp" not in context.fence.owner()["metadata"]:
        raise StaleStep("the object is not being deleted")
    await _edit_finalizers(context, step.finalizer, present=False)


async def _edit_finalizers(context: StepContext, finalizer: str, *, present: bool) -> None:
    """Add or remove one finalizer, guarded by resourceVersion: those of others are never lost."""
    live, resource = context.fence.owner(), own_resource(context)
    for _ in range(CONFLICT_TRIES):
        finalizers = list(live["metadata"].get("finalizers") or [])
        if (finalizer in finalizers) == present:
            return
        wanted = [*finalizers, finalizer] if present else [each for each in finalizers if each != finalizer]
        try:
            await _patch_finalizers(context, resource, live, wanted)
        except KubeConflict:
            live = await context.client.get(resource, context.ref.namespace, context.ref.name)
            if live["metadata"]["uid"] != context.ref.uid:
                raise StaleStep("another object has taken the name") from None
        except KubeNotFound:
            return
        else:
            return
    raise StepRefused("conflict", "the object changes faster than its finalizers can be edited")


async def _patch_finalizers(context: StepContext, resource: Resource, live: Json, wanted: list[str]) -> None:
    metadata = {"uid": context.ref.uid, "resourceVersion": live["metadata"]["resourceVersion"], "finalizers": wanted}
    answer = await context.client.patch(resource, context.ref.namespace, context.ref.name, {"metadata": metadata})
    if wanted or "deletionTimestamp" not in answer["metadata"]:
        context.wrote(answer, resource)


def own_resource(context: StepContext) -> Resource:
    """The resource of the object itself."""
    return context.cache.stores[context.ref.kind].resource


async def create_revision(context: StepContext, step: CreateRevision) -> None:
    storm = context.fence.owner()
    if names.template_digest(storm["spec"]["template"]) != step.digest:
        raise StaleStep("the template has changed")
    body = render.render_revision(storm, step)
    live = await create(context, REVISIONS, body)
    context.made[(REVISIONS.key, step.name)] = live


async def renumber_revision(context: StepContext, step: RenumberRevision) -> None:
    metadata = {"uid": step.target.uid}
    if step.target.resource_version:
        metadata["resourceVersion"] = step.target.resource_version
    body = {"metadata": metadata, "revision": step.revision}
    answer = await context.client.patch(REVISIONS, context.ref.namespace, step.target.name, body)
    context.wrote(answer, REVISIONS)


async def delete_revisions(context: StepContext, step: DeleteRevisions) -> None:
    for target in step.targets:
        context.fence.in_time()
        await delete(context, REVISIONS, target)


async def revision_named(context: StepContext, name: str) -> Json:
    """The ControllerRevision: made a moment ago, in the cache, or read live."""
    if made := context.made.get((REVISIONS.key, name)):
        return made
    store = context.cache.stores.get(REVISIONS.key)
    found = store.get(context.ref.namespace, name) if store else None
    if found is None:
        found = await context.client.get(REVISIONS, context.ref.namespace, name)
    if controller_of(found) != context.ref.uid:
        raise StepRefused("name-conflict", f"ControllerRevision {name} belongs to somebody else")
    return found


async def apply_service(context: StepContext, step: ApplyService) -> None:
    """Create the Service, or correct the fields that matter in place; a stranger's is left alone."""
    desired = render.render_service(context.fence.owner())
    live = await _service(context, step.name)
    if live is None:
        await create(context, SERVICES, desired)
        return
    if controller_of(live) != context.ref.uid:
        raise StepRefused("name-conflict", f"Service {step.name} exists and belongs to somebody else")
    operations = _corrections(live, desired)
    if operations:
        uid_test = {"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]}
        answer = await context.client.patch(
            SERVICES, context.ref.namespace, step.name, [uid_test, *operations], JSON_PATCH
        )
        context.wrote(answer, SERVICES)


async def _service(context: StepContext, name: str) -> Json | None:
    store = context.cache.stores.get(SERVICES.key)
    if store is not None and store.get(context.ref.namespace, name) is None:
        return None
    try:
        return await context.client.get(SERVICES, context.ref.namespace, name)
    except KubeNotFound:
        return None


def _corrections(live: Json, desired: Json) -> list[dict[str, Any]]:
    return [
        {"op": "add", "path": f"/spec/{field}", "value": desired["spec"][field]}
        for field in SERVICE_FIELDS
        if field in desired["spec"] and live["spec"].get(field) != desired["spec"][field]
    ]
