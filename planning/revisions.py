"""Which revision a StormService should be at, and the history of those it was at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from planning import names
from planning.backoff import step_key
from planning.objects import name_of, spec_of, status_of, uid_of
from planning.render import revision_template, role_revision
from planning.wire import CreateRevision, Memory, RenumberRevision, RoleRevision, Target

Json = dict[str, Any]
DEFAULT_HISTORY_LIMIT: Final = 10


@dataclass(frozen=True, slots=True)
class Revisions:
    """`update` is the target, `current` where the StormService comes from; `step` makes the target the newest."""

    current: str
    update: str
    number: int
    collision_count: int
    step: CreateRevision | RenumberRevision | None = None

    def aimed_at(self, revision: str, stored: Iterable[Json]) -> Revisions:
        """The same with a stored revision as the target: a rollback that the template knows nothing of."""
        number = next(number_of(found) for found in stored if name_of(found) == revision)
        return replace(self, update=revision, number=number)

    @property
    def exists(self) -> bool:
        """Whether the target is stored already."""
        return not isinstance(self.step, CreateRevision)


def in_number_order(revisions: Iterable[Json]) -> list[Json]:
    """By number, then age, then name."""
    return sorted(
        revisions,
        key=lambda found: (number_of(found), found["metadata"].get("creationTimestamp") or "", name_of(found)),
    )


def number_of(revision: Json) -> int:
    return int(revision.get("revision") or 0)


def next_number(revisions: Iterable[Json]) -> int:
    return 1 + max((number_of(found) for found in revisions), default=0)


def sync(storm: Json, stored: Iterable[Json], memory: Memory) -> Revisions:
    """The target revision of the live template.

    An equal revision is used again, raised to the next number when it is not the newest (a rollback); else a new one is
    made. Equality is that of the full digest, so a role's replicas make no revision.
    """
    known = in_number_order(stored)
    template = spec_of(storm).get("template") or {}
    digest = names.template_digest(template)
    equal = next((found for found in reversed(known) if _digest_of(found) == digest), None)
    if equal is not None:
        return _reuse(storm, known, equal)
    shown = status_of(storm)
    collisions, name_hash = _free_hash(storm, known, digest, memory)
    name = names.revision_name(name_of(storm), name_hash)
    step = CreateRevision(
        name=name,
        revision=next_number(known),
        hash=name_hash,
        digest=digest,
        role_revisions=carried_forward(template, known),
    )
    return Revisions(_current(shown, known, name), name, step.revision, collisions, step)


def _digest_of(revision: Json) -> str:
    return names.template_digest(revision_template(revision))


def _current(shown: Json, known: Sequence[Json], update: str) -> str:
    """The published current revision while it is still stored, else the target."""
    current = str(shown.get("currentRevision") or "")
    return current if any(name_of(found) == current for found in known) else update


def _reuse(storm: Json, known: Sequence[Json], equal: Json) -> Revisions:
    name, number = name_of(equal), number_of(equal)
    collisions = int(status_of(storm).get("collisionCount") or 0)
    current = _current(status_of(storm), known, name)
    if equal is known[-1]:
        return Revisions(current, name, number, collisions)
    target = Target(name=name, uid=uid_of(equal), resource_version=str(equal["metadata"].get("resourceVersion") or ""))
    number = next_number(known)
    return Revisions(current, name, number, collisions, RenumberRevision(target=target, revision=number))


def _free_hash(storm: Json, known: Sequence[Json], digest: str, memory: Memory) -> tuple[int, str]:
    """Collision count and hash of a name that neither a revision of ours nor a stranger has."""
    collisions = int(status_of(storm).get("collisionCount") or 0)
    clashes = {failure.step for failure in memory.failures if failure.cause == "name-conflict"}
    taken = {name_of(found) for found in known}
    while True:
        found = names.short_hash(digest, collisions)
        name = names.revision_name(name_of(storm), found)
        probe = CreateRevision(name=name, revision=0, hash=found, digest=digest)
        if name not in taken and step_key(probe) not in clashes:
            return collisions, found
        collisions += 1


def carried_forward(template: Json, known: Sequence[Json]) -> dict[str, RoleRevision]:
    """For each role whose pod template a stored revision has already: the revision that brought it."""
    found: dict[str, RoleRevision] = {}
    for role in (template.get("spec") or {}).get("roles") or ():
        wanted = names.role_digest(role)
        for revision in reversed(known):
            if _role_digests(revision).get(role["name"]) == wanted:
                number, name = role_revision(revision, role["name"])
                found[role["name"]] = RoleRevision(number=number, name=name)
                break
    return found


def _role_digests(revision: Json) -> dict[str, str]:
    roles = (revision_template(revision).get("spec") or {}).get("roles") or ()
    return {role["name"]: names.role_digest(role) for role in roles}


def superfluous(storm: Json, stored: Iterable[Json], live: Iterable[str]) -> list[Target]:
    """Revisions beyond the history limit, oldest first; those in `live` never count."""
    limit = spec_of(storm).get("revisionHistoryLimit")
    keep = DEFAULT_HISTORY_LIMIT if limit is None else max(0, int(limit))
    names_in_use = set(live)
    history = [found for found in in_number_order(stored) if name_of(found) not in names_in_use]
    return [Target(name=name_of(found), uid=uid_of(found)) for found in history[: max(0, len(history) - keep)]]
