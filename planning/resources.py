"""What a StormService owns beside its RoleSets, as the API server serves it."""

from __future__ import annotations

from typing import Final

from planning.planner import Resource

CONTROLLER_REVISION: Final = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
SERVICE: Final = Resource("", "v1", "services", "Service")
BUDGET: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
