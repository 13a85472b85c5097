"""Which of the spare systems this test session uses, so that sessions may run side by side."""

from __future__ import annotations

import os

SLOT = int(os.environ.get("BRIXFLOW_TEST_SLOT", "0"))  # 0 to 7; the whole system uses SLOT + 8
