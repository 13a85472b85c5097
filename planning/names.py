"""Names, hashes and digests: how objects are called, and when two templates count as the same.

A digest decides equality; the six-character hash only makes names and labels. What the API server adds (nulls, creation
times, defaults of our own kinds and of pod templates) takes no part, so that a newer release does not roll every pod.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson

from crds.kubernetes.defaults import without_defaults

Json = dict[str, Any]

# No vowels and no digits that read as letters: a hash never spells a word.
ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
HASH_LENGTH: Final = 6
SUFFIX_LENGTH: Final = 5
NAME_LIMIT: Final = 63
PREFIX_LIMIT: Final = NAME_LIMIT - SUFFIX_LENGTH
REVISION_PREFIX_LIMIT: Final = 223

_ROLESET_DEFAULTS: Final[Json] = {"updateStrategy": "Sequential"}
_ROLE_DEFAULTS: Final[Json] = {"stateful": False, "podGroupSize": 1, "updateStrategy": {"type": "Recreate"}}


def shorten(name: str, *, keep_prefix: bool, generate: bool) -> str:
    """`name` cut to 63 characters, or 58 when a suffix follows; a name of exactly the limit is cut as well.

    Keeps the front, or the first character and the end.
    """
    limit = PREFIX_LIMIT if generate else NAME_LIMIT
    if len(name) < limit:
        return name
    return name[:limit] if keep_prefix else name[0] + name[-(limit - 1) :]


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON: keys sorted, nulls and creation times left out."""
    return hashlib.sha256(orjson.dumps(_canonical(value), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(part) for key, part in value.items() if part is not None and key != "creationTimestamp"}
    return [_canonical(part) for part in value] if isinstance(value, list) else value


def _letters(text: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    found = []
    for _ in range(length):
        number, place = divmod(number, len(ALPHABET))
        found.append(ALPHABET[place])
    return "".join(found)


def short_hash(of: str, collisions: int = 0) -> str:
    """Six characters of `[a-z0-9]`; the collision count comes first in the input, so each gives quite another hash."""
    return _letters(f"{collisions}/{of}", HASH_LENGTH)


def suffix(parent_uid: str, run_id: str, decision_number: int, index: int) -> str:
    """Five characters for a generated name: the same for a repeated attempt, another for every other create."""
    return _letters(f"{parent_uid}/{run_id}/{decision_number}/{index}", SUFFIX_LENGTH)


def role_digest(role: Json) -> str:
    """Identity of a role's pods: its pod template, and for groups of several pods their number."""
    template = without_defaults(role.get("template") or {})
    size = group_size(role)
    return digest({"template": template, "podGroupSize": size} if size > 1 else template)


def role_hash(role: Json) -> str:
    """Value of the label `role-template-hash`."""
    return short_hash(role_digest(role))


def group_size(role: Json) -> int:
    """How many pods one replica of the role has; more than one means that it is a PodSet."""
    return int(role.get("podGroupSize") or 1)


def template_digest(template: Json) -> str:
    """Identity of a StormService's template: all of it but `roles[].replicas`, which only scale."""
    spec = template.get("spec") or {}
    kept = {key: value for key, value in spec.items() if key != "roles" and value != _ROLESET_DEFAULTS.get(key)}
    roles = [_role_identity(role) for role in spec.get("roles") or ()]
    rest = {key: value for key, value in template.items() if key not in ("spec", "$patch")}
    return digest({**rest, "spec": {**kept, "roles": roles}})


def _role_identity(role: Json) -> Json:
    kept = {
        key: value
        for key, value in role.items()
        if key != "replicas" and value not in (_ROLE_DEFAULTS.get(key), {})
    }  # fmt: skip
    return kept | {"template": without_defaults(kept["template"])} if kept.get("template") else kept


def revision_name(storm_name: str, revision_hash: str) -> str:
    return f"{storm_name[:REVISION_PREFIX_LIMIT]}-{revision_hash}"


def roleset_name(storm_name: str, end: str) -> str:
    return shorten(f"{storm_name}-roleset-", keep_prefix=True, generate=True) + end


def stateless_pod_name(roleset: str, role: str, end: str) -> str:
    return shorten(f"{roleset}-{role}-", keep_prefix=False, generate=True) + end


def stateful_pod_name(roleset: str, role: str, template_hash: str, slot: int) -> str:
    return shorten(f"{roleset}-{role}-{template_hash}-{slot}", keep_prefix=False, generate=False)


def podset_name(roleset: str, role: str, template_hash: str, slot: int) -> str:
    return stateful_pod_name(roleset, role, template_hash, slot)


def group_pod_name(podset: str, index: int) -> str:
    return shorten(f"{podset}-{index}", keep_prefix=False, generate=False)
