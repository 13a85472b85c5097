"""What a person sees of a StormService: its phase, and one page with a row a role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crds import labels
from planning.objects import is_condition_true, status_of
from planning.render import live_replicas
from planning.view import RoleRow, blocked_roles, model_of, page
from planning.wire import View

if TYPE_CHECKING:
    from planning.storm_pass import StormPass

Json = dict[str, Any]


def view(seen: StormPass) -> View:
    revision, blocked = seen.revisions.update, seen.findings.blocked
    roles: Sequence[Json] = (seen.template.get("spec") or {}).get("roles") or ()
    budget, ready = seen.fleet.budget, seen.counts.ready
    facts = [
        f"RoleSets: {budget.desired} desired, {seen.counts.replicas} exist, {ready} ready, "
        f"{len(seen.fleet.updated)} at the target (surge {budget.surge}, unavailable {budget.unavailable})"
    ]
    shown = phase(seen)
    details = page(
        phase=shown, revision=revision, rows=_rows(seen), wake_at=seen.wake_at, now=seen.now, facts=facts,
        timer=seen.timer,
    )  # fmt: skip
    return View(phase=shown, revision=revision, blocked=blocked, model=model_of(roles), details=details)


def phase(seen: StormPass) -> str:
    if seen.invalid:
        return "Invalid"
    if seen.verdict.failed and not seen.fleet.paused:
        return "RollingBack" if seen.back_to and seen.fleet.outdated else "Failed"
    if seen.fleet.outdated:
        return "Paused" if seen.fleet.paused else "RollingOut"
    if is_condition_true({"status": seen.status}, labels.READY):
        return "Ready"
    completed = status_of(seen.storm).get("completedRevision")
    if not completed:
        return "Creating"
    return "Scaling" if completed == seen.revisions.update else "RollingOut"


def _rows(seen: StormPass) -> list[RoleRow]:
    desired = {role: count * seen.fleet.budget.desired for role, count in live_replicas(seen.storm).items()}
    shown = {role["name"]: role for role in seen.role_statuses}
    blocked = blocked_roles(seen.rolesets)
    return [
        RoleRow(
            name,
            desired.get(name, 0),
            shown.get(name, {}).get("readyReplicas", 0),
            shown.get(name, {}).get("updatedReplicas", 0),
            blocked.get(name, ""),
        )
        for name in [*desired, *(other for other in shown if other not in desired)]
    ]
