"""`rollout history`: the revisions in Kubernetes, joined with the rollouts that Temporal remembers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import typer
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError

from activities.family import family_of
from cli.cluster import ClusterRefused, Where, connected, parse_target
from cli.rollout_tables import console, entry_lines, history_table, printed
from local.settings import LocalSettings
from planning.edits import fault_of
from planning.history import Entry, Run
from planning.history import history as entries_of
from planning.objects import name_of
from planning.wire import RolloutResult
from workflows.settings import OperatorSettings, SettingError, TemporalSettings
from workflows.temporal_setup import connect

ANSWER_SECONDS = 5.0
MOST_RUNS = 200
AT_ONCE = 8
_BARRED = {WorkflowExecutionStatus.CONTINUED_AS_NEW}


async def history(words: list[str], where: Where, *, revision: int, address: str, output: str | None) -> int:
    target = parse_target(words)
    if fault := fault_of("undo", target.kind):
        raise ClusterRefused(fault.replace(f"a {target.kind}", str(target), 1))
    async with connected(where) as cluster:
        family = await family_of(cluster.client, await cluster.get(target))
        workflow_id = f"{target.kind}/{cluster.namespace}/{target.name}"
    settings = _temporal(address)
    runs: Sequence[Run] = ()
    try:
        runs = await asyncio.wait_for(_runs(settings, workflow_id), ANSWER_SECONDS)
    except (RuntimeError, RPCError, TimeoutError) as error:
        said = str(error).splitlines()[0][:120] if str(error) else "no answer"
        typer.echo(f"Temporal at {settings.address} is away ({said}): the revisions alone are shown", err=True)
    entries = entries_of(family.live, family.revisions, runs)
    if revision:
        entry = _chosen(entries, revision, f"{target.kind}/{name_of(family.live)}")
        if not printed(entry, output):
            console().print(entry_lines(entry))
    elif not printed(entries, output):
        typer.echo(target.shown)
        console().print(history_table(entries))
    return 0


def _chosen(entries: Sequence[Entry], revision: int, shown: str) -> Entry:
    found = [entry for entry in entries if entry.revision == revision]
    if not found:
        numbers = ", ".join(str(entry.revision) for entry in entries if entry.revision) or "none"
        raise ClusterRefused(f"{shown} has no revision {revision}; there are {numbers}")
    return found[-1]


def _temporal(address: str) -> TemporalSettings:
    """The operator's variables; without an address that of the system on this machine."""
    try:
        settings = OperatorSettings.from_environment().temporal
    except SettingError as error:
        raise ClusterRefused(str(error)) from None
    if address or not os.environ.get("TEMPORAL_ADDRESS"):
        settings = replace(settings, address=address or LocalSettings.from_environment().temporal_address)
    return settings


async def _runs(settings: TemporalSettings, workflow_id: str) -> list[Run]:
    client = await connect(settings)
    prefix = f"rollout/{workflow_id}/"
    slots = asyncio.Semaphore(AT_ONCE)

    async def read(found: WorkflowExecution) -> Run:
        async with slots:
            return await _run_of(client, found, found.id.removeprefix(prefix))

    listed = client.list_workflows(f"WorkflowId STARTS_WITH '{prefix}'", limit=MOST_RUNS)
    executions = [found async for found in listed if found.status not in _BARRED]
    return list(await asyncio.gather(*(read(found) for found in executions)))


async def _run_of(client: Client, found: WorkflowExecution, revision: str) -> Run:
    run = Run(
        workflow_id=found.id,
        run_id=found.run_id,
        revision=revision,
        result=(found.status.name if found.status else "unknown").lower(),
        started_at=found.start_time,
        seconds=_seconds(found.start_time, found.close_time),
    )
    if found.status is not WorkflowExecutionStatus.COMPLETED:
        return run
    handle = client.get_workflow_handle(found.id, run_id=found.run_id, result_type=RolloutResult)
    try:
        result = await handle.result()
    except WorkflowFailureError:
        return run
    return run.model_copy(
        update={
            "result": result.result,
            "number": result.number,
            "message": result.message,
            "blocked": result.blocked,
            "steps": result.steps,
            "started_at": result.started_at or found.start_time,
            "seconds": _seconds(result.started_at or found.start_time, result.ended_at or found.close_time),
        }
    )


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 1) if end is not None else None
