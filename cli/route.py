"""`brixflow route explain`: what the gateway would do with a request now, against the live segment."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from local.errors import LocalError

if TYPE_CHECKING:
    from csrc.records import Explanation

CHAT = "/v1/chat/completions"
BYTES_PER_TOKEN = 4
PLAIN_WIDTH = 140
MEANINGS = {
    "CHOSEN": "",
    "NO_STRATEGY": "no strategy: the proxy's own load balancing decides (request header `model`)",
    "UNKNOWN_MODEL": "400: the model does not exist",
    "NO_READY_POD": "503: the model has no pod that may be chosen",
    "BAD_STRATEGY": "400: incorrect routing strategy",
    "BAD_FILTER": "400: external-filter is not a label selector",
    "NO_CANDIDATE": "503: external-filter leaves no pod",
    "OVERLOADED": "503: nothing has been published yet",
    "TOO_MANY": "429: the model has too many requests in flight",
    "CLAIMED": "503: no pod serves the model: its ModelClaim activates it, lets it sleep, or has failed",
}

app = typer.Typer(no_args_is_help=True, help="Why a request goes where it goes.")
console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


@app.callback()
def route() -> None:
    """Why a request goes where it goes."""


@app.command()
def explain(
    model: Annotated[str, typer.Option(help="The model; else the one that the body names.")] = "",
    header: Annotated[list[str] | None, typer.Option(metavar="NAME: VALUE", help="A header of the request.")] = None,
    path: Annotated[str, typer.Option(help="The path of the request.")] = CHAT,
    segment: Annotated[Path | None, typer.Option(help="The gateway's segment; else the running system's.")] = None,
) -> None:
    """Print candidates, scores and the pick of a request whose body is read from standard input. Nothing is counted."""
    body = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    named, tokens = _body(path, body)
    told = _explain(_segment(segment), model or named, headers_of(header or ()), tokens)
    console.print(f"model {model or named}, strategy {told.strategy or '-'}, prompt of about {tokens} tokens")
    if told.rows:
        console.print(candidates(told))
    if meaning := MEANINGS[told.verdict.name]:
        raise LocalError(meaning)


def headers_of(lines: Sequence[str]) -> dict[str, str]:
    """`Name: value` lines by their names in lower case. Raises LocalError."""
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise LocalError(f"{line!r} is no header: write it as `Name: value`")
        found[name.strip().lower()] = value.strip()
    return found


def candidates(told: Explanation) -> Table:
    """One row a candidate, the picked one first, then by the score that decided."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("pod", no_wrap=True)
    table.add_column("address", no_wrap=True)
    table.add_column("requests", justify="right")
    whole = sum(weight for _, weight in told.items) or 1
    is_list = len(told.items) > 1
    for name, weight in told.items:
        table.add_column(f"{name} {weight / whole:.0%}" if is_list else name, justify="right")
    if is_list:
        table.add_column("score", justify="right")
    for row in sorted(told.rows, key=lambda each: (not each.picked, -each.final, each.pod)):
        scores = ["-" if score is None else f"{score:.4g}" for score in row.scores]
        final = [f"{row.final:.4f}"] if is_list else []
        table.add_row("->" if row.picked else "", row.pod, row.address, f"{row.load:g}", *scores, *final)
    table.caption = f"{told.candidates} candidates; - means no data"
    return table


def _body(path: str, body: bytes) -> tuple[str, int]:
    """Model and tokens of the prompt, as the gateway sees them."""
    from csrc.pieces import scan

    if not body.strip():
        return "", 0
    found = scan(path, body, capacity=max(len(body), 1))
    if not found.valid:
        raise LocalError("the body is no JSON object")
    return found.model, -(-len(found.text) // BYTES_PER_TOKEN)


def _segment(given: Path | None) -> Path:
    from local.settings import LocalSettings

    return given or LocalSettings.from_environment().segment_path


def _explain(segment: Path, model: str, headers: Mapping[str, str], tokens: int) -> Explanation:
    from csrc.binding import LimitReached, SegmentForeign, SegmentMissing, SegmentReader

    if not model:
        raise LocalError("no model: name it with --model, or give a body that does")
    try:
        with SegmentReader.open(segment, flows=1) as reader:
            return reader.explain(
                model,
                headers.get("routing-strategy", ""),
                headers.get("external-filter", ""),
                session_id=headers.get("x-session-id", ""),
                session_key=headers.get("x-aibrix-session-key", ""),
                user=headers.get("user", ""),
                prompt_tokens=tokens,
                random=time.monotonic_ns(),
            )
    except SegmentMissing:
        raise LocalError(f"there is no segment at {segment}: is the gateway running?") from None
    except (SegmentForeign, LimitReached, OSError) as error:
        raise LocalError(f"the segment at {segment} cannot be read: {error!r}") from None
