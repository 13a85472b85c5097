"""`rollout pause|resume|undo|restart`: one edit of the object, by the same pure function that the workflows use."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from activities.edits import EditRefused
from activities.edits import edit as edit_object
from activities.errors import KubeNotFound
from activities.family import family_of
from cli.cluster import Cluster, ClusterRefused, Target, Where, connected, parse_target
from cli.rollout_tables import console, forecast_lines, printed
from planning.edits import Order, Patch, Refused, Verb, applied, change_for
from planning.objects import format_time
from planning.wire import Ref


async def edit(
    verb: Verb, words: list[str], where: Where, *, to_revision: int = 0, roles: tuple[str, ...] = (),
    dry_run: bool = False, output: str | None = None,
) -> int:  # fmt: skip
    """Exit code 0 when the object says what was asked for, also when it did so before."""
    target = parse_target(words)
    order = Order(verb, format_time(datetime.now(UTC)), to_revision, roles=roles)
    async with connected(where) as cluster:
        if dry_run:
            return await _foretell(cluster, target, order, output)
        ref = Ref(kind=target.kind, namespace=cluster.namespace, name=target.name, uid="")
        try:
            live, did = await edit_object(cluster.client, target.resource, ref, order)
        except KubeNotFound as error:
            raise (cluster.missing(target) if error.about == target.name else error) from None
        except EditRefused as refusal:
            raise ClusterRefused(str(refusal)) from None
    if not printed(live, output):
        typer.echo(f"{target.shown} {did.removeprefix(f'{target} ')}")
    return 0


async def _foretell(cluster: Cluster, target: Target, order: Order, output: str | None) -> int:
    family = await family_of(cluster.client, await cluster.get(target))
    change = change_for(order, family.live, family.revisions)
    if isinstance(change, Refused):
        raise ClusterRefused(change.why)
    wanted = applied(family.live, change.body) if isinstance(change, Patch) else family.live
    found = family.forecast(wanted)
    if not printed(found, output):
        typer.echo(f"{target.shown} {change.said} (dry run)")
        console().print(forecast_lines(found))
    return 0
