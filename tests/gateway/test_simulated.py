"""Strategies over the engine simulator, which tells of itself what a real engine would."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.settings import Host
from tests.gateway.parts import ENGINE_PORT, eventually
from tests.gateway.rig import Rig
from tests.gateway.test_strategies import picks, shows

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONSTANT = ("--latency-model", "constant", "--itl-seconds", "0.001")
_hosts = itertools.count(1)


@contextlib.asynccontextmanager
async def simulator(flavour: str, *flags: str) -> AsyncIterator[str]:
    """One simulated engine on an address of its own."""
    host = f"127.87.{os.getpid() % 250}.{next(_hosts)}"
    command = [sys.executable, "-m", "simulator", "--host", host, "--port", str(ENGINE_PORT), *CONSTANT, *flags]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "LLM_ENGINE": flavour}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await eventually(lambda: answers(host), within=30)
        yield host
    finally:
        process.kill()
        await process.wait()


async def answers(host: str) -> bool:
    soon = aiohttp.ClientTimeout(total=2)
    async with (
        aiohttp.ClientSession(timeout=soon) as session,
        session.get(f"http://{host}:{ENGINE_PORT}/health") as got,
    ):
        return got.status == 200


async def pin(host: str, **values: float) -> None:
    address = f"http://{host}:{ENGINE_PORT}/set_metrics"
    async with aiohttp.ClientSession() as session, session.post(address, json=values) as got:
        assert got.status == 200, await got.text()


async def takes(rig: Rig, pod: str, least: float, most: float) -> bool:
    """True once the time to the first token that the pod tells lies between these seconds."""
    return least < await rig.metric("brixflow_pod_first_token_seconds", pod=pod) < most


@pytest.mark.parametrize("flavour", ["sglang", pytest.param("xllm", marks=pytest.mark.slow)])
async def test_every_flavours_cache_usage_moves_traffic(
    rig: Rig, host: Host, client: aiohttp.ClientSession, model: str, flavour: str
) -> None:
    if host != Host.MODULE:
        pytest.skip("the collector is the same for both hosts")
    model = f"{flavour}-{model[-30:]}"
    async with (
        simulator(flavour, "--model", model) as first,
        simulator(flavour, "--model", model) as second,
    ):
        pods = [rig.pod(model, each, **{"model.aibrix.ai/engine": flavour}) for each in (first, second)]
        await rig.routable(model, 2)
        for usages in ((0.2, 0.7), (0.8, 0.3)):
            for each, pod, usage in zip((first, second), pods, usages, strict=True):
                await pin(each, kv_cache_usage_perc=usage, gpu_cache_usage_perc=usage)
                await shows(rig, "kv_cache_usage_perc", pod, usage)
            for strategy in ("least-kv-cache", "least-gpu-cache"):
                assert set(await picks(client, model, strategy, 5)) == {pods[usages.index(min(usages))]}


async def test_the_engine_that_takes_longer_is_left(
    rig: Rig, host: Host, client: aiohttp.ClientSession, model: str
) -> None:
    """Nobody sets a metric: the engines' own histograms of the traffic so far tell which is the faster."""
    if host != Host.MODULE:
        pytest.skip("the collector is the same for both hosts")
    async with (
        simulator("vllm", "--model", model, "--ttft-seconds", "0.2") as slow,
        simulator("vllm", "--model", model, "--ttft-seconds", "0.01") as fast,
    ):
        pods = [rig.pod(model, each) for each in (slow, fast)]
        await rig.routable(model, 2)
        assert set(await picks(client, model, "random", 16)) == set(pods)
        for pod, least, most in zip(pods, (0.15, 0.005), (1, 0.15), strict=True):
            await eventually(lambda pod=pod, least=least, most=most: takes(rig, pod, least, most))
        assert set(await picks(client, model, "least-latency", 8)) == {pods[1]}
