"""The kinds that the operator knows. A new kind is a planner and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from planning.planner import Planner
from planning.podautoscaler import PodAutoscalerPlanner
from planning.podset import PodSetPlanner
from planning.ray_fleet import RayFleetPlanner
from planning.ray_replicaset import RayReplicaSetPlanner
from planning.roleset import RoleSetPlanner
from planning.stormservice import StormServicePlanner

PLANNERS: Final[Mapping[str, Planner]] = MappingProxyType(
    {
        planner.resource.key: planner
        for planner in (
            StormServicePlanner(),
            RoleSetPlanner(),
            PodSetPlanner(),
            PodAutoscalerPlanner(),
            RayFleetPlanner(),
            RayReplicaSetPlanner(),
        )
    }
)
