"""What counts as a request that an engine still has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from activities.drains import LINGER, is_draining, metric_port, requests_in
from crds import labels
from planning.objects import format_time

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('vllm:num_requests_running{model_name="m"} 2.0\nvllm:num_requests_waiting{model_name="m"} 1.0\n', 3),
        ('vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_running{engine="1"} 1\n', 1),
        ("sglang:num_running_reqs 0\nsglang:num_queue_reqs 4\n", 4),
        ("trtllm_num_requests_running 0\ntrtllm_num_requests_waiting 0\n", 0),
        ("# vllm:num_requests_running 7\nvllm:num_requests_running 0\n", 0),
        ("process_open_fds 12\n", None),
        ("vllm:num_requests_running_total 3\n", None),
        ("", None),
    ],
)
def test_running_and_waiting_requests_of_all_engines_count(page: str, expected: float | None) -> None:
    assert requests_in(page) == expected


@pytest.mark.parametrize(
    ("notes", "asked"),
    [
        ({}, False),
        ({labels.DRAIN_SINCE: format_time(NOW - LINGER)}, True),
        ({labels.DRAIN_SINCE: format_time(NOW - LINGER + timedelta(seconds=1))}, False),
        ({labels.DRAIN_SINCE: format_time(NOW - LINGER), labels.DRAINED: format_time(NOW - LINGER)}, False),
        ({labels.DRAIN_SINCE: format_time(NOW - LINGER), labels.DRAINED: format_time(NOW - 9 * LINGER)}, True),
        ({labels.DRAIN_SINCE: "yesterday"}, False),
    ],
)
def test_a_pod_is_asked_once_whoever_routes_has_heard_of_its_drain(notes: dict[str, str], asked: bool) -> None:
    assert is_draining({"metadata": {"name": "p", "annotations": notes}}, NOW) is asked


def test_a_pod_that_is_deleted_is_not_asked() -> None:
    notes = {labels.DRAIN_SINCE: format_time(NOW - LINGER)}
    metadata = {"name": "p", "annotations": notes, "deletionTimestamp": format_time(NOW)}
    assert not is_draining({"metadata": metadata}, NOW)


def test_metrics_have_their_own_port_or_that_of_the_model() -> None:
    both = {labels.MODEL_PORT: "9000", labels.MODEL_METRIC_PORT: "9001"}
    assert metric_port({"metadata": {"labels": both}}) == "9001"
    assert metric_port({"metadata": {"labels": {labels.MODEL_PORT: "9000"}}}) == "9000"
    assert metric_port({"metadata": {}}) == "8000"
