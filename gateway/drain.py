"""Ends an Envoy's work before its process ends: `python -m gateway.drain ADMIN_URL SECONDS [QUIET_SECONDS]`.

Only the standard library, so that it runs by its path alone. It turns Envoy's health to failing, which also ends each
connection with its next answer; goes on taking connections until none has come for QUIET_SECONDS, since it takes a
balancer a while to look elsewhere; closes the listeners; and waits until no request is left. All of it takes SECONDS at
most. An Envoy that cannot be reached is drained already. It runs before SIGTERM, in a cluster as the preStop of a pod.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.request

POLL_SECONDS = 0.1
ANSWER_SECONDS = 2.0
RUNNING = "downstream_rq_active"
TAKEN = "downstream_cx_total"


def drain(admin: str, seconds: float, quiet: float = 0) -> bool:
    """True when no request is left; False when some were still running at the deadline."""
    deadline = time.monotonic() + seconds
    try:
        _ask(admin, "/healthcheck/fail", "POST")
        wait_until_nobody_comes(admin, quiet, deadline)
        _ask(admin, "/drain_listeners", "POST")
        while running(admin):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
    except (OSError, http.client.HTTPException):
        return True
    return True


def wait_until_nobody_comes(admin: str, quiet: float, deadline: float) -> None:
    """Return when no connection came for `quiet` seconds, or at the deadline (of the monotonic clock)."""
    taken, since = stat(admin, TAKEN), time.monotonic()
    while (now := time.monotonic()) < min(since + quiet, deadline):
        time.sleep(POLL_SECONDS)
        if (again := stat(admin, TAKEN)) != taken:
            taken, since = again, now


def running(admin: str) -> int:
    """How many requests Envoy works on."""
    return stat(admin, RUNNING)


def stat(admin: str, name: str) -> int:
    """One of the gateway listener's numbers."""
    found = json.loads(_ask(admin, f"/stats?format=json&filter=^http.gateway.{name}$", "GET"))["stats"]
    return sum(int(each.get("value", 0)) for each in found)


def _ask(admin: str, path: str, method: str) -> bytes:
    request = urllib.request.Request(admin + path, method=method)  # noqa: S310 - the caller names an http address
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
        body: bytes = answer.read()
        return body


def main() -> int:
    """0 when drained, 1 when requests were left."""
    return 0 if drain(sys.argv[1], *map(float, sys.argv[2:4])) else 1


if __name__ == "__main__":
    sys.exit(main())
