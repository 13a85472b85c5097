"""What a StormService says about how its rollouts end."""

from __future__ import annotations

import pytest

from crds.admission.stormservice import warnings


@pytest.mark.parametrize(
    ("spec", "warned"),
    [
        ({"automaticRollback": True}, True),
        ({"automaticRollback": True, "progressDeadlineSeconds": 60}, False),
        ({"automaticRollback": False}, False),
        ({}, False),
    ],
)
def test_a_rollback_without_a_deadline_is_warned_about(spec, warned):
    said = list(warnings({"metadata": {"name": "llama"}, "spec": spec}))
    assert said == (["spec.automaticRollback does nothing without spec.progressDeadlineSeconds"] if warned else [])
