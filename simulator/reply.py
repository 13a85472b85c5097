"""What a sequence will say: its tokens, planned whole before the first is shown.

canned    the pod and the served model, then seeded words: a caller sees which replica answered
random    seeded words
echo      the prompt again, from its beginning
dataset   the response kept for this prompt, from a file of prompts and responses; else as canned
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

from simulator.tokens import Tokenizer

FinishReason: TypeAlias = Literal["stop", "length"]
TextMode: TypeAlias = Literal["canned", "random", "echo", "dataset"]
TEXT_MODES: tuple[TextMode, ...] = ("canned", "random", "echo", "dataset")

SAMPLED_OUTPUT_TOKENS = (10, 500)
"""Range of the output length when neither the request nor a histogram sets it (the same as the AIBrix mock's)."""

_VOCABULARY = """
amber arch basin birch bridge brook canyon cedar cliff cloud coast copper coral crane delta dune ember falcon fern
field fjord flint forest garden grove harbor hazel heron hill island ivory ledge linen maple marble meadow mesa moss
otter pebble pine plain quartz rain reed ridge river sage shore silver slate spruce stone summit valley willow split
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """The tokens of one sequence as text pieces and as ids; with a stop string the pieces after it are empty."""

    pieces: tuple[str, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    tokens: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request says about the length and the end of its reply."""

    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthHistogram:
    """Output lengths with their weights; empty means a uniform draw from `SAMPLED_OUTPUT_TOKENS`."""

    lengths: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def draw(self, random: Random) -> int:
        if not self.lengths:
            return random.randint(*SAMPLED_OUTPUT_TOKENS)
        totals = list(accumulate(self.weights))
        return self.lengths[bisect_left(totals, random.uniform(0, totals[-1]))]


@dataclass(kw_only=True)
class Author:
    """Plans replies."""

    tokenizer: Tokenizer
    pod: str
    mode: TextMode = "canned"
    lengths: LengthHistogram = field(default_factory=LengthHistogram)
    responses: Mapping[tuple[int, ...], str] = field(default_factory=dict)
    """By the prompt's ids."""

    def __post_init__(self) -> None:
        encoded = ((f" {word}", self.tokenizer.encode(f" {word}")) for word in _VOCABULARY.split())
        whole = [(text, tokens[0]) for text, tokens in encoded if len(tokens) == 1]
        self._words = whole or [(" word", self.tokenizer.encode(" word")[0])]
        self._openings: dict[str, list[tuple[str, int]]] = {}

    def plan(self, prompt: Sequence[int], model: str, wish: Wish, room: int, random: Random) -> Reply:
        """Return a reply that ends where the request, its own length or the context say; at most `room` tokens."""
        given = self._given(prompt)
        natural = len(given) if given is not None else self.lengths.draw(random)
        natural = max(natural, wish.min_tokens, 1)
        if wish.max_tokens is None:
            wanted = room if wish.ignore_eos else natural
        elif given is not None and not wish.ignore_eos:
            wanted = min(wish.max_tokens, natural)
        else:
            wanted = wish.max_tokens
        length = min(wanted, room)
        ends = not wish.ignore_eos and length == natural and (wish.max_tokens is None or given is not None)
        drawn = self._text(model, given, length, random)
        reply = Reply(
            tuple(piece for piece, _ in drawn), "stop" if ends else "length", None, tuple(token for _, token in drawn)
        )
        return cut_at_stop(reply, wish.stop, wish.min_tokens) if wish.stop else reply

    def say(self, text: str, wish: Wish, room: int) -> Reply:
        """Return a reply of exactly this text, cut where the request or the context end it."""
        pairs = self._pairs(self.tokenizer.encode(text))
        said = pairs[: min(room, wish.max_tokens or room)]
        ends: FinishReason = "stop" if len(said) == len(pairs) else "length"
        return Reply(tuple(piece for piece, _ in said), ends, None, tuple(token for _, token in said))

    def _given(self, prompt: Sequence[int]) -> list[tuple[str, int]] | None:
        if self.mode == "echo":
            return self._pairs(prompt)
        if self.mode == "dataset" and (response := self.responses.get(tuple(prompt))) is not None:
            return self._pairs(self.tokenizer.encode(response))
        return None

    def _text(
        self, model: str, given: list[tuple[str, int]] | None, length: int, random: Random
    ) -> list[tuple[str, int]]:
        opening = given
        if opening is None:
            opening = [] if self.mode == "random" else self._opening(model)
        missing = max(length - len(opening), 0)
        return [*opening[:length], *random.choices(self._words, k=missing)]

    def _opening(self, model: str) -> list[tuple[str, int]]:
        opening = self._openings.get(model)
        if opening is None:
            opening = self._openings[model] = self._pairs(self.tokenizer.encode(f"{self.pod} serves {model}:"))
        return opening

    def _pairs(self, tokens: Sequence[int]) -> list[tuple[str, int]]:
        return [(self.tokenizer.decode((token,)), token) for token in tokens]


def read_dataset(path: Path, tokenizer: Tokenizer) -> dict[tuple[int, ...], str]:
    """Return the responses by prompt in a file of JSON lines {"prompt": ..., "response": ...}; raises ValueError."""
    responses: dict[tuple[int, ...], str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
            responses[tuple(tokenizer.encode(entry["prompt"]))] = str(entry["response"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a prompt with its response") from error
    return responses


def cut_at_stop(reply: Reply, stop: Sequence[str], min_tokens: int = 0) -> Reply:
    """Return `reply` ended by the stop string that completes first after `min_tokens`; the string is not shown."""
    text = reply.text
    earliest = sum(map(len, reply.pieces[:min_tokens]))
    found = [
        (start + len(string), start, string)
        for string in stop
        if (start := text.find(string, max(earliest - len(string) + 1, 0) if earliest else 0)) >= 0
    ]
    if not found:
        return reply
    end, start, string = min(found)
    pieces = _clip(reply.pieces, shown=start, generated=end)
    return Reply(pieces, "stop", string, reply.tokens[: len(pieces)])


def _clip(pieces: Sequence[str], *, shown: int, generated: int) -> tuple[str, ...]:
    """Return the pieces that begin before character `generated`, with their text cut at character `shown`."""
    kept: list[str] = []
    position = 0
    for piece in pieces:
        if position >= generated:
            break
        kept.append(piece[: max(shown - position, 0)])
        position += len(piece)
    return tuple(kept)
