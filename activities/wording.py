"""The words for a step: one readable line for summaries, Events and logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crds import labels
from planning.edits import COMMANDED
from planning.wire import Decision, Ref, RolloutResult, View

SUMMARY_BYTES = 400
"""Temporal's limit is in bytes: a longer summary jams the workflow task."""

EVENT_REASONS: Mapping[str, str] = {
    "create-rolesets": labels.EVENT_ROLESETS_CREATED,
    "update-rolesets": labels.EVENT_ROLESETS_UPDATED,
    "delete-rolesets": labels.EVENT_ROLESETS_DELETED,
    "create-pods": labels.EVENT_PODS_CREATED,
    "delete-pods": labels.EVENT_PODS_DELETED,
    "apply-service": labels.EVENT_SERVICE_SYNCED,
    "apply-budget": labels.EVENT_BUDGET_SYNCED,
    "adopt": labels.EVENT_ADOPTED,
    "create-podsets": labels.EVENT_PODSETS_CREATED,
    "delete-podsets": labels.EVENT_PODSETS_DELETED,
    "apply-pod-group": labels.EVENT_POD_GROUP_SYNCED,
}
"""Reason of the Event that tells of a step's success."""
FAILURE_REASONS: Mapping[str, str] = {"podset": labels.EVENT_RECONCILE_ERROR}
"""By kind, reason of the Event that tells of a step's failure, where it is a fixed one."""
STEP_EVENTS = frozenset(EVENT_REASONS.values())


def cut_bytes(text: str, limit: int = SUMMARY_BYTES) -> str:
    """The longest start of `text` that is at most `limit` bytes in UTF-8, marked when something was cut."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    return raw[: limit - 3].decode(errors="ignore") + "…"


def step_line(step: Any) -> str:
    """What the step does, with numbers: `create 2 RoleSets at llama-7f3c (surge 1)`."""
    note = getattr(step, "note", "")
    return f"{_action(step)}{f' ({note})' if note else ''}"


def decision_line(decision: Decision) -> str:
    """All steps of a decision, or its reason when it has none."""
    return cut_bytes("; ".join(step_line(step) for step in decision.steps) or decision.reason)


def waiting_line(shown: View, rollout: str | None) -> str:
    """What a poll waits for: the state in which it waits, and what blocks."""
    if not shown.phase:
        return cut_bytes(f"look at {rollout or 'the object'} for the first time")
    at = f" at {rollout or shown.revision}" if rollout or shown.revision else ""
    blocked = f", blocked: {shown.blocked}" if shown.blocked else ""
    return cut_bytes(f"wait for a change: {shown.phase}{at}{blocked}")


def ended_line(result: RolloutResult) -> str:
    """How a rollout ended; one that did not complete names what blocked it last."""
    told = result.result == "completed" or not result.blocked or result.blocked[-1] in result.message
    blocked = "" if told else f"; blocked by {result.blocked[-1]}"
    return f"{result.result} {result.message}{blocked}".strip()


def object_details(ref: Ref) -> str:
    """The same for the object's own workflow."""
    seen = f"`kubectl -n {ref.namespace} get {ref.kind} {ref.name}`"
    if ref.kind not in COMMANDED:
        return f"Looks after the object until it is gone.\n\n{seen}"
    return (
        "Looks after the object until it is gone. Updates: `pause`, `resume`, `undo`, `restart`, `plan`.\n\n"
        f"{seen}\n\n"
        f"`brixflow rollout history {ref.kind}/{ref.name} -n {ref.namespace}`"
    )


def rollout_details(ref: Ref, revision: str) -> str:
    """What a person can do about a rollout, shown beside it."""
    target = f"{ref.kind}/{ref.name} -n {ref.namespace}"
    return (
        f"Rolls out `{revision}`. Updates: `pause`, `resume`, `undo`, `restart`, `plan`; "
        f"cancel means pause.\n\n`brixflow rollout status {target} -w`\n\n"
        f"`kubectl -n {ref.namespace} describe {ref.kind} {ref.name}`"
    )


ON_PODS = frozenset(
    {"patch-pods", "drain-pods", "complete-pods", "note-pods", "restore-pods", "warm-up-pods", "fall-back"}
)


def _action(step: Any) -> str:
    if step.type in ON_PODS:
        return _on_pods(step)
    match step.type:
        case "create-rolesets":
            return f"create {_count(step.indexes, 'RoleSet')} at {step.revision}"
        case "update-rolesets":
            return f"update {_count(step.targets, 'RoleSet')} to {step.revision}"
        case "delete-rolesets":
            return f"delete {_count(step.targets, 'RoleSet')}"
        case "create-pods":
            return f"create {_pods(step.count or len(step.slots))} of {step.role}"
        case "delete-pods":
            return f"delete {_pods(len(step.targets))} of {step.role}"
        case "delete-revisions":
            return f"delete {_count(step.targets, 'revision')}"
        case "adopt":
            return f"adopt {_count(step.targets, step.kind)}"
        case _:
            return _beside(step)


def _beside(step: Any) -> str:
    match step.type:
        case "apply-budget":
            return f"apply PodDisruptionBudget {step.name} (at least {step.min_available} stay)"
        case "delete-budgets":
            return f"delete {_count(step.targets, 'PodDisruptionBudget')}"
        case _:
            return _of_groups(step) or _of_fleets(step) or _other(step)


def _of_groups(step: Any) -> str:
    """Steps on PodSets, their pods and PodGroups; empty for all others."""
    match step.type:
        case "create-podsets":
            return f"create {_count(step.slots, 'PodSet')} of {step.role}"
        case "update-podsets":
            return f"update {_count(step.targets, 'PodSet')} of {step.role}"
        case "delete-podsets":
            return f"delete {_count(step.targets, 'PodSet')} of {step.role}"
        case "create-group-pods":
            return f"create {_count(step.indexes, 'pod')} of the group"
        case "delete-group-pods":
            return f"delete {_count(step.targets, 'pod')} of the group"
        case "apply-pod-group":
            return f"apply the PodGroup of {step.scheduler}"
        case "delete-pod-groups":
            return f"delete {_count(step.targets, 'PodGroup')} of {step.scheduler}"
        case _:
            return ""


def _of_fleets(step: Any) -> str:
    """Steps on RayClusters, and on fleets and their replica sets; empty for all others."""
    match step.type:
        case "create-ray-clusters":
            return f"create {step.count} RayCluster{'' if step.count == 1 else 's'}"
        case "delete-ray-clusters":
            return f"delete {_count(step.targets, 'RayCluster')}"
        case "create-ray-replica-set":
            return f"create replica set {step.name} with {step.replicas}"
        case "update-ray-replica-sets":
            return f"size {_count(step.sizes, 'replica set')}"
        case "delete-ray-replica-sets":
            return f"delete {_count(step.targets, 'old replica set')}"
        case "note-fleet":
            return f"note revision {step.revision} on the fleet"
        case "roll-back-fleet":
            return "roll the fleet back" if step.source is not None else "drop the request to roll back"
        case _:
            return ""


def _on_pods(step: Any) -> str:
    match step.type:
        case "patch-pods":
            return f"update {_pods(len(step.targets))} of {step.role} in place to {step.template_hash}"
        case "drain-pods":
            return f"drain {_pods(len(step.targets))} of {step.role} for {step.seconds} s"
        case "complete-pods":
            return f"complete the in-place update of {_pods(len(step.targets))} of {step.role}"
        case "note-pods":
            return f"note on {_pods(len(step.targets))} of {step.role}: {', '.join(sorted(set(step.reasons)))}"
        case "restore-pods":
            return f"open the gate of {_pods(len(step.targets))} of {step.role}"
        case "warm-up-pods":
            return f"warm up {_pods(len(step.targets))} of {step.role}"
        case _:
            return f"replace pods instead: {step.message}"


def _other(step: Any) -> str:
    match step.type:
        case "create-revision":
            return f"store revision {step.revision} as {step.name}"
        case "renumber-revision":
            return f"raise revision {step.target.name} to {step.revision}"
        case "apply-service":
            return f"apply Service {step.name}"
        case "add-finalizer" | "release-finalizer":
            return str(step.type).replace("-", " ")
        case "start-rollout":
            return f"start rollout of {step.revision}"
        case "close-rollout":
            return f"close rollout: {step.result}"
        case "close-object":
            return "close: the object is gone"
        case _:
            return f"unknown step {step.type}"


def _count(items: Sequence[Any], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _pods(count: int) -> str:
    return f"{count} pod{'' if count == 1 else 's'}"
