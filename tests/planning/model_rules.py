"""What the model cluster's rules are made of: numbers of a budget, and small readers of objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from crds import labels

Json = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACE = "default"
GRACE = timedelta(seconds=30)
OVERDUE = timedelta(minutes=2)
STORM = "stormservice"


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Room:
    """N, surge (rounded up) and unavailable (rounded down) of a role or a StormService; both 0 mean one unavailable."""

    wanted: int
    surge: int
    unavailable: int

    @classmethod
    def of(cls, spec: Json, wanted: int) -> Room:
        strategy = spec.get("updateStrategy") or {}
        surge = share(strategy.get("maxSurge"), wanted, up=True)
        unavailable = share(strategy.get("maxUnavailable"), wanted, up=False)
        if not surge and not unavailable:
            unavailable = 1
        return cls(wanted, surge if wanted else 0, min(unavailable, wanted))

    @property
    def floor(self) -> int:
        return self.wanted - self.unavailable

    @property
    def most(self) -> int:
        return self.wanted + self.surge


def share(value: Any, wanted: int, *, up: bool) -> int:
    """A number as it is, "25%" as that part of N."""
    if not isinstance(value, str):
        return int(value or 0)
    whole, rest = divmod(int(value.rstrip("%")) * wanted, 100)
    return whole + (1 if up and rest else 0)


class Broken(AssertionError):
    """A step broke a rule of the table of `tests.planning.model`."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)


def is_leaving(found: Json) -> bool:
    return "deletionTimestamp" in found["metadata"]


def replicas_of(spec: Json) -> int:
    value = spec.get("replicas")
    return 1 if value is None else int(value)


def revision_of(roleset: Json) -> str:
    return str(roleset["metadata"]["labels"].get(labels.STORM_SERVICE_REVISION, ""))


def size_of(role: Json) -> int:
    return int(role.get("podGroupSize") or 1)


def shapes_of(spec: Json) -> dict[str, tuple[Json, int, bool]]:
    """What makes a RoleSet's pods what they are, by role: template, group size, whether they have slots."""
    return {role["name"]: (role["template"], size_of(role), bool(role.get("stateful"))) for role in spec["roles"]}


def role_of(roleset: Json, name: str) -> Json:
    return next(role for role in roleset["spec"]["roles"] if role["name"] == name)


def slot_of(pod: Json) -> int | None:
    text = pod["metadata"]["annotations"].get(labels.ROLE_REPLICA_INDEX)
    return int(text) if text is not None else None


def without_replicas(template: Json) -> Json:
    roles = [{key: value for key, value in role.items() if key != "replicas"} for role in template["spec"]["roles"]]
    return template | {"spec": template["spec"] | {"roles": roles}}


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if not key.startswith("last")}
    return [without_times(each) for each in value] if isinstance(value, list) else value
