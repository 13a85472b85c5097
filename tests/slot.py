"""Which of the spare systems this test session uses, so that sessions and workers may run side by side."""

from __future__ import annotations

import os

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SLOT = (int(os.environ.get("BRIXFLOW_TEST_SLOT", "0")) + WORKER) % 8  # the whole system uses SLOT + 8
