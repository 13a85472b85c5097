"""The supervisor: a keeper for each part, and the requests that people make of it.

One JSON object a line over `HOME/supervisor.sock`. A request is answered by any number of `{"event": ...}` lines and at
last by `{"ok": true, ...}` or `{"error": "..."}`.

| request | does |
|---|---|
| `{"do": "ensure", "parts": [...]}` | starts what is missing, restarts what changed, waits until all are healthy |
| `{"do": "retain", "names": [...]}` | stops and forgets every other part |
| `{"do": "status"}` | tells state and health of each part |
| `{"do": "start" / "stop", "part": name}` | the same by hand |
| `{"do": "restart", "part": name, "set": {...}}` | also by hand; with variables that count until the next restart |
| `{"do": "kill", "part": name, "hold_seconds": n}` | SIGKILL, and no start before the hold is over |
| `{"do": "hand over"}` | ends the supervisor and leaves all parts running, for a newer one to take over |
| `{"do": "shutdown"}` | stops all in reverse order, runs their teardowns, ends the supervisor |
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from local.supervisor.health import Healthy, Unhealthy, examine
from local.supervisor.keeper import BackOff, Keeper, Running, Waiting
from local.supervisor.logs import log_path, rotate
from local.supervisor.part import Part, generations, sources
from local.supervisor.process import end_orphans, resident_bytes
from local.supervisor.records import Record, record_directory

FIRST_CHECK_SECONDS = 0.05
LONGEST_CHECK_SECONDS = 0.5
ENDS_THAT_FAIL_A_START = 3
ROTATION_SECONDS = 10.0
TEARDOWN_SECONDS = 60.0

log = logging.getLogger(__name__)
Report = Callable[[dict[str, Any]], None]


class RequestError(Exception):
    """A request that cannot be served; the text goes to whoever asked. Final."""


class Supervisor:
    """All parts of one home."""

    def __init__(self, home: Path, back_off: BackOff | None = None) -> None:
        self.finished = asyncio.Event()
        self._home = home
        self._back_off = back_off or BackOff()
        self._keepers: dict[str, Keeper] = {}
        self._sources = sources()
        record_directory(home).mkdir(parents=True, exist_ok=True)

    def adopt_running(self) -> None:
        """Take over what an earlier supervisor left running; forget what has ended."""
        for path in sorted(record_directory(self._home).glob("*.json")):
            record = Record.read(path)
            if record and (keeper := Keeper.adopt(self._home, record, self._back_off)):
                self._keepers[record.part.name] = keeper
            else:
                if record:
                    end_orphans(record.identity)
                path.unlink()

    async def handle(self, request: dict[str, Any], report: Report) -> dict[str, Any]:
        """Serve one request. Raises RequestError."""
        match request:
            case {"do": "ensure", "parts": list(parts)}:
                await self.ensure([Part.from_json(part) for part in parts], report)
            case {"do": "retain", "names": list(names)}:
                await self._stop_parts([k for k in self._keepers.values() if k.part.name not in names], report)
            case {"do": "status"}:
                return {"ok": True, "parts": await self.status(), "sources": self._sources}
            case {"do": "hand over"}:
                self.finished.set()
            case {"do": "shutdown"}:
                await self.shutdown(report)
            case {"do": str(verb), "part": str(name)}:
                await self._by_hand(verb, name, request)
            case _:
                raise RequestError(f"unknown request {request}")
        return {"ok": True}

    async def ensure(self, parts: list[Part], report: Report) -> None:
        """Have these parts running as described and healthy. Raises RequestError when one does not become so."""
        ordered = list(chain.from_iterable(generations(parts)))
        started: dict[str, asyncio.Task[None]] = {}

        async def ensure_after_its_needs(part: Part) -> None:
            await asyncio.gather(*(started[name] for name in part.after if name in started))
            await self._ensure_part(part, report)

        try:
            async with asyncio.TaskGroup() as group:
                for part in ordered:
                    started[part.name] = group.create_task(ensure_after_its_needs(part))
        except* RequestError as errors:
            raise errors.exceptions[0] from None

    async def status(self) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(self._describe(keeper) for keeper in self._keepers.values())))

    async def shutdown(self, report: Report) -> None:
        """Stop everything in reverse order and end the supervisor."""
        await self._stop_parts(self._keepers.values(), report)
        self.finished.set()

    async def rotate_logs(self) -> None:
        """Keep log files bounded; runs until cancelled."""
        while True:
            for path in (self._home / "logs").glob("*.log"):
                await asyncio.to_thread(rotate, path)
            await asyncio.sleep(ROTATION_SECONDS)

    async def _ensure_part(self, part: Part, report: Report) -> None:
        began = time.monotonic()
        keeper = self._keepers.get(part.name)
        if keeper is None:
            keeper = self._keepers[part.name] = Keeper(self._home, part, self._back_off)
        event = _needed_event(keeper, part)
        report({"event": event, "part": part.name})
        keeper.describe(part)
        if event == "changed":
            await keeper.restart()
        await keeper.start()
        await self._wait_until_healthy(keeper)
        report({"event": "ready", "part": part.name, "seconds": time.monotonic() - began})

    async def _wait_until_healthy(self, keeper: Keeper) -> None:
        deadline = time.monotonic() + keeper.part.ready_seconds
        ends_before, pause = keeper.restarts, FIRST_CHECK_SECONDS
        while not isinstance(health := await self._health(keeper), Healthy):
            ends = keeper.restarts - ends_before
            if ends >= ENDS_THAT_FAIL_A_START or time.monotonic() > deadline:
                reason = f"it ends again and again ({keeper.last_end})" if ends else health.reason
                log_file = log_path(self._home, keeper.part.name)
                raise RequestError(f"{keeper.part.name} does not become healthy: {reason} (its log: {log_file})")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_CHECK_SECONDS)

    async def _health(self, keeper: Keeper) -> Healthy | Unhealthy:
        match keeper.state:
            case Running():
                return await examine(keeper.part.check)
            case Waiting(until, reason):
                return Unhealthy(f"{reason}; starts in {max(0.0, until - time.time()):.0f} s")
            case _:
                return Unhealthy("stopped")

    async def _by_hand(self, verb: str, name: str, request: dict[str, Any]) -> None:
        keeper = self._keepers.get(name)
        if keeper is None:
            raise RequestError(f"no part named {name}; there are {', '.join(self._keepers) or 'none'}")
        match verb:
            case "start":
                await keeper.start()
                await self._wait_until_healthy(keeper)
            case "stop":
                await keeper.stop()
            case "restart":
                await keeper.restart({str(key): str(value) for key, value in request.get("set", {}).items()})
                await self._wait_until_healthy(keeper)
            case "kill":
                await keeper.kill(float(request.get("hold_seconds", 0.0)))
            case _:
                raise RequestError(f"unknown request {verb}")

    async def _stop_parts(self, keepers: Iterable[Keeper], report: Report) -> None:
        chosen = {keeper.part.name: keeper for keeper in keepers}
        for generation in reversed(generations(keeper.part for keeper in chosen.values())):
            await asyncio.gather(*(self._stop_part(chosen[part.name], report) for part in generation))

    async def _stop_part(self, keeper: Keeper, report: Report) -> None:
        report({"event": "stopping", "part": keeper.part.name})
        await keeper.stop()
        if keeper.part.teardown:
            await self._tear_down(keeper.part)
        self._keepers.pop(keeper.part.name, None)
        report({"event": "stopped", "part": keeper.part.name})

    async def _tear_down(self, part: Part) -> None:
        with (self._home / "logs" / f"{part.name}.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *part.teardown, env=part.environment, cwd=self._home, stdout=output, stderr=output
            )
            try:
                status = await asyncio.wait_for(process.wait(), TEARDOWN_SECONDS)
            except TimeoutError:
                process.kill()
                status = await process.wait()
        log.info("part torn down name=%s exit=%d", part.name, status)

    async def _describe(self, keeper: Keeper) -> dict[str, Any]:
        """What `brixflow status --json` shows of a part. Memory is that of all its processes, shared pages divided."""
        health = await self._health(keeper)
        state = keeper.state
        running = isinstance(state, Running)
        pid = state.process.identity.pid if isinstance(state, Running) else None
        return {
            "name": keeper.part.name,
            "address": keeper.part.address,
            "state": type(state).__name__.lower(),
            "healthy": isinstance(health, Healthy),
            "reason": health.reason if isinstance(health, Unhealthy) else "",
            "pid": pid,
            "uptime_seconds": time.time() - state.since if isinstance(state, Running) else None,
            "restarts": keeper.restarts,
            "memory_bytes": await asyncio.to_thread(resident_bytes, pid) if running and pid else None,
        }


def _needed_event(keeper: Keeper, part: Part) -> str:
    if not isinstance(keeper.state, Running):
        return "starting"
    return "unchanged" if keeper.runs_as(part) else "changed"
