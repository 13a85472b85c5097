"""Fixtures of the loop's tests: a namespace, an operator in this process, one as a process, a Temporal to kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from local.control_plane_only import ControlPlane
from tests.workflows.rig import OperatorProcess, TemporalServer, World, operator_in_process, world_in
from workflows.operator import Operator


@pytest.fixture
async def world(control_plane: ControlPlane) -> AsyncIterator[World]:
    async with world_in(control_plane.kubeconfig) as world:
        yield world


@pytest.fixture
async def temporal(control_plane: ControlPlane) -> Client:
    return await Client.connect(control_plane.temporal_address, data_converter=pydantic_data_converter)


@pytest.fixture
async def operator(control_plane: ControlPlane) -> AsyncIterator[Operator]:
    async with operator_in_process(
        control_plane.settings.operator_kubeconfig, control_plane.temporal_address
    ) as operator:
        yield operator


@pytest.fixture
async def process(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[OperatorProcess]:
    process = OperatorProcess(
        control_plane.settings.operator_kubeconfig, control_plane.temporal_address, tmp_path / "operator.log"
    )
    yield process
    await process.stop()
    assert "forbidden" not in (process.log.read_text() if process.log.exists() else "")


@pytest.fixture
def temporal_server(tmp_path: Path) -> Iterator[TemporalServer]:
    server = TemporalServer(tmp_path / "temporal.db", ("limit.historyCount.suggestContinueAsNew=40",))
    server.start()
    yield server
    server.kill()
