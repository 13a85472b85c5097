"""Bounds over time (CRD cases A36 to A39), of objects as the API server stores them with the webhooks on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crds.schedules import Bounds, bounds_at, next_change
from tests.crds.objects import scaler

SHANGHAI = {
    "minReplicas": 1,
    "maxReplicas": 10,
    "schedules": [
        {"name": "day", "timezone": "Asia/Shanghai", "daysOfWeek": ["mon", "TUE", "Wed"], "startTime": "09:00",
         "endTime": "18:00", "minReplicas": 3, "maxReplicas": 12},
    ],
}  # fmt: skip


def utc(start: str, end: str) -> dict[str, object]:
    return {
        "maxReplicas": 10, "schedules": [{"name": "w", "startTime": start, "endTime": end, "minReplicas": 2}],
    }  # fmt: skip


@pytest.fixture
def stored(api, webhooks):
    """The spec of a PodAutoscaler with these bounds and schedules, as it is kept."""

    def ask(part: dict) -> dict:
        reply = api.ask(scaler(drop=() if "minReplicas" in part else ("minReplicas",), **part))
        assert reply.accepted, reply.message
        return reply.body["spec"]

    return ask


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a36_bounds_of_a_window_hold_in_its_time_zone(stored):
    assert bounds_at(stored(SHANGHAI), at("2026-08-03T02:00")) == Bounds(3, 12, "day")


def test_a37_the_end_of_a_window_is_exclusive(stored):
    assert bounds_at(stored(SHANGHAI), at("2026-08-03T10:00")) == Bounds(1, 10)


@pytest.mark.parametrize(
    ("now", "active"), [("2026-08-08T09:30", True), ("2026-08-08T09:00", True), ("2026-08-08T10:00", False)]
)
def test_a38_without_days_a_window_holds_every_day(stored, now, active):
    assert bool(bounds_at(stored(utc("09:00", "10:00")), at(now)).schedule) is active


@pytest.mark.parametrize(("now", "minutes"), [("2026-08-03T08:30", 30), ("2026-08-03T09:30", 8 * 60 + 30)])
def test_a39_the_next_change_is_the_next_start_or_end(stored, now, minutes):
    assert next_change(stored(utc("09:00", "18:00")), at(now)) == at(now) + timedelta(minutes=minutes)


def test_a_window_keeps_its_hours_when_the_clock_is_changed(stored):
    berlin = utc("09:00", "10:00")
    berlin["schedules"][0]["timezone"] = "Europe/Berlin"  # 2026-10-25: summer time ends at 03:00
    berlin = stored(berlin)
    assert next_change(berlin, at("2026-10-24T08:30")) == at("2026-10-25T08:00")
    assert bounds_at(berlin, at("2026-10-25T08:30")).schedule == "w"


def test_no_schedule_never_changes():
    assert next_change({"maxReplicas": 3}, at("2026-08-03T08:30")) is None
