"""Ends an Envoy's work before its process ends: `python -m gateway.drain ADMIN_URL SECONDS`.

Only the standard library, so that it runs by its path alone. It turns Envoy's health to failing, closes its listeners,
and waits until no request is left, for at most that long. An Envoy that cannot be reached is drained already. What runs
before SIGTERM locally is a pod's preStop in a cluster.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.request

POLL_SECONDS = 0.1
ANSWER_SECONDS = 2.0
RUNNING = r"^http\.gateway\.downstream_rq_active$"


def drain(admin: str, seconds: float) -> bool:
    """True when no request is left; False when some were still running at the deadline."""
    deadline = time.monotonic() + seconds
    try:
        _ask(admin, "/healthcheck/fail", "POST")
        _ask(admin, "/drain_listeners", "POST")
        while running(admin):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
    except (OSError, http.client.HTTPException):
        return True
    return True


def running(admin: str) -> int:
    """How many requests Envoy works on."""
    found = json.loads(_ask(admin, f"/stats?format=json&filter={RUNNING}", "GET"))["stats"]
    return sum(int(stat.get("value", 0)) for stat in found)


def _ask(admin: str, path: str, method: str) -> bytes:
    request = urllib.request.Request(admin + path, method=method)  # noqa: S310 - the caller names an http address
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
        body: bytes = answer.read()
        return body


def main() -> int:
    """0 when drained, 1 when requests were left."""
    return 0 if drain(sys.argv[1], float(sys.argv[2])) else 1


if __name__ == "__main__":
    sys.exit(main())
