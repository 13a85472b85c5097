"""What a person asks of a workflow is an edit of the object, so that GitOps sees it too.

`edit_object` makes the edit, `forecast_change` says beforehand what it would replace. The command line uses `edit` as
well: with Temporal or without, the same pure function decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import KubeConflict, KubeError, KubeRetry
from activities.events import EventRecorder
from activities.family import Family, read_family
from activities.kube import MERGE_PATCH, KubeClient, path_of
from activities.messages import EDIT_OBJECT, FORECAST_CHANGE, Edit, Edited, ForecastRequest, Foretold
from activities.metrics import Metrics
from activities.resources import STORM_SERVICES
from crds import labels
from planning.edits import COMMANDED, Order, Patch, Refused, Verb, applied, change_for, spoken
from planning.objects import format_time, name_of, spec_of, uid_of
from planning.planner import Json, Planner, Resource
from planning.wire import Ref

FIELD_MANAGER = "brixflow-rollout"
ATTEMPTS = 5
"""Somebody else may write the object between our read and our write; each attempt decides anew."""
EVENT_REASONS = {
    "pause": labels.EVENT_ROLLOUT_PAUSED,
    "resume": labels.EVENT_ROLLOUT_RESUMED,
    "undo": labels.EVENT_ROLLOUT_UNDONE,
    "restart": labels.EVENT_ROLLOUT_RESTARTED,
}


async def edit(client: KubeClient, resource: Resource, ref: Ref, order: Order) -> tuple[Json, str]:
    """Carry `order` out; the object afterwards and what was done. An empty `ref.uid` takes whatever has the name.

    Raises EditRefused, and KubeError when the API server does not take it.
    """
    for attempt in range(ATTEMPTS):
        family = await read_family(client, resource, ref.namespace, ref.name)
        if ref.uid and uid_of(family.live) != ref.uid:
            raise EditRefused(f"{ref.kind}/{ref.name} is another object than the one this was asked of")
        change = change_for(order, family.live, family.revisions)
        if isinstance(change, Refused):
            raise EditRefused(change.why)
        if not isinstance(change, Patch):
            return family.live, change.said
        try:
            return await _write(client, resource, family.live, change.body), change.said
        except KubeConflict:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


class EditRefused(Exception):  # noqa: N818 - an answer
    """The object cannot be edited so; the text names field, object and remedy."""


async def _write(client: KubeClient, resource: Resource, live: Json, body: Json) -> Json:
    path = path_of(resource, live["metadata"]["namespace"], name_of(live))
    params = {"fieldManager": FIELD_MANAGER}
    return await client.call("PATCH", path, body=body, params=params, content_type=MERGE_PATCH)


class Edits:
    """The activities `edit_object` and `forecast_change`."""

    def __init__(
        self, client: KubeClient, planners: Mapping[str, Planner], recorder: EventRecorder, metrics: Metrics
    ) -> None:
        self._client = client
        self._planners = planners
        self._recorder = recorder
        self._metrics = metrics

    @activity.defn(name=EDIT_OBJECT)
    async def edit_object(self, asked: Edit) -> Edited:
        """Edit the object; a refusal is an answer, an unreachable API server is retried."""
        order = order_of(asked)
        resource = self._planners[asked.ref.kind].resource
        try:
            live, did = await edit(self._client, resource, asked.ref, order)
        except KubeRetry as error:
            raise ApplicationError(str(error), type=type(error).__name__) from error
        except (EditRefused, KubeError) as refusal:
            self._metrics.commands.labels(asked.ref.kind, order.verb, "refused").inc()
            return Edited(paused=order.verb != "pause", message=str(refusal))
        self._metrics.commands.labels(asked.ref.kind, order.verb, "done").inc()
        if order.verb in EVENT_REASONS:
            self._recorder.record(live, "Normal", EVENT_REASONS[order.verb], f"by command: {did}")
        return Edited(paused=bool(spec_of(live).get("paused")), did=did)

    @activity.defn(name=FORECAST_CHANGE)
    async def forecast_change(self, asked: ForecastRequest) -> Foretold:
        """Read only: what the change would replace, and which revision an undo means."""
        resource = self._planners[asked.ref.kind].resource
        try:
            family = await read_family(self._client, resource, asked.ref.namespace, asked.ref.name)
        except KubeRetry as error:
            raise ApplicationError(str(error), type=type(error).__name__) from error
        except KubeError as error:
            return Foretold(refused=str(error))
        return foretell(family, asked.verb, asked.to_revision, asked.at)


def foretell(family: Family, verb: str, to_revision: int = 0, at: str = "", *, values: bool = False) -> Foretold:
    """What `verb` would replace; without one, what is left to do."""
    if family.live["kind"].lower() not in COMMANDED:
        return Foretold(refused=f"{spoken(family.live)} has no roles to foretell changes of")
    if not verb:
        return Foretold(forecast=family.forecast(values=values))
    at = at or format_time(datetime.now(UTC))
    change = change_for(Order(cast("Verb", verb), at, to_revision), family.live, family.revisions)
    if isinstance(change, Refused):
        return Foretold(refused=change.why)
    wanted = applied(family.live, change.body) if isinstance(change, Patch) else family.live
    found = family.forecast(wanted, values=values)
    named = found.revision if family.live["kind"] == STORM_SERVICES.kind else ""
    return Foretold(forecast=found, revision=named, said=change.said)


def order_of(asked: Edit) -> Order:
    """The order that a message carries; one of an earlier release says only whether to pause."""
    verb = asked.verb or ("pause" if asked.paused else "resume")
    return Order(cast("Verb", verb), asked.at, revision=asked.revision, roles=tuple(asked.roles))
