"""The part of `make up` before any Python of ours: a lack is one clear line, and nothing has been started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from local.settings import CHECKOUT

BOOTSTRAP = str(CHECKOUT / "local" / "bootstrap.sh")
TOOLS = ("bash", "dirname", "id", "awk")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def bootstrap(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], "BRIXFLOW_HOME": str(tmp_path / "home"), **environment}
    return subprocess.run([BOOTSTRAP], env=given, capture_output=True, text=True, check=False)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> bool:
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode == 1 and len(lines) == 1 and all(word in lines[0] for word in words)


def test_without_root_it_says_so(tmp_path: Path) -> None:
    script(tmp_path / "id", "echo 1000")
    done = bootstrap(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert refused(done, "needs root")
    assert not (tmp_path / "home").exists()


def test_an_old_python_is_named(tmp_path: Path) -> None:
    old = script(tmp_path / "python", '[ "$1" = -V ] && echo Python 3.9.2\nexit 1')
    assert refused(bootstrap(tmp_path, PYTHON=str(old)), "needs Python 3.11", "Python 3.9.2")


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(f"/usr/bin/{name}")
    (tools / "python3").symlink_to(CHECKOUT / ".venv" / "bin" / "python")
    assert refused(bootstrap(tmp_path, PATH=str(tools)), "needs gcc", "apt-get install")
