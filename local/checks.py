"""What `make check` looks at beside Python: C without warnings, Go formatted, the lock complete, files of one idea.

What Go's compiler knows shows when the control plane is built; `go vet` would analyse all of Kubernetes for one file.
`python -m local.checks` prints what is wrong and exits with 1, else it prints nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from local.build import SOURCES, find_go, go_environment
from local.settings import CHECKOUT

NOT_OURS = (".venv", ".brixflow", "build")
SOURCE_SUFFIXES = {".py", ".c", ".h", ".go"}
MOST_LINES = 500
C_FOLDERS = ("csrc", "local/shim")
C_FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fsyntax-only")


def main() -> int:
    """Run all checks; the exit code of the process."""
    complaints = [*c_complaints(), *go_complaints(), *lock_complaints(), *size_complaints()]
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


def lock_complaints() -> list[str]:
    """Every dependency of pyproject.toml has to be pinned in requirements.lock."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=~\[ ]", name)[0].lower().replace("_", "-") for name in wanted}
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (CHECKOUT / "requirements.lock").read_text(), re.MULTILINE))
    return [f"requirements.lock: {name} is not pinned; run `make lock`" for name in sorted(names - locked)]


def size_complaints() -> list[str]:
    """Source files that hold more than one idea by their length."""
    rooms = (room for room in CHECKOUT.iterdir() if room.is_dir() and not room.name.startswith(NOT_OURS))
    files = (path for room in rooms for path in sorted(room.rglob("*")) if path.suffix in SOURCE_SUFFIXES)
    sizes = {path: path.read_text().count("\n") for path in files if not path.name.startswith("_")}
    long = {path.relative_to(CHECKOUT): size for path, size in sizes.items() if size > MOST_LINES}
    return [f"{path}: {size} lines; split it by idea" for path, size in long.items()]


def _said(*command: str, directory: Path = CHECKOUT) -> str:
    finished = subprocess.run(command, cwd=directory, env=go_environment(), capture_output=True, text=True, check=False)
    return finished.stdout + finished.stderr


if __name__ == "__main__":
    sys.exit(main())
