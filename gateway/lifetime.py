"""How a child process learns that it shall end: SIGTERM, SIGINT, or the end of its standard input.

The parent holds the other end of that pipe and never writes; when the parent dies in whatever way, the pipe ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s pid=%(process)d %(message)s"


def log_to_stderr() -> None:
    """One line an event, at info."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)


def ending() -> asyncio.Event:
    """An event of the running loop that is set once the process shall end."""
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    return over


def end_with_parent(over: asyncio.Event) -> None:
    """Set `over` when the pipe on standard input ends."""
    loop, pipe = asyncio.get_running_loop(), sys.stdin.fileno()

    def readable() -> None:
        if not os.read(pipe, 64):
            loop.remove_reader(pipe)
            over.set()

    loop.add_reader(pipe, readable)
