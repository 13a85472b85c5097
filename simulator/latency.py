"""How long a generation takes: the seam where latency models plug in.

A model turns one piece of work and the load beside it into a `Pace`. It never sleeps and keeps no clock, so the same
seed gives the same pace.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol

CLOCK_TOLERANCE_SECONDS = 1e-6
"""A timer may fire this much early; a token due within it counts as due."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one sequence asks of the engine."""

    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Pace:
    """When the tokens of one sequence become visible, counted from its admission."""

    first_token_seconds: float
    inter_token_seconds: float
    output_tokens: int

    @property
    def total_seconds(self) -> float:
        return self.due_seconds(self.output_tokens - 1)

    def due_seconds(self, index: int) -> float:
        """Return when token `index` (from 0) is due."""
        return self.first_token_seconds + index * self.inter_token_seconds

    def visible(self, elapsed_seconds: float) -> int:
        """Return how many tokens are due after `elapsed_seconds`."""
        past_first = elapsed_seconds - self.first_token_seconds + CLOCK_TOLERANCE_SECONDS
        if past_first < 0:
            return 0
        if self.inter_token_seconds <= 0:
            return self.output_tokens
        return int(min(self.output_tokens, 1 + past_first / self.inter_token_seconds))


class LatencyModel(Protocol):
    """Anything that gives a pace to a piece of work."""

    @property
    def capacity(self) -> int:
        """Sequences that the engine serves at full speed."""
        ...

    def pace(self, work: Work, inflight: int, random: Random, /) -> Pace:
        """Return the pace of `work` when `inflight` sequences run, itself included."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityAwareLatency:
    """The latency of AIBrix's mock engine, spread over the tokens instead of slept before the first byte.

    Time to first token is base + prompt/1000 * prefill + overload * penalty. The last token comes at
    max(base latency, first token + output * decode + U(0, jitter)). A single token comes at that total.
    """

    capacity: int = 1
    base_latency_seconds: float = 0.05
    first_token_base_seconds: float = 0.03
    prefill_seconds_per_1k_tokens: float = 0.02
    decode_seconds_per_token: float = 0.002
    overload_penalty_seconds: float = 0.08
    jitter_seconds: float = 0.01

    def pace(self, work: Work, inflight: int, random: Random, /) -> Pace:
        prefill = work.prompt_tokens / 1000 * self.prefill_seconds_per_1k_tokens
        penalty = max(inflight - self.capacity, 0) * self.overload_penalty_seconds
        first = self.first_token_base_seconds + prefill + penalty
        decode = work.output_tokens * self.decode_seconds_per_token
        total = max(self.base_latency_seconds, first + decode + random.uniform(0, self.jitter_seconds))
        return spread(first, total, work.output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLatency:
    """Every request takes the same time, whatever its size and the load."""

    capacity: int = 1
    first_token_seconds: float = 0.03
    total_seconds: float = 0.2

    def pace(self, work: Work, _inflight: int, _random: Random, /) -> Pace:
        return spread(min(self.first_token_seconds, self.total_seconds), self.total_seconds, work.output_tokens)


def spread(first_seconds: float, total_seconds: float, output_tokens: int) -> Pace:
    """Return an even pace whose first token comes at `first_seconds` and whose last at `total_seconds`."""
    if output_tokens <= 1:
        return Pace(total_seconds, 0.0, output_tokens)
    return Pace(first_seconds, (total_seconds - first_seconds) / (output_tokens - 1), output_tokens)
