"""What a person asks of a rollout, as an edit of the object: pause, resume, undo, restart.

Pure, so that the workflow's activity and the command line do exactly the same. Each edit is absolute (a flag, a stamp,
a revision's template), so that to do it twice is to do it once. Replicas stay as they are at every level.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from crds import labels
from planning import names
from planning.objects import annotations_of, generation_of, is_deleting, name_of, spec_of, status_of
from planning.render import live_replicas, merge_patch, revision_template
from planning.revisions import in_number_order, number_of

Json = dict[str, Any]
Verb = Literal["pause", "resume", "undo", "restart"]
STORM_SERVICE: Final = "StormService"
COMMANDED: Final = ("stormservice", "roleset", "podset")
RAY_FLEET: Final = "rayclusterfleet"


@dataclass(frozen=True, slots=True)
class Order:
    """One command. `at` stamps a restart or a retry; `revision` (a name) goes before `to_revision` (a number, 0: the
    previous one); `roles` limits a restart, empty means all."""

    verb: Verb
    at: str = ""
    to_revision: int = 0
    revision: str = ""
    roles: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Patch:
    """A JSON merge patch with the resourceVersion it was made for, and what it does in words."""

    body: Json = field(repr=False)
    said: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The object says so already."""

    said: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Cannot be done; names the field, the object and the remedy."""

    why: str


Change = Patch | Unchanged | Refused


def change_for(order: Order, live: Json, revisions: Sequence[Json] = ()) -> Change:
    """What `order` makes of `live`; `revisions` are its ControllerRevisions."""
    if is_deleting(live):
        return Refused(f"{spoken(live)} is being deleted")
    if fault := fault_of(order.verb, live["kind"].lower(), live):
        return Refused(fault)
    match order.verb:
        case "pause":
            return _pause(live)
        case "resume":
            return _resume(live, order.at)
        case "undo":
            return _undo(live, revisions, order)
        case "restart":
            return _restart(live, order)


def spoken(live: Json) -> str:
    """`stormservice/llama`."""
    return f"{live['kind'].lower()}/{name_of(live)}"


def fault_of(verb: str, kind: str, live: Json | None = None) -> str:
    """Why objects of this kind, or this one, cannot be told to `verb`; empty when they can."""
    owner = _storm_of(live) if live is not None else ""
    said = spoken(live) if live is not None else f"a {kind}"
    if owner and verb in ("restart", "undo"):
        return f"{said} belongs to stormservice/{owner}, which would put it back: {verb} stormservice/{owner} instead"
    if kind == STORM_SERVICE.lower():
        return ""
    if kind not in COMMANDED:
        return _elsewhere(verb, kind, said)
    hint = f": use stormservice/{owner}" if owner else ""
    if verb in ("pause", "resume"):
        return f"{said} has no field spec.paused; only a StormService can {verb}{hint}"
    if verb == "undo":
        return f"{said} keeps no revisions; only a StormService can be undone{hint or ', apply the older manifest'}"
    return ""


def _elsewhere(verb: str, kind: str, said: str) -> str:
    """The same for kinds that have no roles."""
    if kind != RAY_FLEET:
        return f"{said} has no rollout to {verb}"
    if verb == "undo":
        return f"{said} is undone by its annotation {labels.FLEET_ROLLBACK_TO}: the revision's number, or 0"
    return f"{said} has no pods of its own: edit its template to {verb}" if verb == "restart" else ""


def _storm_of(live: Json) -> str:
    for owner in live["metadata"].get("ownerReferences") or ():
        if owner.get("controller") and owner.get("kind") in (STORM_SERVICE, "RoleSet"):
            return str(owner["name"]) if owner["kind"] == STORM_SERVICE else _by_label(live)
    return ""


def _by_label(live: Json) -> str:
    return str((live["metadata"].get("labels") or {}).get(labels.STORM_SERVICE_NAME, ""))


def _pause(live: Json) -> Change:
    if spec_of(live).get("paused"):
        return Unchanged(f"{spoken(live)} is paused already")
    return Patch({**_precondition(live), "spec": {"paused": True}}, "paused")


def _resume(live: Json, at: str) -> Change:
    """Also after a passed deadline: the stamp gives the failed revision a new clock."""
    paused = bool(spec_of(live).get("paused"))
    failed = status_of(live).get("failedRevision")
    if failed and annotations_of(live).get(labels.RETRY_AT) == at:
        failed = None
    if not paused and not failed:
        return Unchanged(f"{spoken(live)} is not paused")
    body = _precondition(live)
    if failed:
        body["metadata"]["annotations"] = {labels.RETRY_AT: at}
    if paused:
        body["spec"] = {"paused": False}
    return Patch(body, f"resumed: {failed} is tried again" if failed else "resumed")


def _precondition(live: Json) -> Json:
    metadata = live["metadata"]
    return {"metadata": {"uid": metadata.get("uid"), "resourceVersion": metadata.get("resourceVersion")}}


# Undo.


def _undo(live: Json, revisions: Sequence[Json], order: Order) -> Change:
    found = revision_for(live, revisions, order)
    if isinstance(found, Refused):
        return found
    said = f"revision {number_of(found)} ({name_of(found)})"
    template = spec_of(live).get("template") or {}
    wanted = with_replicas(revision_template(found), live_replicas(live))
    if names.template_digest(template) == names.template_digest(wanted):
        return Unchanged(f"{spoken(live)} has the template of {said} already")
    body = _precondition(live)
    body["spec"] = {"template": merge_patch(template, wanted)}
    cause, noted = annotations_of(found).get(labels.CHANGE_CAUSE), annotations_of(live).get(labels.CHANGE_CAUSE)
    if cause != noted:
        body["metadata"]["annotations"] = {labels.CHANGE_CAUSE: cause}
    waits = "; it is paused: resume it to roll out" if spec_of(live).get("paused") else ""
    return Patch(body, f"undone: template of {said}{waits}")


def with_replicas(template: Json, replicas: dict[str, int]) -> Json:
    """The template with the live number of replicas in each role that is live."""
    found = deepcopy(template)
    for role in (found.get("spec") or {}).get("roles") or ():
        if role["name"] in replicas:
            role["replicas"] = replicas[role["name"]]
    return found


def revision_for(live: Json, revisions: Sequence[Json], order: Order) -> Json | Refused:
    """The revision an undo means: by name, by number, else the one that `previous_revision` finds."""
    known = in_number_order(revisions)
    if order.revision:
        named = [found for found in known if name_of(found) == order.revision]
        return named[0] if named else Refused(f"{spoken(live)} has no revision {order.revision}; {_listed(known)}")
    if order.to_revision < 0:
        return Refused(f"toRevision {order.to_revision} is below zero; 0 is the previous revision")
    if order.to_revision:
        numbered = [found for found in known if number_of(found) == order.to_revision]
        if numbered:
            return numbered[-1]
        return Refused(f"{spoken(live)} has no revision {order.to_revision}; {_listed(known)}")
    previous = previous_revision(live, known)
    return previous or Refused(f"{spoken(live)} has no previous revision; {_listed(known)}")


def _listed(known: Sequence[Json]) -> str:
    numbers = ", ".join(str(number_of(found)) for found in known)
    return f"there are {numbers} (see rollout history)" if numbers else "none is stored yet"


def previous_revision(live: Json, revisions: Sequence[Json]) -> Json | None:
    """Where an undo goes: the last completed revision while the live template is another, else the newest other one."""
    digest = names.template_digest(spec_of(live).get("template") or {})
    others = [
        found for found in in_number_order(revisions) if names.template_digest(revision_template(found)) != digest
    ]
    completed = status_of(live).get("completedRevision")
    for found in others:
        if name_of(found) == completed:
            return found
    return others[-1] if others else None


# Restart.


def _restart(live: Json, order: Order) -> Change:
    spec = spec_of(live)
    known = [role["name"] for role in roles_of(live)]
    if unknown := sorted(set(order.roles) - set(known)):
        return Refused(f"{spoken(live)} has no role {', '.join(unknown)}; there are {', '.join(known) or 'none'}")
    wanted = deepcopy(spec)
    for template in _pod_templates(live["kind"], wanted, order.roles):
        metadata = template.setdefault("metadata", {})
        metadata["annotations"] = (metadata.get("annotations") or {}) | {labels.RESTARTED_AT: order.at}
    patch = merge_patch(spec, wanted)
    if not patch:
        return Unchanged(f"{spoken(live)} was restarted at {order.at} already")
    waits = "; it is paused: resume it to roll out" if spec.get("paused") else ""
    which = f" role {', '.join(order.roles)}" if order.roles else ""
    return Patch({**_precondition(live), "spec": patch}, f"restarted{which}{waits}")


def roles_of(live: Json) -> Sequence[Json]:
    """The roles of a StormService or RoleSet; a PodSet has none."""
    spec = spec_of(live)
    if live["kind"] == STORM_SERVICE:
        spec = (spec.get("template") or {}).get("spec") or {}
    return spec.get("roles") or ()


def _pod_templates(kind: str, spec: Json, roles: Sequence[str]) -> list[Json]:
    if kind == "PodSet":
        return [spec["template"]] if spec.get("template") else []
    inner = (spec.get("template") or {}).get("spec") or {} if kind == STORM_SERVICE else spec
    return [
        role["template"]
        for role in inner.get("roles") or ()
        if role.get("template") and (not roles or role["name"] in roles)
    ]


def applied(live: Json, body: Json) -> Json:
    """`live` with a JSON merge patch carried out and its generation raised: the object as it would be."""
    found: Json = _merged(live, {key: value for key, value in body.items() if key != "metadata"})
    found["metadata"] = {**live["metadata"], "generation": generation_of(live) + 1}
    return found


def _merged(live: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    found = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key), value)
    return found
