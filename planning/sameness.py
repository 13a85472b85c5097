"""Whether two RoleSet specs make the same pods: then one becomes the other in place, and nothing restarts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from planning import names
from planning.objects import name_of, spec_of
from planning.render import revision_template

Json = dict[str, Any]
Pods = tuple[Mapping[str, tuple[str, bool]], Any]


def pods_of(spec: Json) -> Pods:
    """By role what its pods are made of and whether they have slots; and the policy that their places must follow."""
    roles = {role["name"]: (names.role_digest(role), bool(role.get("stateful"))) for role in spec.get("roles") or ()}
    policy = spec.get("topologyPolicy") or {}
    return roles, policy if policy.get("rollOnChange") else None


def alike(rolesets: Iterable[tuple[str, Json]], stored: Iterable[Json], target: Json) -> set[str]:
    """Names of those among `rolesets` (revision, object) whose pods are those of the template `target`.

    The revision rules most of them out without a look at each; what its RoleSet itself says decides.
    """
    wanted = pods_of(target.get("spec") or {})
    revisions = {name_of(found): found for found in stored}
    same: dict[str, bool] = {}
    found = set()
    for revision, roleset in rolesets:
        if revision not in same:
            kept = revisions.get(revision)
            same[revision] = kept is not None and pods_of(revision_template(kept).get("spec") or {}) == wanted
        if same[revision] and pods_of(spec_of(roleset)) == wanted:
            found.add(name_of(roleset))
    return found
