"""What a sequence will say: its tokens as text, planned whole before the first is shown.

The text begins with the pod and the served model, so that a caller sees which replica answered; seeded words follow
until the length is reached. Pod and model count as one token each, so that three tokens hold both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

FinishReason = Literal["stop", "length"]

SAMPLED_OUTPUT_TOKENS = (10, 500)
"""Range of the output length when the request sets none (the same as the AIBrix mock's)."""

_VOCABULARY = """
amber arch basin birch bridge brook canyon cedar cliff cloud coast copper coral crane delta dune ember falcon fern
field fjord flint forest garden glacier granite grove harbor hazel heron hill island ivory juniper lagoon lantern
larch ledge linen maple marble meadow mesa moss orchard otter pebble pine plain quartz rain reed ridge river saffron
sage shore silver slate spruce stone summit thicket valley willow split
"""
_WORDS = tuple(f" {word}" for word in _VOCABULARY.split())


@dataclass(frozen=True, slots=True)
class Reply:
    """The tokens of one sequence as text pieces; with a stop string the pieces after it are empty."""

    pieces: tuple[str, ...]
    finish_reason: FinishReason
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def plan_reply(
    *, pod: str, model: str, max_tokens: int | None, room: int, stop: Sequence[str], random: Random
) -> Reply:
    """Return a reply of `max_tokens` tokens, or of a sampled natural length, never longer than `room` tokens."""
    wanted = random.randint(*SAMPLED_OUTPUT_TOKENS) if max_tokens is None else max_tokens
    length = min(wanted, room)
    opening = (pod, " serves", f" {model}:")
    pieces = (*opening[:length], *random.choices(_WORDS, k=max(length - len(opening), 0)))
    natural_end = max_tokens is None and wanted <= room
    reply = Reply(pieces, "stop" if natural_end else "length")
    return cut_at_stop(reply, stop) if stop else reply


def cut_at_stop(reply: Reply, stop: Sequence[str]) -> Reply:
    """Return `reply` ended by the stop string that completes first; the string itself is not shown."""
    text = reply.text
    found = [(start + len(string), start, string) for string in stop if (start := text.find(string)) >= 0]
    if not found:
        return reply
    end, start, string = min(found)
    return Reply(_clip(reply.pieces, shown=start, generated=end), "stop", string)


def _clip(pieces: Sequence[str], *, shown: int, generated: int) -> tuple[str, ...]:
    """Return the pieces that begin before character `generated`, with their text cut at character `shown`."""
    kept, position = [], 0
    for piece in pieces:
        if position >= generated:
            break
        kept.append(piece[: max(shown - position, 0)])
        position += len(piece)
    return tuple(kept)
