"""The operator process: settings, log, signals, and an event loop fast enough for thousands of waiting polls."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvloop

from workflows.operator import Operator
from workflows.settings import OperatorSettings, SettingError

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


async def serve(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Operator(settings).run(stop)


def main() -> int:
    """0 after an orderly end, 2 when a setting is wrong, 1 when an address is taken."""
    try:
        settings = OperatorSettings.from_environment()
    except SettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("temporalio").setLevel(logging.WARNING)
    try:
        uvloop.run(serve(settings))
    except OSError as error:
        sys.stderr.write(f"cannot listen: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
