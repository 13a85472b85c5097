"""The node agent's process: `brixflow node-agent`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Any

import uvloop

from local.node.addresses import AddressPool
from local.node.api import ApiClient
from local.node.build import build_shim
from local.node.cluster_dns import ClusterDns, nameservers
from local.node.context import NodeContext
from local.node.environment import NodeFacts
from local.node.images import ImageTable
from local.node.machine import add_bridge, check_machine, overlay_works
from local.node.manager import PodManager
from local.node.objects import ObjectSource
from local.node.recorder import EventRecorder
from local.node.registration import Registration, allocatable
from local.node.server import KubeletServer
from local.node.settings import NodeSettings

log = logging.getLogger(__name__)

CONCURRENT_LAUNCHES = 4


async def serve(settings: NodeSettings) -> bool:
    """Runs the node until SIGTERM or SIGINT; the pods run on after it. False when a part of it failed."""
    shim = build_shim(settings.directory / "shim")
    add_bridge(shim, settings)
    api = ApiClient.from_kubeconfig(settings.kubeconfig)
    names = ClusterDns(api, str(settings.bridge_address), nameservers())
    names_served = await names.start()
    context = NodeContext(
        settings=settings,
        api=api,
        images=ImageTable(settings.images),
        objects=ObjectSource(api),
        events=EventRecorder(api, settings.name),
        addresses=AddressPool(settings.pod_range),
        facts=NodeFacts(settings.name, str(settings.bridge_address), allocatable(settings)),
        shim_program=shim,
        launches=asyncio.Semaphore(CONCURRENT_LAUNCHES),
        root_in_memory=not overlay_works(settings.directory),
        cluster_dns=names.address if names_served else None,
    )
    manager = PodManager(context)
    server = KubeletServer(settings, manager)
    await server.start()
    parts = [Registration(settings, api).run(), manager.run(), manager.refresh_volumes(), context.events.run()]
    parts += [names.run()] if names_served else []
    stopped = await _until_stopped([asyncio.create_task(part) for part in parts])
    await manager.close()
    await server.close()
    await names.close()
    await api.close()
    return stopped


async def _until_stopped(tasks: list[asyncio.Task[Any]]) -> bool:
    """Waits for a signal; false when a part failed instead."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    stop = asyncio.create_task(stopped.wait())
    everything: list[asyncio.Task[Any]] = [stop, *tasks]
    await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    failures = [
        result for result in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(result, Exception)
    ]
    for failure in failures:
        log.error("node_part_failed", exc_info=failure)
    return not failures


def main() -> None:
    """Entry of the process; what the machine lacks is said in one line before anything starts."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    missing = check_machine()
    if missing:
        sys.exit("node agent: " + "; ".join(missing))
    settings = NodeSettings.from_environment()
    fields = (settings.name, settings.port, settings.bridge, settings.pod_range)
    log.info("node_agent_starts node=%s port=%d bridge=%s pods=%s", *fields)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sys.exit(0 if runner.run(serve(settings)) else 1)
    except OSError as error:
        sys.exit(f"node agent: {error}")
