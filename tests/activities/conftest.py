"""Fixtures of the activities' tests: a namespace, and the parts of an operator that watch it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from local.control_plane_only import ControlPlane
from tests.activities.rig import Parts, parts_of
from tests.workflows.rig import World, world_in


@pytest.fixture
async def world(control_plane: ControlPlane) -> AsyncIterator[World]:
    async with world_in(control_plane.kubeconfig) as world:
        yield world


@pytest.fixture
async def parts(control_plane: ControlPlane) -> AsyncIterator[Parts]:
    async with parts_of(control_plane.kubeconfig) as parts:
        yield parts
