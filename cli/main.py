"""The `brixflow` command. Each subcommand is thin: it reads its options and calls the room that does the work.


The long-running processes (`operator`, `gateway`, `node-agent`, `simulate`) read environment variables and are started
without loading anything of the interactive commands. `simulate` alone has flags, those of the real engine, and its
own help.
"""

from __future__ import annotations

import sys
from importlib import import_module

PROCESSES = {
    "operator": "workflows.process",
    "gateway": "gateway.process",
    "node-agent": "local.node.process",
    "simulate": "simulator.__main__",
}


def main() -> None:
    """The entry point of the `brixflow` command."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in PROCESSES and ("--help" not in sys.argv or name == "simulate"):
        run_process(name)
    else:
        import_module("cli.commands").run()


def run_process(name: str) -> None:
    """Run one of the long-running processes until it ends, and exit with its code. It sees only its own arguments."""
    sys.argv = [f"brixflow {name}", *sys.argv[2:]]
    sys.exit(import_module(PROCESSES[name]).main())


if __name__ == "__main__":
    main()
