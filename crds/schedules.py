"""A PodAutoscaler's schedules: what is wrong with them, which bounds hold at a moment, and when that changes next.

A window is a part of one day in a time zone, its end exclusive. Times are built from the wall clock, so that a window
keeps its hours on the days when the clock is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crds.podautoscaler import SCHEDULE_NAME_PATTERN, TIME_OF_DAY_PATTERN

Json = dict[str, Any]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DEFAULT_MIN_REPLICAS = 1
_TIME = re.compile(TIME_OF_DAY_PATTERN.removesuffix("$") + r"\Z")
_NAME = re.compile(SCHEDULE_NAME_PATTERN.removesuffix("$") + r"\Z")


@dataclass(frozen=True, slots=True)
class Bounds:
    """`schedule` is the name of the active one, empty for the base bounds."""

    least: int
    most: int
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class Complaint:
    """`place` is the index in the list, or None for the list as a whole; `field` may be empty."""

    place: int | None
    field: str
    detail: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Window:
    """One schedule, read: minutes of the day and the weekdays on which they count."""

    name: str
    start: int
    end: int
    days: frozenset[int]
    least: int
    most: int

    def holds(self, moment: datetime) -> bool:
        return moment.weekday() in self.days and self.start <= moment.hour * 60 + moment.minute < self.end

    def meets(self, other: Window) -> bool:
        return bool(self.days & other.days) and self.start < other.end and other.start < self.end


def base_bounds(spec: Json) -> Bounds:
    least = spec.get("minReplicas")
    return Bounds(DEFAULT_MIN_REPLICAS if least is None else least, spec["maxReplicas"])


def bounds_at(spec: Json, now: datetime) -> Bounds:
    """The bounds that hold at `now` (timezone aware). `spec` is without complaints."""
    local = now.astimezone(zone_of(spec))
    active = next((window for window in windows(spec) if window.holds(local)), None)
    return Bounds(active.least, active.most, active.name) if active else base_bounds(spec)


def next_change(spec: Json, now: datetime) -> datetime | None:
    """The next start or end of a window after `now`, in UTC; None without schedules."""
    zone = zone_of(spec)
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    moments = [
        _at(today, day, minute)
        for day in range(8)
        for window in windows(spec)
        if (today + timedelta(days=day)).weekday() in window.days
        for minute in (window.start, window.end)
    ]
    return min((moment for moment in moments if moment > now), default=None)


def _at(today: datetime, day: int, minute: int) -> datetime:
    wall = (today + timedelta(days=day)).replace(hour=minute // 60, minute=minute % 60)
    return wall.astimezone(UTC)


def zone_of(spec: Json) -> ZoneInfo:
    names = [schedule.get("timezone") for schedule in spec.get("schedules") or ()]
    return ZoneInfo(next((name for name in names if name), "UTC"))


def windows(spec: Json) -> list[Window]:
    base = base_bounds(spec)
    return [_window(schedule, base) for schedule in spec.get("schedules") or ()]


def _window(schedule: Json, base: Bounds) -> Window:
    least, most = schedule.get("minReplicas"), schedule.get("maxReplicas")
    return Window(
        name=schedule["name"],
        start=_minutes(schedule["startTime"]),
        end=_minutes(schedule["endTime"]),
        days=_days(schedule),
        least=base.least if least is None else least,
        most=base.most if most is None else most,
    )


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _days(schedule: Json) -> frozenset[int]:
    named = schedule.get("daysOfWeek")
    return frozenset(WEEKDAYS.index(day.lower()) for day in named) if named else frozenset(range(7))


def complaints(schedules: Sequence[Json], base: Bounds) -> Iterator[Complaint]:
    """Everything that is wrong, schedule by schedule and then between them."""
    if not schedules:
        yield Complaint(None, "", "must not be empty", [])
    zones = {schedule.get("timezone") or "UTC" for schedule in schedules}
    if len(zones) > 1:
        yield Complaint(None, "", f"mixed timezones {', '.join(sorted(zones))}: all schedules must use the same")
    readable = []
    for place, schedule in enumerate(schedules):
        found = [Complaint(place, *fault) for fault in _faults(schedule, base)]
        yield from found
        if not found:
            readable.append((place, _window(schedule, base)))
    yield from _between(schedules, readable)


def _faults(schedule: Json, base: Bounds) -> Iterator[tuple[str, str, Any]]:
    """Of one schedule: field, detail, value."""
    name, zone = schedule.get("name") or "", schedule.get("timezone") or "UTC"
    if not _NAME.match(name):
        yield "name", "must be lower case letters, digits and inner dashes", name
    if not _is_zone(zone):
        yield "timezone", "unknown time zone", zone
    days = schedule.get("daysOfWeek")
    if days is not None and not days:
        yield "daysOfWeek", "must not be empty", days
    for day in days or ():
        if day.lower() not in WEEKDAYS:
            yield "daysOfWeek", "must be one of Mon, Tue, Wed, Thu, Fri, Sat, Sun", day
    yield from _time_faults(schedule)
    yield from _bound_faults(schedule, base)


def _time_faults(schedule: Json) -> Iterator[tuple[str, str, Any]]:
    times = {field: schedule.get(field) or "" for field in ("startTime", "endTime")}
    wrong = [field for field, value in times.items() if not _TIME.match(value)]
    for field in wrong:
        yield field, "must be HH:MM, 00:00 to 23:59", times[field]
    if not wrong and times["startTime"] >= times["endTime"]:
        yield "endTime", f"must be later than startTime ({times['startTime']}) on the same day", times["endTime"]


def _bound_faults(schedule: Json, base: Bounds) -> Iterator[tuple[str, str, Any]]:
    least, most = schedule.get("minReplicas"), schedule.get("maxReplicas")
    if least is None and most is None:
        yield "", "at least one of minReplicas and maxReplicas is required", None
        return
    low, high = base.least if least is None else least, base.most if most is None else most
    if low < 0:
        yield "minReplicas", "must not be negative", low
    if high <= 0:
        yield "maxReplicas", "must be positive", high
    if low > high:
        yield (
            "minReplicas" if least is not None else "maxReplicas",
            f"minReplicas {low} is above maxReplicas {high}",
            (least if least is not None else most),
        )


def _between(schedules: Sequence[Json], readable: Sequence[tuple[int, Window]]) -> Iterator[Complaint]:
    seen: set[str] = set()
    for place, schedule in enumerate(schedules):
        name = schedule.get("name") or ""
        if name in seen:
            yield Complaint(place, "name", "duplicate name", name)
        seen.add(name)
    for (_, first), (place, second) in combinations(readable, 2):
        if first.meets(second):
            yield Complaint(place, "", f"overlap: {second.name} and {first.name} hold at the same time", second.name)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
