"""Toy parts for the supervisor: real processes that answer HTTP, ready in a few milliseconds."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local.errors import NotRunningError
from local.settings import CHECKOUT
from local.supervisor.client import SupervisorClient, start_supervisor
from local.supervisor.part import HttpCheck, Part, fingerprint_of

TOY = Path(__file__).with_name("toy_part.py")

MakePart = Callable[..., Part]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def toy_part(name: str, *arguments: str, port: int = 0, **fields: Any) -> Part:
    port = port or free_port()
    command = (sys.executable, "-S", str(TOY), str(port), *arguments)
    environment = {"PYTHONPATH": str(CHECKOUT), **fields.pop("environment", {})}
    address = f"http://127.0.0.1:{port}"
    return Part(
        name=name,
        command=command,
        environment=environment,
        check=HttpCheck(address),
        address=address,
        fingerprint=fingerprint_of(command, environment, []),
        **fields,
    )


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose supervisor and parts are ended after the test, also when the test killed the supervisor."""
    directory = tmp_path / "home"
    directory.mkdir()
    yield directory
    if (directory / "run").exists():
        with suppress(NotRunningError):
            start_supervisor(directory).shutdown(lambda _event: None)


@pytest.fixture
def supervisor(home: Path) -> SupervisorClient:
    return start_supervisor(home)
