"""The interactive commands. Failures that a person can mend are one line a thing and exit code 1.

What a single command needs is imported by that command: `status` and `logs` are to answer at once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli import rollout, route
from cli.main import run_process
from local.errors import LocalError
from local.settings import LocalSettings
from local.supervisor.client import SupervisorClient
from local.supervisor.logs import log_path

PLAIN_WIDTH = 140

app = typer.Typer(
    name="brixflow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run brixflow on one machine, look at it, and break it on purpose.",
)
app.add_typer(rollout.app)
app.add_typer(route.app, name="route")
console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)

PartName = Annotated[str, typer.Argument(metavar="PART", help="A part's name, as `brixflow status` shows it.")]


def run() -> None:
    """Run the command line; what a person can mend is printed without a traceback."""
    logging.basicConfig(level=logging.WARNING)
    try:
        app(prog_name="brixflow")
    except LocalError as error:
        for line in str(error).splitlines():
            typer.echo(f"brixflow: {line}", err=True)
        raise SystemExit(1) from None


def _settings() -> LocalSettings:
    return LocalSettings.from_environment()


@app.command()
def up(
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Use this existing cluster; its pods must be reachable from here.")
    ] = None,
    temporal_address: Annotated[str | None, typer.Option(help="Use the Temporal at this host:port.")] = None,
    no_sample: Annotated[bool, typer.Option("--no-sample", help="Do not apply the sample or wait for it.")] = False,
) -> None:
    """Start the whole system on this machine, or finish starting it; print how to use it."""
    from local.durations import Durations
    from local.progress import Steps
    from local.up import up as bring_up

    if kubeconfig is not None:
        os.environ["BRIXFLOW_EXTERNAL_KUBECONFIG"] = str(kubeconfig)
    if temporal_address is not None:
        os.environ["BRIXFLOW_EXTERNAL_TEMPORAL"] = temporal_address
    settings = _settings()
    if settings.external_kubeconfig is not None:
        console.print("An existing cluster runs its own pods: no control plane and no node agent are started here.")
    bring_up(settings, Steps(console, Durations(settings.home / "durations.json")), with_sample=not no_sample)


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also forget the state: objects, histories, logs.")] = False,
) -> None:
    """End every process, namespace, bridge and mount of the system. The state stays."""
    from local.down import down as take_down
    from local.down import purge as forget_state

    settings = _settings()
    ran = take_down(settings, _say_what_ended)
    if purge:
        forget_state(settings)
    console.print("Everything is down." if ran else f"Nothing ran under {settings.home}.", highlight=False)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show each part: its address, and whether it is healthy or why not. Exit code 1 if one is not."""
    from cli.table import status_table

    parts = SupervisorClient(_settings().home).status()
    if as_json:
        typer.echo(json.dumps({"parts": parts}, indent=2))
    else:
        console.print(status_table(parts))
    if not all(part["healthy"] for part in parts):
        raise SystemExit(1)


@app.command()
def logs(
    part: PartName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 200,
) -> None:
    """Print the log of a part, or of the supervisor."""
    from cli.follow import print_log

    path = log_path(_settings().home, part)
    if not path.exists():
        known = ", ".join(sorted(entry.stem for entry in path.parent.glob("*.log"))) or "none"
        raise LocalError(f"there is no log of {part}; there are: {known}")
    print_log(path, lines, follow=follow)


@app.command()
def doctor() -> None:
    """Look at this machine and say what it lacks. Exit code 1 if something is lacking."""
    from cli.table import finding_table
    from local.preflight import examine_machine
    from local.up import running_sessions

    settings = _settings()
    findings = examine_machine(settings, running_sessions(settings))
    console.print(finding_table(findings))
    if any(finding.is_lack for finding in findings):
        raise SystemExit(1)


@app.command()
def start(part: PartName) -> None:
    """Start a part that was stopped or is held down, and wait until it is healthy."""
    _by_hand("start", part)


@app.command()
def stop(part: PartName) -> None:
    """Stop a part and leave it stopped."""
    _by_hand("stop", part)


@app.command()
def restart(
    part: PartName,
    variables: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A variable that counts until its next restart."),
    ] = None,
) -> None:
    """Stop a part, start it, and wait until it is healthy."""
    pairs = [_pair(text) for text in variables or []]
    _by_hand("restart", part, set=dict(pairs))


@app.command()
def kill(
    part: PartName,
    hold: Annotated[str, typer.Option(help="How long to keep it down, such as 60s or 2m.")] = "0s",
) -> None:
    """Kill a part at once (SIGKILL), to see what its loss does. The supervisor starts it again."""
    _by_hand("kill", part, hold_seconds=_seconds(hold))


@app.command("operator")
def operator_process() -> None:
    """Run the operator in the foreground."""
    run_process("operator")


@app.command("gateway")
def gateway_process() -> None:
    """Run the gateway in the foreground."""
    run_process("gateway")


@app.command("node-agent")
def node_agent_process() -> None:
    """Run the node agent in the foreground."""
    run_process("node-agent")


@app.command("simulate")
def simulate_process() -> None:
    """Run a simulated engine in the foreground."""
    run_process("simulate")


def _say_what_ended(event: dict[str, Any]) -> None:
    if event["event"] == "stopped":
        console.print(f"  {event['part']} has ended", highlight=False)


def _by_hand(verb: str, part: str, **more: object) -> None:
    SupervisorClient(_settings().home).by_hand(verb, part, **more)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    return name, value


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration: write 60s or 2m", param_hint="--hold")
    return float(match[1]) * (60 if match[2] == "m" else 1)
