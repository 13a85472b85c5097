"""Steps on RayClusters and on the replica sets of their fleets (rules of `planning.wire`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planning.wire_base import Target, Told, Wire


class CreateRayClusters(Wire):
    """Create so many RayClusters of the replica set's template."""

    type: Literal["create-ray-clusters"] = "create-ray-clusters"
    count: int
    note: str = ""


class DeleteRayClusters(Wire):
    """`disruptive`: a ready one is among them, so the fences apply."""

    type: Literal["delete-ray-clusters"] = "delete-ray-clusters"
    targets: list[Target]
    disruptive: bool = True
    note: str = ""


class CreateRayReplicaSet(Wire):
    """Create the replica set `name` of the fleet's template, whose digest is `digest`."""

    type: Literal["create-ray-replica-set"] = "create-ray-replica-set"
    name: str
    digest: str
    hash: str
    replicas: int
    revision: int
    desired: int
    most: int
    note: str = ""
    tells: list[Told] = Field(default_factory=list)


class RaySize(Wire):
    """What a replica set is to say; `revision` and `history` are written where they are set."""

    target: Target
    replicas: int
    desired: int
    most: int
    revision: str = ""
    history: str = ""


class UpdateRayReplicaSets(Wire):
    """Size replica sets and note the fleet's numbers on them; `copies`: bring the fleet's annotations along."""

    type: Literal["update-ray-replica-sets"] = "update-ray-replica-sets"
    sizes: list[RaySize]
    disruptive: bool = True
    copies: bool = False
    note: str = ""
    tells: list[Told] = Field(default_factory=list)


class DeleteRayReplicaSets(Wire):
    """Old replica sets that have no clusters."""

    type: Literal["delete-ray-replica-sets"] = "delete-ray-replica-sets"
    targets: list[Target]
    note: str = ""


class NoteFleet(Wire):
    """Show the revision on the fleet."""

    type: Literal["note-fleet"] = "note-fleet"
    revision: str


class RollBackFleet(Wire):
    """Write the template of replica set `source` back into the fleet, or only drop the request for it."""

    type: Literal["roll-back-fleet"] = "roll-back-fleet"
    source: Target | None = None
    note: str = ""
    tells: list[Told] = Field(default_factory=list)
