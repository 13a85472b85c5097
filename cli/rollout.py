"""`brixflow rollout`: what `kubectl rollout` does for Deployments, for StormServices, RoleSets and PodSets.

Every command reads and edits the object with the caller's own credentials, so it works without Temporal, and RBAC and
audit see who did it. Temporal adds what a history remembers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cli.cluster import Where

app = typer.Typer(
    name="rollout",
    no_args_is_help=True,
    help="Follow, foretell, pause, undo and restart rollouts of StormServices, RoleSets and PodSets.",
)


class Format(StrEnum):
    json = "json"
    yaml = "yaml"


Words = Annotated[list[str], typer.Argument(metavar="KIND/NAME", help="Such as stormservice/llama.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace; the context's by default.")]
Kubeconfig = Annotated[str, typer.Option("--kubeconfig", help="Path of the kubeconfig.")]
Context = Annotated[str, typer.Option("--context", help="Context of the kubeconfig.")]
Output = Annotated[Format | None, typer.Option("--output", "-o", help="Print this format.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it would replace.")]
Values = Annotated[bool, typer.Option("--show-values", help="Show changed arguments and variables in clear.")]


def _where(namespace: str, kubeconfig: str, context: str) -> Where:
    from cli.cluster import Where

    return Where(namespace, kubeconfig, context)


def _run(work: Coroutine[Any, Any, int]) -> None:
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        code = 130
    if code:
        raise SystemExit(code)


@app.command()
def status(
    words: Words,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until it is done or has failed.")] = False,
    timeout: Annotated[str, typer.Option(help="Give up following after so long, such as 90s or 5m.")] = "",
    output: Output = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Show how far a rollout is, and which pod blocks it. Exit code 1 when it has failed or the timeout has passed."""
    from cli.rollout_status import status as work

    _run(work(words, _where(namespace, kubeconfig, context), watch=watch, timeout=timeout, output=output))


@app.command()
def history(
    words: Words,
    revision: Annotated[int, typer.Option("--revision", min=0, help="Show this revision in detail.")] = 0,
    temporal_address: Annotated[str, typer.Option(help="Temporal's host:port; TEMPORAL_ADDRESS by default.")] = "",
    output: Output = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Show the revisions: when and why each was rolled out, how that ended and how long it took."""
    from cli.rollout_history import history as work

    where = _where(namespace, kubeconfig, context)
    _run(work(words, where, revision=revision, address=temporal_address, output=output))


@app.command()
def plan(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND/NAME]", help="Such as stormservice/llama.")
    ] = None,
    file: Annotated[Path | None, typer.Option("-f", "--filename", help="A manifest to be applied; - reads it.")] = None,
    to_revision: Annotated[int | None, typer.Option(min=0, help="An undo to this revision; 0: the previous.")] = None,
    values: Values = False,
    output: Output = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Say which pods a manifest or an undo would replace, and why; without either, what is left to do."""
    from cli.rollout_plan import plan as work

    where = _where(namespace, kubeconfig, context)
    _run(work(words or [], where, file=file, to_revision=to_revision, values=values, output=output))


@app.command()
def pause(
    words: Words, output: Output = None, namespace: Namespace = "", kubeconfig: Kubeconfig = "", context: Context = ""
) -> None:
    """Roll nothing more out until it is resumed; scaling and repair go on."""
    from cli.rollout_edits import edit as work

    _run(work("pause", words, _where(namespace, kubeconfig, context), output=output))


@app.command()
def resume(
    words: Words, output: Output = None, namespace: Namespace = "", kubeconfig: Kubeconfig = "", context: Context = ""
) -> None:
    """Go on with a paused rollout, or try one again that ran out of time."""
    from cli.rollout_edits import edit as work

    _run(work("resume", words, _where(namespace, kubeconfig, context), output=output))


@app.command()
def undo(
    words: Words,
    to_revision: Annotated[int, typer.Option(min=0, help="The revision to go back to; 0: the previous one.")] = 0,
    dry_run: DryRun = False,
    output: Output = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Write the template of an older revision back. Replicas stay as they are."""
    from cli.rollout_edits import edit as work

    where = _where(namespace, kubeconfig, context)
    _run(work("undo", words, where, to_revision=to_revision, dry_run=dry_run, output=output))


@app.command()
def restart(
    words: Words,
    role: Annotated[list[str] | None, typer.Option("--role", help="Only this role; can be repeated.")] = None,
    dry_run: DryRun = False,
    output: Output = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Replace the pods within the budget, with the same template."""
    from cli.rollout_edits import edit as work

    where = _where(namespace, kubeconfig, context)
    _run(work("restart", words, where, roles=tuple(role or ()), dry_run=dry_run, output=output))
