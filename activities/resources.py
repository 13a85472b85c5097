"""The resources that steps write, as the API server serves them."""

from __future__ import annotations

from crds import labels
from planning.planner import Resource
from planning.resources import BUDGET

STORM_SERVICES = Resource(labels.ORCHESTRATION_GROUP, labels.VERSION, "stormservices", "StormService")
ROLESETS = Resource(labels.ORCHESTRATION_GROUP, labels.VERSION, "rolesets", "RoleSet")
PODSETS = Resource(labels.ORCHESTRATION_GROUP, labels.VERSION, "podsets", "PodSet")
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
BUDGETS = BUDGET
