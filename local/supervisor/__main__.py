"""The supervisor's process: `python -m local.supervisor HOME [--parent PID]`."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from local.supervisor.client import LOCK, SOCKET, reachable_socket
from local.supervisor.part import PartError
from local.supervisor.server import RequestError, Supervisor

LONGEST_REQUEST_BYTES = 4 * 1024 * 1024

log = logging.getLogger("local.supervisor")


def main() -> None:
    """Run until told to end. A second supervisor of the same home ends at once."""
    parser = argparse.ArgumentParser(prog="local.supervisor")
    parser.add_argument("home", type=Path)
    parser.add_argument("--parent", type=int, help="go down when this process ends")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.umask(0o077)
    with (arguments.home / LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"a supervisor runs for {arguments.home} already")
        asyncio.run(_serve(arguments.home, arguments.parent))


async def _serve(home: Path, parent: int | None) -> None:
    supervisor = Supervisor(home)
    supervisor.adopt_running()
    _shut_down_on_signals(supervisor)
    if parent is not None:
        _shut_down_with(parent)
    rotation = asyncio.create_task(supervisor.rotate_logs())
    (home / SOCKET).unlink(missing_ok=True)
    with reachable_socket(home) as path:
        server = await asyncio.start_unix_server(
            lambda reader, writer: _answer(supervisor, reader, writer), path, limit=LONGEST_REQUEST_BYTES
        )
    log.info("supervisor started home=%s pid=%d", home, os.getpid())
    await supervisor.finished.wait()
    await asyncio.sleep(0)  # the answer to the request that ended us
    rotation.cancel()
    server.close()
    (home / SOCKET).unlink(missing_ok=True)
    log.info("supervisor ended home=%s", home)


async def _answer(supervisor: Supervisor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    def send(message: dict[str, Any]) -> None:
        writer.write(json.dumps(message).encode() + b"\n")

    try:
        request = json.loads(await reader.readline())
        send(await supervisor.handle(request, send))
    except (RequestError, PartError, ValueError) as error:
        send({"error": str(error)})
    except Exception as error:
        log.exception("request failed")
        send({"error": f"{type(error).__name__}: {error}"})
    with suppress(ConnectionError):
        await writer.drain()
    writer.close()


def _shut_down_on_signals(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: tasks.add(loop.create_task(supervisor.shutdown(_to_log))))


def _shut_down_with(parent: int) -> None:
    loop = asyncio.get_running_loop()
    try:
        pidfd = os.pidfd_open(parent)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)
        return

    def on_end() -> None:
        loop.remove_reader(pidfd)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(pidfd, on_end)


def _to_log(event: dict[str, Any]) -> None:
    log.info("shutdown %s", " ".join(f"{key}={value}" for key, value in event.items()))


if __name__ == "__main__":
    main()
