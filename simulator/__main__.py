"""Start an engine: `python -m simulator [--port P --model M --api-key K ...]`, or `main(arguments)` from an app.py."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from simulator.process import serve
from simulator.settings import SettingsError, read_settings

logger = logging.getLogger("simulator")

UNUSABLE = 2
"""Exit code when a setting is unusable or the port taken, the same as for a malformed flag."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one engine until it is told to stop and return the exit code: 0 after a drain, 2 for unusable settings."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments, os.environ)
        if settings.ignored_arguments:
            logger.warning("event=arguments_ignored arguments=%s", " ".join(settings.ignored_arguments))
        return asyncio.run(serve(settings))
    except (SettingsError, OSError) as error:
        reason = str(error)
    logger.error("event=cannot_start reason=%s", reason)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
