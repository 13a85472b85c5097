"""What a change would replace before anybody makes it: by role, how many pods, in which way and why.

    live object ─┐
    RoleSets ────┼─► forecast ─► one row a role: pods now, replaced, patched in place, created, deleted, why
    revisions ───┤
    wanted object┘   (absent: what the live one would still do)

Only whole ends are told, not the order in between: that is the budget's business, whose numbers stand in the notes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import Field

from crds import labels
from planning.differences import differences
from planning.edits import roles_of
from planning.fleet import desired_replicas as desired_rolesets
from planning.fleet import fleet_budget, is_in_place, revision_of
from planning.objects import (
    in_order,
    is_condition_true,
    is_deleting,
    name_of,
    observes_its_generation,
    spec_of,
    status_of,
)
from planning.progress import stands_failed
from planning.render import desired_replicas, template_fault
from planning.revisions import sync
from planning.role_changes import Placed, asks_in_place, changes, in_place_obstacle, pods_of, role_differences
from planning.sameness import alike
from planning.view import counted
from planning.wire import CreateRevision, Memory, Wire

Json = dict[str, Any]
RoleChange = Literal["unchanged", "changed", "added", "removed"]
_WITH_ROLESET: Final = "unchanged, but updateStrategy RollingUpdate replaces whole RoleSets"


class RoleForecast(Wire):
    """One role over all RoleSets. `pods` exist now; `replaced` are deleted and made anew, `in_place` are patched where
    they are, `created` and `deleted` come and go without a counterpart."""

    role: str
    change: RoleChange = "unchanged"
    pods: int = 0
    replaced: int = 0
    in_place: int = 0
    created: int = 0
    deleted: int = 0
    why: list[str] = Field(default_factory=list)

    @property
    def is_touched(self) -> bool:
        return bool(self.replaced or self.in_place or self.created or self.deleted)


class Forecast(Wire):
    """`revision` is the target (`number` its number once it is the newest), `stored` whether it exists already.

    `fault` says why the change would be refused or could not be carried out.
    """

    object: str
    revision: str = ""
    number: int = 0
    stored: bool = False
    rows: list[RoleForecast] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    fault: str = ""

    @property
    def pods_touched(self) -> int:
        return sum(row.replaced + row.in_place for row in self.rows)

    @property
    def sentence(self) -> str:
        """`replaces 4 pods of decode, patches 2 pods of prefill in place`, or that nothing changes."""
        said = []
        for verb, count, tail in (
            ("replaces", "replaced", ""),
            ("patches", "in_place", " in place"),
            ("creates", "created", ""),
            ("deletes", "deleted", ""),
        ):
            found = [(row.role, getattr(row, count)) for row in self.rows if getattr(row, count)]
            if found:
                parts = " and ".join(f"{counted(number, 'pod')} of {role}" for role, number in found)
                said.append(f"{verb} {parts}{tail}")
        return ", ".join(said) or "no pod is touched"


@dataclass(slots=True)
class _Tally:
    """A row while it is counted."""

    change: RoleChange = "unchanged"
    pods: int = 0
    replaced: int = 0
    in_place: int = 0
    created: int = 0
    deleted: int = 0
    why: list[str] = field(default_factory=list)

    def because(self, *reasons: str) -> None:
        self.why += [reason for reason in reasons if reason not in self.why]

    def row(self, role: str) -> RoleForecast:
        return RoleForecast(
            role=role, change=self.change, pods=self.pods, replaced=self.replaced, in_place=self.in_place,
            created=self.created, deleted=self.deleted, why=self.why,
        )  # fmt: skip


class _Rows:
    """The rows by role, in the order in which roles are met."""

    def __init__(self, *, values: bool) -> None:
        self._values = values
        self._found: dict[str, _Tally] = {}

    def of(self, role: str) -> _Tally:
        return self._found.setdefault(role, _Tally())

    def list(self) -> list[RoleForecast]:
        return [tally.row(role) for role, tally in self._found.items()]

    def new(self, roles: Iterable[Json], why: str) -> None:
        """A group that does not exist yet."""
        for role in roles:
            tally = self.of(role["name"])
            if count := pods_of(role, desired_replicas(role)):
                tally.created += count
                tally.because(why)

    def gone(self, group: Json, why: str) -> None:
        """A group that goes."""
        for role in roles_of(group):
            count = _existing(group, role)
            tally = self.of(role["name"])
            tally.pods += count
            tally.deleted += count
            tally.because(why)

    def compare(self, group: Json, wanted: Json, *, whole: bool) -> None:
        """A RoleSet that becomes `wanted`; `whole`: all of its pods are replaced, changed or not."""
        live = {role["name"]: role for role in roles_of(group)}
        for role in roles_of(wanted):
            self._role(group, live.pop(role["name"], None), wanted, role, whole=whole)
        for name, role in live.items():
            tally, count = self.of(name), _existing(group, role)
            tally.change = "removed"
            tally.pods += count
            tally.deleted += count
            tally.because("the role is not in the template")

    def _role(self, group: Json, live: Json | None, after: Json, wanted: Json, *, whole: bool) -> None:
        tally, target = self.of(wanted["name"]), pods_of(wanted, desired_replicas(wanted))
        if live is None:
            tally.change = "added"
            tally.created += target
            tally.because("the role is new")
            return
        have = _existing(group, live)
        tally.pods += have
        stay, more = min(have, target), max(0, target - have)
        if live.get("replicas") != wanted.get("replicas") or whole:
            tally.deleted += max(0, have - target)
            if desired_replicas(live) != desired_replicas(wanted):
                tally.because(f"replicas: {desired_replicas(live)} → {desired_replicas(wanted)}")
        if more:
            tally.created += more
            same = target == pods_of(live, desired_replicas(live))
            tally.because(*([f"{more} of {target} are missing"] if same else []))
        self._pods(tally, (group, live), (after, wanted), stay, whole=whole)

    def _pods(self, tally: _Tally, before: Placed, after: Placed, stay: int, *, whole: bool) -> None:
        lines = changes(before, after, values=self._values)
        if lines:
            tally.change = "changed"
            tally.because(*lines)
        if whole:
            tally.replaced += stay
            if not lines and stay:
                tally.because(_WITH_ROLESET)
        elif lines:
            obstacle = in_place_obstacle(before, after)
            if obstacle:
                tally.replaced += stay
                tally.because(*([f"not in place: {obstacle}"] if asks_in_place(after[1]) else []))
            else:
                tally.in_place += stay
        elif left := min(stay, _outdated(*before)):
            tally.change = "changed"
            tally.replaced += left
            tally.because(f"{left} not at the role's template yet")


def forecast(
    storm: Json, rolesets: Iterable[Json], revisions: Iterable[Json], wanted: Json | None = None, *,
    values: bool = False,
) -> Forecast:  # fmt: skip
    """What the StormService would do to become `wanted` (its live self when None) from the RoleSets that exist."""
    wanted = wanted if wanted is not None else storm
    template = spec_of(wanted).get("template") or {}
    revisions = list(revisions)
    target = sync(wanted, revisions, Memory())
    rows = _Rows(values=values)
    staying = [found for found in in_order(rolesets) if not is_deleting(found)]
    keep, surplus = _kept(staying, target.update, desired_rolesets(wanted))
    roles: Sequence[Json] = (template.get("spec") or {}).get("roles") or ()
    whole_groups = not is_in_place(wanted)
    for role in roles:
        rows.of(role["name"])
    outdated = [group for group in keep if revision_of(group) != target.update]
    same = alike([(revision_of(group), group) for group in outdated], revisions, template)
    outdated = [group for group in outdated if name_of(group) not in same]
    for group in keep:
        after = {**group, "spec": template.get("spec") or {}}
        rows.compare(group, after, whole=whole_groups and group in outdated)
    count, target_count = desired_rolesets(storm), desired_rolesets(wanted)
    scaled = f"spec.replicas: {count} → {target_count}" if count != target_count else ""
    for group in surplus:
        rows.gone(group, scaled or "its RoleSet is one more than asked for")
    for _ in range(target_count - len(staying)):
        rows.new(roles, scaled or "its RoleSet does not exist yet")
    return Forecast(
        object=f"stormservice/{name_of(storm)}",
        revision=target.update,
        number=target.number,
        stored=not isinstance(target.step, CreateRevision),
        rows=rows.list(),
        notes=[*_rewritten(len(same)), *_notes(storm, wanted, target.update, len(outdated), values=values)],
        fault=template_fault(wanted, template) or fleet_budget(wanted)[1],
    )


def _kept(groups: Sequence[Json], update: str, desired: int) -> tuple[list[Json], list[Json]]:
    """Those that a scale-in leaves, and those that it takes: outdated before updated, not ready before ready."""
    order = sorted(groups, key=lambda g: (revision_of(g) == update, is_condition_true(g, labels.READY)))
    surplus = order[: max(0, len(groups) - desired)]
    return [group for group in groups if group not in surplus], surplus


def _rewritten(same: int) -> list[str]:
    return [f"{counted(same, 'RoleSet')} rewritten where they are: their pods stay"] if same else []


def _notes(storm: Json, wanted: Json, target: str, outdated: int, *, values: bool) -> list[str]:
    budget, _ = fleet_budget(wanted)
    notes = []
    if outdated and is_in_place(wanted):
        at_once = max(1, budget.unavailable)
        notes.append(f"InPlaceUpdate rewrites {counted(outdated, 'RoleSet')}, at most {at_once} unavailable at a time")
    elif outdated:
        notes.append(
            f"RollingUpdate replaces {counted(outdated, 'RoleSet')} "
            f"(surge {budget.surge}, unavailable {budget.unavailable})"
        )
    notes += other_differences(storm, wanted, values=values)
    if stands_failed(wanted, target):
        notes.append(f"{target} was given up at its deadline: only another template or a resume rolls out again")
    if spec_of(wanted).get("paused"):
        notes.append("paused: no RoleSet is rolled out until it is resumed")
    return notes


def other_differences(storm: Json, wanted: Json, *, values: bool) -> list[str]:
    """Changed fields that are in no pod template."""
    return differences(_without_pods(spec_of(storm)), _without_pods(spec_of(wanted)), values=values)


def _without_pods(spec: Json) -> Json:
    found = {key: value for key, value in spec.items() if key != "roles"}
    if "template" in found and "containers" not in (found["template"].get("spec") or {}):
        inner = found["template"].get("spec") or {}
        found["template"] = found["template"] | {"spec": _without_pods(inner)}
    elif "template" in found:
        found.pop("template")
    if "roles" in spec:
        bare = ({k: v for k, v in role.items() if k not in ("template", "replicas")} for role in spec["roles"] or ())
        found["roles"] = list(bare)
    return found


def forecast_roleset(roleset: Json, wanted: Json | None = None, *, values: bool = False) -> Forecast:
    """The same for a stand-alone RoleSet."""
    rows = _Rows(values=values)
    rows.compare(roleset, wanted or roleset, whole=False)
    notes = other_differences(roleset, wanted or roleset, values=values)
    return Forecast(object=f"roleset/{name_of(roleset)}", stored=True, rows=rows.list(), notes=notes)


def forecast_podset(podset: Json, wanted: Json | None = None, *, values: bool = False) -> Forecast:
    """A PodSet is one group: a restart replaces all of its pods, any other change of its template none that exist."""
    after = wanted or podset
    have, size = int(status_of(podset).get("totalPods") or 0), int(spec_of(after).get("podGroupSize") or 0)
    lines = role_differences(spec_of(podset), spec_of(after), values=values)
    restarts = _restart_stamp(podset) != _restart_stamp(after)
    row = RoleForecast(
        role="group",
        change="changed" if lines else "unchanged",
        pods=have,
        replaced=min(have, size) if restarts else 0,
        created=max(0, size - have),
        deleted=max(0, have - size),
        why=lines,
    )
    notes = ["pods that exist keep their template until a restart"] if lines and not restarts else []
    return Forecast(object=f"podset/{name_of(podset)}", stored=True, rows=[row], notes=notes)


def _restart_stamp(podset: Json) -> str:
    metadata = (spec_of(podset).get("template") or {}).get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(labels.RESTARTED_AT, ""))


# What exists.


def _existing(group: Json, role: Json) -> int:
    """Pods that the group's role has as of its status, and by its spec as long as there is none."""
    for shown in status_of(group).get("roles") or ():
        if shown.get("name") == role["name"]:
            return pods_of(role, int(shown.get("replicas") or 0))
    return pods_of(role, desired_replicas(role))


def _outdated(group: Json, role: Json) -> int:
    if not observes_its_generation(group):
        return 0
    for shown in status_of(group).get("roles") or ():
        if shown.get("name") == role["name"]:
            return pods_of(role, max(0, int(shown.get("replicas") or 0) - int(shown.get("updatedReplicas") or 0)))
    return 0
