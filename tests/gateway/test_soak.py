"""Many requests with every kind of ending: nothing is left in flight, nothing is counted twice, memory stays."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.settings import Host
from tests.gateway.load import Programs, ended_at_last, resident
from tests.gateway.parts import Engine, eventually
from tests.gateway.rig import Rig
from tests.gateway.test_accounting import FAIL, SUCCESS

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.asyncio(loop_scope="session")
CONNECTIONS, CANCELS, ERRORS = 32, 100, 50
WARM_UP = 20_000
GROWTH = 1.05
COLLECTOR_BYTES = 200 * 1024 * 1024


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs.built(tmp_path_factory.mktemp("load"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def swift(programs: Programs) -> AsyncIterator[list[Engine]]:
    """Four engines in C."""
    with ended_at_last([await programs.start_engine() for _ in range(4)]) as engines:
        yield engines


async def endings(rig: Rig) -> tuple[float, float, float]:
    """Requests begun, ended well, ended otherwise, so far."""
    return (
        await rig.metric("gateway_request_total"),
        await rig.metric(SUCCESS),
        await rig.metric(FAIL),
    )


async def memory(rig: Rig) -> dict[str, int]:
    assert rig.envoy is not None
    pids = {"envoy": rig.envoy.process.pid, **rig.children()}
    return {name: resident(pid) for name, pid in pids.items()}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("requests", [3000, pytest.param(200_000, marks=pytest.mark.slow)])
async def test_every_ending_of_many_requests_is_counted_once_and_leaves_nothing(
    rig: Rig, programs: Programs, swift: list[Engine], model: str, requests: int
) -> None:
    for engine in swift:
        rig.pod(model, engine.host)
    await rig.routable(model, len(swift))
    if requests > WARM_UP:
        await programs.ask("mixed", rig.port, model, CONNECTIONS, WARM_UP, CANCELS, ERRORS, 1)
        await eventually(rig.is_quiet, within=10)
    before, held = await endings(rig), await memory(rig)
    anomalies = await rig.metric("brixflow_segment_anomalies_total")
    found = await programs.ask("mixed", rig.port, model, CONNECTIONS, requests, CANCELS, ERRORS, 2)
    await eventually(rig.is_quiet, within=10)
    begun, well, ill = (after - earlier for after, earlier in zip(await endings(rig), before, strict=True))
    assert found["wrong"] == 0, found
    assert found["whole"] + found["cancelled"] + found["failed"] == requests
    assert begun == well + ill
    unheard = (
        requests - begun
    )  # given up by the client before ext_proc heard of it, or before this soak and heard in it
    least, most = (0, 0) if rig.settings.host == Host.MODULE else (-CONNECTIONS, found["cancelled"])
    assert least <= unheard <= most, (begun, found)
    assert found["whole"] <= well <= found["whole"] + found["cancelled"]
    assert await rig.metric("brixflow_segment_anomalies_total") == anomalies
    assert held["collector"] < COLLECTOR_BYTES
    if requests > WARM_UP:
        held_now = await memory(rig)
        logger.info("event=soaked counts=%s held=%s after=%s", found, held, held_now)
        assert not {name: (size, held_now[name]) for name, size in held.items() if held_now[name] > GROWTH * size}


@pytest.mark.parametrize(
    ("streams", "chunks", "gap"), [(300, 3, 0.2), pytest.param(4000, 20, 1.0, marks=pytest.mark.slow)]
)
async def test_many_streams_at_once_all_arrive_whole(
    rig: Rig, programs: Programs, swift: list[Engine], model: str, streams: int, chunks: int, gap: float
) -> None:
    for engine in swift:
        rig.pod(model, engine.host)
    await rig.routable(model, len(swift))
    found = await programs.ask("streams", rig.port, model, streams, chunks, gap)
    logger.info("event=streamed counts=%s memory=%s", found, await memory(rig))
    assert (found["streams"], found["failed"]) == (streams, 0), found
    assert (await memory(rig))["collector"] < COLLECTOR_BYTES
    await eventually(rig.is_quiet, within=10)
    assert await rig.metric(SUCCESS, model=model) == streams
