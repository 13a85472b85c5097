"""Steps on the pods of a RoleSet's roles (the rules of `planning.wire` hold)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planning.wire_base import Target, Wire


class CreatePods(Wire):
    """Create pods of one role: `slots` for stateful roles, else `count` of them.

    `revision` is the ControllerRevision whose template they get; empty: the one that the RoleSet has.
    """

    type: Literal["create-pods"] = "create-pods"
    role: str
    template_hash: str
    count: int = 0
    slots: list[int] = Field(default_factory=list)
    note: str = ""
    revision: str = ""


class DeletePods(Wire):
    """`grace_seconds`: longer than the pods' own grace, so that running requests end; 0 leaves the grace as it is."""

    type: Literal["delete-pods"] = "delete-pods"
    role: str
    targets: list[Target]
    disruptive: bool = True
    note: str = ""
    grace_seconds: int = 0


class PatchPods(Wire):
    """Give running pods the images of the role's template: an in-place update begins."""

    type: Literal["patch-pods"] = "patch-pods"
    role: str
    template_hash: str
    targets: list[Target]
    disruptive: bool = True
    note: str = ""


class CompletePods(Wire):
    """The in-place update of these pods has come to its end: label them as updated and open their gate."""

    type: Literal["complete-pods"] = "complete-pods"
    role: str
    template_hash: str
    targets: list[Target]


class NotePods(Wire):
    """Write on each pod why its in-place update has not come to an end: one reason a target."""

    type: Literal["note-pods"] = "note-pods"
    role: str
    targets: list[Target]
    reasons: list[str]


class DrainPods(Wire):
    """Close the gate of ready pods, so that no new request reaches them; what follows comes `seconds` later."""

    type: Literal["drain-pods"] = "drain-pods"
    role: str
    targets: list[Target]
    seconds: int
    note: str = ""


class RestorePods(Wire):
    """Open the gate of pods that nothing is going to happen to."""

    type: Literal["restore-pods"] = "restore-pods"
    role: str
    targets: list[Target]


class WarmUpPods(Wire):
    """Have each pod generate its first token; a long step, whose result stands on the pod."""

    type: Literal["warm-up-pods"] = "warm-up-pods"
    role: str
    template_hash: str
    targets: list[Target]


class FallBack(Wire):
    """Say once a revision that the role's pods are replaced instead of updated in place."""

    type: Literal["fall-back"] = "fall-back"
    role: str
    template_hash: str
    message: str
