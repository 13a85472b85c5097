"""The part of `make check` that is not Python: C compiles without a warning, Go is formatted.

What Go's compiler knows shows when the control plane is built; `go vet` would analyse all of Kubernetes for one file.
`python -m local.checks` prints what is wrong and exits with 1, else it prints nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from local.build import SOURCES, find_go, go_environment
from local.settings import CHECKOUT

C_FOLDERS = ("csrc", "local/shim")
C_FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fsyntax-only")


def main() -> int:
    """Run all checks; the exit code of the process."""
    complaints = [*c_complaints(), *go_complaints()]
    sys.stdout.write("".join(f"{complaint.rstrip()}\n" for complaint in complaints))
    return 1 if complaints else 0


def c_complaints() -> list[str]:
    """The compiler's words about our C files; generated ones (`_*.c`) are not ours."""
    files = [path for folder in C_FOLDERS for path in sorted((CHECKOUT / folder).rglob("*.c"))]
    outputs = [_said("gcc", *C_FLAGS, str(path)) for path in files if not path.name.startswith("_")]
    return [output for output in outputs if output]


def go_complaints() -> list[str]:
    """What gofmt would change."""
    go = find_go().command
    gofmt = str(Path(_said(go, "env", "GOROOT").strip()) / "bin" / "gofmt")
    unformatted = _said(gofmt, "-l", str(SOURCES))
    return [f"not formatted as gofmt does: {unformatted}"] if unformatted.strip() else []


def _said(*command: str, directory: Path = CHECKOUT) -> str:
    finished = subprocess.run(command, cwd=directory, env=go_environment(), capture_output=True, text=True, check=False)
    return finished.stdout + finished.stderr


if __name__ == "__main__":
    sys.exit(main())
