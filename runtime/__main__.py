"""The command `aibrix_runtime`, which an injected sidecar starts."""

from __future__ import annotations

import argparse
import logging
import sys

from aiohttp import web

from runtime.app import Sidecar
from runtime.settings import RuntimeSettings

DEFAULT_PORT = 8080


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM; 1 when the address is taken."""
    parser = argparse.ArgumentParser(prog="aibrix_runtime", description="The sidecar beside an inference engine.")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - probes and the operator come from elsewhere
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--enable-fastapi-docs", action="store_true", help="taken and without effect: there are none")
    chosen = parser.parse_args(arguments)
    settings = RuntimeSettings.from_environment()
    logging.basicConfig(level=settings.log_level, stream=sys.stderr)
    host = None if chosen.host in ("", "None") else chosen.host
    try:
        web.run_app(Sidecar(settings).application(), host=host, port=chosen.port, access_log=None, print=None)
    except OSError as error:
        sys.stderr.write(f"cannot listen: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
