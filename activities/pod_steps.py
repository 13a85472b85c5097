"""Steps on running pods: image patches, their completion, drains. Each write names the version it was decided for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from activities.errors import KubeConflict, KubeNotFound
from activities.fences import StaleStep
from activities.kube import STRATEGIC_MERGE_PATCH
from activities.resources import PODS, ROLESETS
from activities.writes import StepContext, slow_start
from crds import labels
from planning import names, topology
from planning.eligibility import Eligibility
from planning.flight import has_gate, restarts_of, state_after
from planning.objects import annotations_of, format_time, spec_of
from planning.planner import Json
from planning.pod_steps import fallbacks_told
from planning.shape import shape_of
from planning.warm_up import asked_of, mark, warmth_of
from planning.wire import (
    CompletePods,
    DrainPods,
    FallBack,
    NotePods,
    PatchPods,
    RestorePods,
    Target,
    WarmUpPods,
)

FIRST_PODS = 16
GATE_OPENED, GATE_UPDATES, GATE_DRAINS = "Open", "InPlaceUpdate", "Drain"


async def patch_pods(context: StepContext, step: PatchPods) -> None:
    """Begin in-place updates: the gate is closed before the image changes, and the pod says where it goes."""
    roleset = context.fence.owner()
    role = role_of(roleset, step.role, step.template_hash)
    eligibility = Eligibility(roleset, role)
    if step.disruptive:
        await context.fence.check_live()

    async def act(target: Target) -> None:
        pod = pod_of(context, target)
        if fault := eligibility.fault_of(pod):
            raise StaleStep(f"pod {target.name} cannot be updated in place: {fault}")
        images = eligibility.changed_images(pod)
        body = {"metadata": {"annotations": _departure(pod, step.template_hash, images)}}
        containers = [{"name": name, "image": image} for name, image in images.items()]
        version = await set_gate(context, pod, target.resource_version, GATE_UPDATES)
        await patch_pod(context, pod, body | {"spec": {"containers": containers}}, version)
        what = f"in-place update to {', '.join(images.values())} started"
        tell(context, labels.EVENT_IN_PLACE_STARTED, step.role, target, what)

    before = context.fence.check if step.disruptive else context.fence.in_time
    await slow_start(step.targets, act, first=FIRST_PODS, before=before)


def _departure(pod: Json, template_hash: str, images: Mapping[str, str]) -> Json:
    return {
        labels.IN_PLACE_TARGET_HASH: template_hash,
        labels.IN_PLACE_STATE: state_after(pod, images),
        labels.IN_PLACE_SINCE: format_time(datetime.now(UTC)),
        labels.IN_PLACE_PENDING_REASON: None,
        labels.DRAIN_SINCE: None,
    }


async def complete_pods(context: StepContext, step: CompletePods) -> None:
    """End in-place updates: labels and digests of the new template, marks gone, the gate open again."""
    roleset = context.fence.owner()
    role = role_of(roleset, step.role, step.template_hash)

    async def act(target: Target) -> None:
        pod = pod_of(context, target)
        carried = labels.IN_PLACE_TARGET_HASH in annotations_of(pod)
        body = {"metadata": {"labels": _new_labels(roleset, role), "annotations": _arrival(roleset, role, pod)}}
        version = await patch_pod(context, pod, body, target.resource_version)
        await set_gate(context, pod, version, GATE_OPENED)
        if carried:
            tell(context, labels.EVENT_IN_PLACE_COMPLETED, step.role, target, "in-place update completed")

    await slow_start(step.targets, act, first=FIRST_PODS, before=context.fence.in_time)


def _new_labels(roleset: Json, role: Json) -> Json:
    noted, name = annotations_of(roleset), role["name"]
    revision = {
        labels.ROLE_REVISION: noted.get(labels.role_revision_annotation(name)),
        labels.ROLE_REVISION_NAME: noted.get(labels.role_revision_name_annotation(name)),
    }
    known = {label: value for label, value in revision.items() if value is not None}
    return {labels.ROLE_TEMPLATE_HASH: topology.role_hash(roleset, role), **known}


def _arrival(roleset: Json, role: Json, pod: Json) -> Json:
    return {
        labels.TEMPLATE_DIGEST: names.role_digest(role),
        labels.POD_SHAPE: shape_of(roleset, role),
        labels.RESTARTS_SEEN: str(restarts_of(pod)),
        labels.IN_PLACE_TARGET_HASH: None,
        labels.IN_PLACE_STATE: None,
        labels.IN_PLACE_PENDING_REASON: None,
        labels.IN_PLACE_SINCE: None,
    }


async def note_pods(context: StepContext, step: NotePods) -> None:
    """Write on each pod why its in-place update has not come to an end."""

    async def act(pair: tuple[Target, str]) -> None:
        target, reason = pair
        body = {"metadata": {"annotations": {labels.IN_PLACE_PENDING_REASON: reason}}}
        await patch_pod(context, pod_of(context, target), body, target.resource_version)

    pairs = list(zip(step.targets, step.reasons, strict=True))
    await slow_start(pairs, act, first=FIRST_PODS, before=context.fence.in_time)


async def drain_pods(context: StepContext, step: DrainPods) -> None:
    """Close gates, then note when: a pod whose gate is open is never taken as drained."""
    await context.fence.check_live()

    async def act(target: Target) -> None:
        pod = pod_of(context, target)
        version = await set_gate(context, pod, target.resource_version, GATE_DRAINS)
        body = {"metadata": {"annotations": {labels.DRAIN_SINCE: format_time(datetime.now(UTC))}}}
        await patch_pod(context, pod, body, version)

    await slow_start(step.targets, act, first=FIRST_PODS, before=context.fence.check)


async def restore_pods(context: StepContext, step: RestorePods) -> None:
    """Open gates again, and take the note of the drain away."""

    async def act(target: Target) -> None:
        pod, version = pod_of(context, target), target.resource_version
        if labels.DRAIN_SINCE in annotations_of(pod):
            version = await patch_pod(context, pod, {"metadata": {"annotations": {labels.DRAIN_SINCE: None}}}, version)
        await set_gate(context, pod, version, GATE_OPENED)

    await slow_start(step.targets, act, first=FIRST_PODS, before=context.fence.in_time)


async def mark_warm_ups(context: StepContext, step: WarmUpPods) -> None:
    """Note that a try begins; the workflow starts it once this is done."""
    asked = asked_of(context.fence.owner(), step.role, step.template_hash)
    if asked is None:
        raise StaleStep("the template or the warm-up has changed")
    warm_up, _ = asked

    async def act(target: Target) -> None:
        pod = pod_of(context, target)
        tries = warmth_of(pod, step.template_hash, warm_up).tries
        value = mark("running", step.template_hash, tries, datetime.now(UTC))
        await patch_pod(context, pod, {"metadata": {"annotations": {labels.WARM_UP: value}}}, "")

    await slow_start(step.targets, act, first=FIRST_PODS, before=context.fence.in_time)


async def fall_back(context: StepContext, step: FallBack) -> None:
    """Note on the RoleSet that this revision's fallback has been said, and say it."""
    roleset = await context.client.get(ROLESETS, context.ref.namespace, context.ref.name)
    told = fallbacks_told(roleset) | {step.role: step.template_hash}
    value = orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode()
    metadata = {"uid": context.ref.uid, "resourceVersion": roleset["metadata"]["resourceVersion"]}
    body = {"metadata": {**metadata, "annotations": {labels.IN_PLACE_FALLBACK: value}}}
    try:
        context.wrote(await context.client.patch(ROLESETS, context.ref.namespace, context.ref.name, body), ROLESETS)
    except KubeConflict as error:
        raise StaleStep(f"the object has changed: {error}") from error
    context.told.append(("Normal", labels.EVENT_IN_PLACE_FALLBACK, step.message))


# --- small things ---------------------------------------------------------------------------------------------------


def role_of(roleset: Json, name: str, template_hash: str) -> Json:
    """The role as the RoleSet has it; StaleStep unless it is still at that template."""
    role: Json | None = next((role for role in spec_of(roleset).get("roles") or () if role["name"] == name), None)
    if role is None or topology.role_hash(roleset, role) != template_hash:
        raise StaleStep(f"the template of role {name} has changed")
    return role


def pod_of(context: StepContext, target: Target) -> Json:
    pod = context.cache.stores[PODS.key].by_uid(target.uid)
    if pod is None:
        raise StaleStep(f"pod {target.name} is gone")
    return pod


def tell(context: StepContext, reason: str, role: str, target: Target, what: str) -> None:
    context.told.append(("Normal", reason, f"role {role} pod {target.name}: {what}"))


async def patch_pod(context: StepContext, pod: Json, body: Json, version: str, sub: str | None = None) -> str:
    """Patch exactly this pod, at `version` where one is given; the new version. StaleStep when it has moved on."""
    metadata = {"uid": pod["metadata"]["uid"], **({"resourceVersion": version} if version else {})}
    body = {**body, "metadata": {**body.get("metadata", {}), **metadata}}
    name = pod["metadata"]["name"]
    try:
        answer = await context.client.patch(PODS, context.ref.namespace, name, body, STRATEGIC_MERGE_PATCH, sub=sub)
    except (KubeConflict, KubeNotFound) as error:
        raise StaleStep(f"pod {name} has changed: {error}") from error
    context.wrote(answer, PODS)
    return str(answer["metadata"]["resourceVersion"])


async def set_gate(context: StepContext, pod: Json, version: str, why: str) -> str:
    """Open or close the pod's readiness gate, where it has one; closed, the pod is not Ready from this moment on."""
    if not has_gate(pod):
        return version
    opened = why == GATE_OPENED
    at = format_time(datetime.now(UTC))
    kinds = [labels.IN_PLACE_READY] if opened else [labels.IN_PLACE_READY, labels.READY]
    status = "True" if opened else "False"
    conditions = [{"type": kind, "status": status, "reason": why, "lastTransitionTime": at} for kind in kinds]
    return await patch_pod(context, pod, {"status": {"conditions": conditions}}, version, "status")
