"""The gateway's parent process: starts one collector and the ext_proc processes, restarts what dies, drains on SIGTERM.

The parent itself holds neither the segment nor a connection, so nothing that goes wrong with requests can end it. Its
children end with it: each watches the pipe on its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass

from gateway import static
from gateway.lifetime import ending, log_to_stderr
from gateway.settings import GatewaySettings

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0
STABLE_SECONDS = 10.0
"""A child that lived this long is restarted without a pause, as if it were the first time."""

END_GRACE_SECONDS = 5.0
"""What a child gets beyond its drain time before it is killed."""

log = logging.getLogger("gateway.process")


@dataclass
class Child:
    """One process that is kept alive until `stop`."""

    name: str
    command: tuple[str, ...]
    process: asyncio.subprocess.Process | None = None
    stopping: bool = False

    async def keep_alive(self) -> None:
        """Start it, and again whenever it ends, with a growing pause while it dies young."""
        pause = FIRST_PAUSE_SECONDS
        while not self.stopping:
            began = time.monotonic()
            self.process = await asyncio.create_subprocess_exec(*self.command, stdin=asyncio.subprocess.PIPE)
            log.info("event=child_started child=%s child_pid=%d", self.name, self.process.pid)
            code = await self.process.wait()
            if self.stopping:
                break
            if time.monotonic() - began > STABLE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.warning("event=child_ended child=%s code=%d restart_seconds=%.1f", self.name, code, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE_SECONDS)

    async def stop(self, seconds: float) -> None:
        """SIGTERM, then SIGKILL when it has not ended within `seconds`."""
        self.stopping = True
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            log.warning("event=child_killed child=%s", self.name)
            process.kill()
            await process.wait()


def children_of(settings: GatewaySettings) -> tuple[Child, list[Child]]:
    """The collector, and the ext_proc processes: one for each address."""
    collector = Child("collector", (sys.executable, "-m", "gateway.collector"))
    readers = [
        Child(f"ext_proc-{index}", (sys.executable, "-m", "gateway.ext_proc", str(index)))
        for index in range(len(settings.sockets))
    ]
    return collector, readers


async def _run(settings: GatewaySettings) -> int:
    over = ending()
    collector, readers = children_of(settings)
    alive = [asyncio.create_task(child.keep_alive()) for child in (collector, *readers)]
    await over.wait()
    log.info("event=stopping")
    drain = settings.drain.total_seconds() + END_GRACE_SECONDS
    await asyncio.gather(*(child.stop(drain) for child in readers))
    await collector.stop(END_GRACE_SECONDS)
    for task in alive:
        task.cancel()
    await asyncio.gather(*alive, return_exceptions=True)
    log.info("event=stopped")
    return os.EX_OK


def main() -> int:
    """Run the gateway until SIGTERM or SIGINT; the exit code."""
    log_to_stderr()
    try:
        settings = GatewaySettings.from_environment()
    except ValueError as refused:
        log.error("event=settings_refused reason=%s", refused)  # noqa: TRY400 - the reason says it all
        return os.EX_CONFIG
    if settings.endpoints_file is not None:
        try:
            static.read(settings.endpoints_file)
        except static.EndpointsRefused as refused:
            log.error("event=endpoints_refused path=%s reason=%s", settings.endpoints_file, refused)  # noqa: TRY400
            return os.EX_CONFIG
    return asyncio.run(_run(settings))


if __name__ == "__main__":
    sys.exit(main())
