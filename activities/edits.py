"""`edit_object`: what a person asks of a workflow is an edit of the object, so that GitOps sees it too."""

from __future__ import annotations

from collections.abc import Mapping

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import KubeError, KubeRetry
from activities.kube import KubeClient
from activities.messages import EDIT_OBJECT, Edit, Edited
from planning.planner import Planner


class Edits:
    """The activity `edit_object`."""

    def __init__(self, client: KubeClient, planners: Mapping[str, Planner]) -> None:
        self._client = client
        self._planners = planners

    @activity.defn(name=EDIT_OBJECT)
    async def edit_object(self, edit: Edit) -> Edited:
        """Set `spec.paused`; a refusal is an answer, an unreachable API server is retried."""
        resource = self._planners[edit.ref.kind].resource
        body = {"metadata": {"uid": edit.ref.uid}, "spec": {"paused": edit.paused}}
        try:
            answer = await self._client.patch(resource, edit.ref.namespace, edit.ref.name, body)
        except KubeRetry as error:
            raise ApplicationError(str(error), type=type(error).__name__) from error
        except KubeError as error:
            return Edited(paused=not edit.paused, message=str(error))
        if bool(answer["spec"].get("paused")) != edit.paused:
            return Edited(paused=not edit.paused, message=f"{resource.kind} has no field spec.paused")
        return Edited(paused=edit.paused)
