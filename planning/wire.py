"""What passes between planner, activities and workflows, and so stands in Temporal's histories for years.

Everything here is additive only: fields get defaults, types are never renamed, an unknown step is kept by name. Steps
carry names, uids, revisions and numbers, never a template, an environment value or a Secret; a decision about 1,000
objects stays below 32 KB. This module imports nothing heavy, since every workflow loads it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from planning.wire_base import Target as Target
from planning.wire_base import Told as Told
from planning.wire_base import Wire as Wire
from planning.wire_pods import CompletePods as CompletePods
from planning.wire_pods import CreatePods as CreatePods
from planning.wire_pods import DeletePods as DeletePods
from planning.wire_pods import DrainPods as DrainPods
from planning.wire_pods import FallBack as FallBack
from planning.wire_pods import NotePods as NotePods
from planning.wire_pods import PatchPods as PatchPods
from planning.wire_pods import RestorePods as RestorePods
from planning.wire_pods import WarmUpPods as WarmUpPods
from planning.wire_ray import CreateRayClusters as CreateRayClusters
from planning.wire_ray import CreateRayReplicaSet as CreateRayReplicaSet
from planning.wire_ray import DeleteRayClusters as DeleteRayClusters
from planning.wire_ray import DeleteRayReplicaSets as DeleteRayReplicaSets
from planning.wire_ray import NoteFleet as NoteFleet
from planning.wire_ray import RaySize as RaySize
from planning.wire_ray import RollBackFleet as RollBackFleet
from planning.wire_ray import UpdateRayReplicaSets as UpdateRayReplicaSets


class Ref(Wire):
    """One custom resource instance. `kind` is in lower case, as in workflow ids."""

    kind: str
    namespace: str
    name: str
    uid: str

    @property
    def workflow_id(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"

    def rollout_id(self, revision: str) -> str:
        return f"rollout/{self.workflow_id}/{revision}"


class RoleRevision(Wire):
    """The revision that brought a role's pod template."""

    number: int
    name: str


class AddFinalizer(Wire):
    type: Literal["add-finalizer"] = "add-finalizer"
    finalizer: str


class ReleaseFinalizer(Wire):
    type: Literal["release-finalizer"] = "release-finalizer"
    finalizer: str


class CreateRevision(Wire):
    """Store the object's template as ControllerRevision `name` with number `revision`.

    `role_revisions`: for roles whose template an older revision brought already, that revision.
    """

    type: Literal["create-revision"] = "create-revision"
    name: str
    revision: int
    hash: str
    digest: str
    role_revisions: dict[str, RoleRevision] = Field(default_factory=dict)


class RenumberRevision(Wire):
    """An older revision became the target again: raise its number."""

    type: Literal["renumber-revision"] = "renumber-revision"
    target: Target
    revision: int


class DeleteRevisions(Wire):
    type: Literal["delete-revisions"] = "delete-revisions"
    targets: list[Target]


class ApplyService(Wire):
    """Create or correct the headless Service of the object."""

    type: Literal["apply-service"] = "apply-service"
    name: str


class ApplyBudget(Wire):
    """Create or correct the PodDisruptionBudget `name`: of the pods that `selector` matches so many have to stay."""

    type: Literal["apply-budget"] = "apply-budget"
    name: str
    min_available: int
    selector: dict[str, str] = Field(default_factory=dict)


class DeleteBudgets(Wire):
    type: Literal["delete-budgets"] = "delete-budgets"
    targets: list[Target]


class Adopt(Wire):
    """Become the controller of `targets` of `kind`, which have none; their resourceVersions are preconditions."""

    type: Literal["adopt"] = "adopt"
    kind: str
    targets: list[Target]


class CreateRoleSets(Wire):
    """Create one RoleSet an index, rendered from ControllerRevision `revision`."""

    type: Literal["create-rolesets"] = "create-rolesets"
    revision: str
    indexes: list[int]
    note: str = ""


class UpdateRoleSets(Wire):
    """Rewrite RoleSets in place: to `revision`, and to the live number of replicas of each role."""

    type: Literal["update-rolesets"] = "update-rolesets"
    revision: str
    targets: list[Target]
    role_replicas: dict[str, int] = Field(default_factory=dict)
    note: str = ""


class DeleteRoleSets(Wire):
    """`disruptive`: a ready one is among them, so the fences apply."""

    type: Literal["delete-rolesets"] = "delete-rolesets"
    targets: list[Target]
    disruptive: bool = True
    note: str = ""


class CreatePodSets(Wire):
    """Create the PodSets of one role's `slots`."""

    type: Literal["create-podsets"] = "create-podsets"
    role: str
    template_hash: str
    slots: list[int]
    note: str = ""
    tells: list[Told] = Field(default_factory=list)


class UpdatePodSets(Wire):
    """Bring what a role may change without new pods (recovery policy, scheduling strategy) into its PodSets."""

    type: Literal["update-podsets"] = "update-podsets"
    role: str
    targets: list[Target]
    note: str = ""


class DeletePodSets(Wire):
    type: Literal["delete-podsets"] = "delete-podsets"
    role: str
    targets: list[Target]
    disruptive: bool = True
    note: str = ""
    tells: list[Told] = Field(default_factory=list)


class CreateGroupPods(Wire):
    """Create the pods of a PodSet with these indexes; `restarts` counts how often its pods failed before."""

    type: Literal["create-group-pods"] = "create-group-pods"
    indexes: list[int]
    restarts: int = 0
    note: str = ""
    tells: list[Told] = Field(default_factory=list)


class DeleteGroupPods(Wire):
    """`grace_seconds`: longer than the pods' own grace, so that running requests end; 0 leaves the grace as it is."""

    type: Literal["delete-group-pods"] = "delete-group-pods"
    targets: list[Target]
    disruptive: bool = True
    note: str = ""
    grace_seconds: int = 0
    tells: list[Told] = Field(default_factory=list)


class ApplyPodGroup(Wire):
    """Bring the object's gang scheduling strategy into a PodGroup of that scheduler."""

    type: Literal["apply-pod-group"] = "apply-pod-group"
    scheduler: str


class DeletePodGroups(Wire):
    type: Literal["delete-pod-groups"] = "delete-pod-groups"
    scheduler: str
    targets: list[Target]
    note: str = ""


class StartRollout(Wire):
    """Start the child workflow that carries `revision` out; only the object's own workflow does."""

    type: Literal["start-rollout"] = "start-rollout"
    revision: str
    number: int = 0


class CloseRollout(Wire):
    """The rollout is over: the child workflow returns `result`."""

    type: Literal["close-rollout"] = "close-rollout"
    result: Literal["completed", "superseded", "undone", "deleted", "failed"]
    message: str = ""


class CloseObject(Wire):
    """The object is gone: its workflow returns, or goes on as `successor` when another uid took the name."""

    type: Literal["close-object"] = "close-object"
    successor: Ref | None = None


class UnknownStep(BaseModel):
    """A step of a newer release; handed on by name, never dropped in silence."""

    model_config = ConfigDict(frozen=True, extra="allow")
    type: str


KNOWN_STEPS: tuple[type[Wire], ...] = (
    AddFinalizer, ReleaseFinalizer, CreateRevision, RenumberRevision, DeleteRevisions, ApplyService, CreateRoleSets,
    UpdateRoleSets, DeleteRoleSets, CreatePods, DeletePods, StartRollout, CloseRollout, CloseObject,
    PatchPods, CompletePods, NotePods, DrainPods, RestorePods, WarmUpPods, FallBack,
    ApplyBudget, DeleteBudgets, Adopt,
    CreatePodSets, UpdatePodSets, DeletePodSets, CreateGroupPods, DeleteGroupPods, ApplyPodGroup, DeletePodGroups,
    CreateRayClusters, DeleteRayClusters, CreateRayReplicaSet, UpdateRayReplicaSets, DeleteRayReplicaSets, NoteFleet,
    RollBackFleet,
)  # fmt: skip
STEP_TYPES: dict[str, type[Wire]] = {str(step.model_fields["type"].default): step for step in KNOWN_STEPS}


def _step_tag(value: Any) -> str:
    name = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return name if isinstance(name, str) and name in STEP_TYPES else "unknown"


Step = Annotated[
    Annotated[AddFinalizer, Tag("add-finalizer")]
    | Annotated[ReleaseFinalizer, Tag("release-finalizer")]
    | Annotated[CreateRevision, Tag("create-revision")]
    | Annotated[RenumberRevision, Tag("renumber-revision")]
    | Annotated[DeleteRevisions, Tag("delete-revisions")]
    | Annotated[ApplyService, Tag("apply-service")]
    | Annotated[CreateRoleSets, Tag("create-rolesets")]
    | Annotated[UpdateRoleSets, Tag("update-rolesets")]
    | Annotated[DeleteRoleSets, Tag("delete-rolesets")]
    | Annotated[CreatePods, Tag("create-pods")]
    | Annotated[DeletePods, Tag("delete-pods")]
    | Annotated[StartRollout, Tag("start-rollout")]
    | Annotated[CloseRollout, Tag("close-rollout")]
    | Annotated[CloseObject, Tag("close-object")]
    | Annotated[PatchPods, Tag("patch-pods")]
    | Annotated[CompletePods, Tag("complete-pods")]
    | Annotated[NotePods, Tag("note-pods")]
    | Annotated[DrainPods, Tag("drain-pods")]
    | Annotated[RestorePods, Tag("restore-pods")]
    | Annotated[WarmUpPods, Tag("warm-up-pods")]
    | Annotated[FallBack, Tag("fall-back")]
    | Annotated[ApplyBudget, Tag("apply-budget")]
    | Annotated[DeleteBudgets, Tag("delete-budgets")]
    | Annotated[Adopt, Tag("adopt")]
    | Annotated[CreatePodSets, Tag("create-podsets")]
    | Annotated[UpdatePodSets, Tag("update-podsets")]
    | Annotated[DeletePodSets, Tag("delete-podsets")]
    | Annotated[CreateGroupPods, Tag("create-group-pods")]
    | Annotated[DeleteGroupPods, Tag("delete-group-pods")]
    | Annotated[ApplyPodGroup, Tag("apply-pod-group")]
    | Annotated[DeletePodGroups, Tag("delete-pod-groups")]
    | Annotated[CreateRayClusters, Tag("create-ray-clusters")]
    | Annotated[DeleteRayClusters, Tag("delete-ray-clusters")]
    | Annotated[CreateRayReplicaSet, Tag("create-ray-replica-set")]
    | Annotated[UpdateRayReplicaSets, Tag("update-ray-replica-sets")]
    | Annotated[DeleteRayReplicaSets, Tag("delete-ray-replica-sets")]
    | Annotated[NoteFleet, Tag("note-fleet")]
    | Annotated[RollBackFleet, Tag("roll-back-fleet")]
    | Annotated[UnknownStep, Tag("unknown")],
    Discriminator(_step_tag),
]


class View(Wire):
    """What a person sees of the object: the workflow's current details and search attributes.

    `details` is markdown (at most 18,000 bytes); `blocked` is a sentence, empty when nothing blocks.
    """

    phase: str = ""
    revision: str = ""
    blocked: str = ""
    model: str = ""
    details: str = ""


class Decision(Wire):
    """One answer of the planner, with the numbers it saw in `reason`.

    No steps: only what a person sees has changed. `generation` and `decided_at` are the fence of every disruptive step.
    """

    reason: str
    steps: list[Step] = Field(default_factory=list)
    view: View = Field(default_factory=View)
    generation: int = 0
    decided_at: datetime | None = None
    wake_at: datetime | None = None


class ObjectVersion(Wire):
    """An object that a step wrote: planning goes on when the cache has this version, a deletion, or a relist since."""

    kind: str
    name: str
    uid: str
    resource_version: str = ""
    deleted: bool = False


Cause = Literal[
    "quota", "invalid", "forbidden", "conflict", "name-conflict", "not-found", "unavailable", "unknown-step"
]


class Done(Wire):
    outcome: Literal["done"] = "done"
    step: str
    written: list[ObjectVersion] = Field(default_factory=list)


class Failed(Wire):
    """The API server refused the step; the planner backs off and shows `message`."""

    outcome: Literal["failed"] = "failed"
    step: str
    cause: Cause
    message: str
    written: list[ObjectVersion] = Field(default_factory=list)


class Stale(Wire):
    """A fence held the step back: the world moved on since the decision."""

    outcome: Literal["stale"] = "stale"
    step: str
    reason: str
    written: list[ObjectVersion] = Field(default_factory=list)


Outcome = Annotated[Done | Failed | Stale, Field(discriminator="outcome")]


class Failure(Wire):
    """A step type that failed last time: planned again from `retry_at` on, unless the generation changed."""

    step: str
    cause: Cause
    message: str
    count: int
    generation: int
    retry_at: datetime


class Logged(Wire):
    at: datetime
    reason: str
    result: str = ""


class Memory(Wire):
    """All that a workflow remembers: also its continue-as-new argument, so bounded.

    `number` counts decisions within the object's life; `written` is what the cache must have seen before the next plan;
    `shown` is the view last returned, `shown_at` when.
    """

    number: int = 0
    written: list[ObjectVersion] = Field(default_factory=list)
    failures: list[Failure] = Field(default_factory=list)
    recent: list[Logged] = Field(default_factory=list)
    shown: View = Field(default_factory=View)
    shown_at: datetime | None = None


class RolloutResult(Wire):
    """What a closed rollout tells: shown as the child's result in the Temporal UI.

    `blocked` are the sentences that named what blocked it, the last one last; `steps` counts what was carried out.
    """

    result: str
    revision: str
    message: str = ""
    decisions: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    blocked: list[str] = Field(default_factory=list)
    number: int = 0
    seconds: float = 0.0
    steps: dict[str, int] = Field(default_factory=dict)
