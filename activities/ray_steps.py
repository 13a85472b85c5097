"""Steps on RayClusters, and on a fleet and its replica sets."""

from __future__ import annotations

from activities.child_steps import delete_all, suffix
from activities.errors import KubeConflict, KubeNotFound
from activities.fences import StaleStep
from activities.kube import JSON_PATCH
from activities.writes import StepContext, create, delete, slow_start
from crds import labels
from planning.planner import Json
from planning.render_ray import (
    RAY_CLUSTER,
    RAY_FLEET,
    RAY_REPLICA_SET,
    copied_annotations,
    ray_cluster_name,
    render_ray_cluster,
    render_replica_set,
    restored_template,
    size_notes,
    template_digest,
)
from planning.wire import (
    CreateRayClusters,
    CreateRayReplicaSet,
    DeleteRayClusters,
    DeleteRayReplicaSets,
    NoteFleet,
    RaySize,
    RollBackFleet,
    UpdateRayReplicaSets,
)

FIRST_CLUSTERS = 1
DELETIONS_AT_ONCE = 10


async def create_ray_clusters(context: StepContext, step: CreateRayClusters) -> None:
    """All from one spec: a replica set that has changed since the decision is planned anew."""
    context.fence.check()
    owner = context.fence.owner()

    async def act(place: int) -> None:
        name = ray_cluster_name(context.ref.name, suffix(context, place))
        await create(context, RAY_CLUSTER, render_ray_cluster(owner, name))

    await slow_start(range(step.count), act, first=FIRST_CLUSTERS)


async def delete_ray_clusters(context: StepContext, step: DeleteRayClusters) -> None:
    await delete_all(context, RAY_CLUSTER, step, DELETIONS_AT_ONCE)


async def create_ray_replica_set(context: StepContext, step: CreateRayReplicaSet) -> None:
    fleet = context.fence.owner()
    if template_digest(fleet["spec"]["template"]) != step.digest:
        raise StaleStep("the template has changed")
    await create(context, RAY_REPLICA_SET, render_replica_set(fleet, step))


async def update_ray_replica_sets(context: StepContext, step: UpdateRayReplicaSets) -> None:
    """Patch each in the version that was decided about."""
    if step.disruptive:
        await context.fence.check_live()

    async def act(size: RaySize) -> None:
        await _resize(context, size, copies=step.copies)

    before = context.fence.check if step.disruptive else context.fence.in_time
    await slow_start(step.sizes, act, first=FIRST_CLUSTERS, before=before)


async def _resize(context: StepContext, size: RaySize, *, copies: bool) -> None:
    fleet, target = context.fence.owner(), size.target
    notes = size_notes(size.desired, size.most, size.revision, size.history)
    spec: Json = {"replicas": size.replicas}
    if copies:
        notes = copied_annotations(fleet) | notes
        spec["minReadySeconds"] = int(fleet["spec"].get("minReadySeconds") or 0)
    metadata = {"uid": target.uid, "resourceVersion": target.resource_version, "annotations": notes}
    try:
        answer = await context.client.patch(
            RAY_REPLICA_SET, context.ref.namespace, target.name, {"metadata": metadata, "spec": spec}
        )
    except (KubeConflict, KubeNotFound) as error:
        raise StaleStep(f"replica set {target.name} has changed: {error}") from error
    context.wrote(answer, RAY_REPLICA_SET)


async def delete_ray_replica_sets(context: StepContext, step: DeleteRayReplicaSets) -> None:
    for target in step.targets:
        context.fence.in_time()
        await delete(context, RAY_REPLICA_SET, target)


async def note_fleet(context: StepContext, step: NoteFleet) -> None:
    metadata = {"uid": context.ref.uid, "annotations": {labels.FLEET_REVISION: step.revision}}
    answer = await context.client.patch(RAY_FLEET, context.ref.namespace, context.ref.name, {"metadata": metadata})
    context.wrote(answer, RAY_FLEET)


async def roll_back_fleet(context: StepContext, step: RollBackFleet) -> None:
    """Take the request away; with `source` write its template and annotations back in the same patch."""
    await context.fence.check_live()
    fleet = context.fence.owner()
    notes = dict(fleet["metadata"].get("annotations") or {})
    notes.pop(labels.FLEET_ROLLBACK_TO, None)
    changes: list[Json] = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": fleet["metadata"]["resourceVersion"]}
    ]
    if step.source is not None:
        source = context.cache.stores[RAY_REPLICA_SET.key].by_uid(step.source.uid)
        if source is None:
            raise StaleStep(f"replica set {step.source.name} is gone")
        kept = {key: value for key, value in notes.items() if key not in copied_annotations(fleet)}
        notes = kept | copied_annotations(source)
        changes.append({"op": "replace", "path": "/spec/template", "value": restored_template(source)})
    changes.append({"op": "add", "path": "/metadata/annotations", "value": notes})
    try:
        answer = await context.client.patch(
            RAY_FLEET, context.ref.namespace, context.ref.name, changes, JSON_PATCH
        )  # fmt: skip
    except KubeConflict as error:
        raise StaleStep(f"the fleet has changed: {error}") from error
    context.wrote(answer, RAY_FLEET)
