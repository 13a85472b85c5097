"""`rollout status`: once, or followed with bars until the rollout is done."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable

import typer
from rich.live import Live

from activities.errors import KubeNotFound, KubeRetry
from activities.family import family_of
from cli.cluster import Cluster, ClusterRefused, Target, Where, connected, parse_target
from cli.rollout_tables import console, printed, progress_lines
from planning.standing import Progress, progress

LOOK_SECONDS = 0.5
PODS_SECONDS = 3.0
"""The object is read at every look, its pods when it has changed and at the latest after so long."""

Show = Callable[[Progress, float], None]


async def status(words: list[str], where: Where, *, watch: bool, timeout: str, output: str | None) -> int:
    """Exit code 0 unless the rollout has failed, or was followed for longer than `timeout`."""
    target, limit = parse_target(words), _seconds(timeout)
    async with connected(where) as cluster:
        if not watch:
            family = await family_of(cluster.client, await cluster.get(target), pods=True)
            found = progress(family.live, family.pods)
            if not printed(found, output):
                console().print(progress_lines(found))
            return int(found.failed)
        if output is not None:
            found = await _follow(cluster, target, limit, lambda _found, _elapsed: None)
            printed(found, output)
        elif sys.stdout.isatty():
            found = await _follow_with_bars(cluster, target, limit)
        else:
            found = await _follow(cluster, target, limit, _Lines())
        return int(found.failed)


class _Lines:
    """Prints the message when it changes: for logs and pipes."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, found: Progress, _elapsed: float) -> None:
        if found.message != self._last:
            self._last = found.message
            typer.echo(found.message)


async def _follow_with_bars(cluster: Cluster, target: Target, limit: float) -> Progress:
    with Live(console=console(), refresh_per_second=8) as live:
        return await _follow(cluster, target, limit, lambda found, passed: live.update(progress_lines(found, passed)))


async def _follow(cluster: Cluster, target: Target, limit: float, show: Show) -> Progress:
    began, read_at, version = time.monotonic(), 0.0, ""
    found: Progress | None = None
    while True:
        passed = time.monotonic() - began
        try:
            live = await cluster.get(target)
            if found is None or live["metadata"]["resourceVersion"] != version or passed - read_at > PODS_SECONDS:
                family = await family_of(cluster.client, live, pods=True)
                found, read_at, version = progress(live, family.pods), passed, live["metadata"]["resourceVersion"]
        except KubeNotFound:
            raise cluster.missing(target) from None
        except KubeRetry as error:
            if found is None:
                raise
            found = found.model_copy(update={"message": f"{target}: {error}; trying again", "done": False})
            version = ""
        show(found, passed)
        if found.done or found.failed:
            return found
        if limit and passed > limit:
            raise ClusterRefused(f"timed out after {limit:.0f} s: {found.message}")
        await asyncio.sleep(LOOK_SECONDS)


def _seconds(text: str) -> float:
    """0 for none."""
    if not text or text == "0":
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 5m or 1h", param_hint="--timeout")
    return float(match[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[match[2]]
