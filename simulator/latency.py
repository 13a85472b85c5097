"""How long a sequence takes when each has a pace of its own: the mock, constant and per-token models.

A model turns a piece of work and the load beside it into seconds. It never sleeps and keeps no clock, so the same seed
gives the same times. Models that time a whole step of the engine instead are in `step_latency`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol

LARGEST_DEVIATION = 0.7
"""A drawn time stays within this share of its mean."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one sequence asks of the engine; cached tokens are part of the prompt and need no prefill."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds from admission to the first token, and between any two after it."""

    first_token_seconds: float
    inter_token_seconds: float


class PacedModel(Protocol):
    """Anything that gives a pace to a piece of work."""

    @property
    def capacity(self) -> int:
        """Sequences that the engine serves at full speed."""
        ...

    @property
    def steady(self) -> bool:
        """Whether the gap between tokens is drawn without chance."""
        ...

    def pace(self, work: Work, running: int, random: Random, /) -> Pace:
        """Return the pace of `work` when `running` sequences run, itself included."""
        ...

    def gap(self, pace: Pace, running: int, random: Random, /) -> float:
        """Return the seconds to the next token of a sequence of that pace."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MockLatency:
    """The latency of AIBrix's mock engine, spread over the tokens instead of slept before the first byte.

    Time to first token is base + prompt/1000 * prefill + overload * penalty. The last token comes at
    max(base latency, first token + output * decode + U(0, jitter)). A single token comes at that total.
    Cached tokens save nothing, as the mock has no cache.
    """

    capacity: int = 1
    base_latency_seconds: float = 0.05
    first_token_base_seconds: float = 0.03
    prefill_seconds_per_1k_tokens: float = 0.02
    decode_seconds_per_token: float = 0.002
    overload_penalty_seconds: float = 0.08
    jitter_seconds: float = 0.01

    @property
    def steady(self) -> bool:
        return True

    def pace(self, work: Work, running: int, random: Random, /) -> Pace:
        prefill = work.prompt_tokens / 1000 * self.prefill_seconds_per_1k_tokens
        penalty = max(running - self.capacity, 0) * self.overload_penalty_seconds
        first = self.first_token_base_seconds + prefill + penalty
        decode = work.output_tokens * self.decode_seconds_per_token
        total = max(self.base_latency_seconds, first + decode + random.uniform(0, self.jitter_seconds))
        return spread(first, total, work.output_tokens)

    def gap(self, pace: Pace, _running: int, _random: Random, /) -> float:
        return pace.inter_token_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedDuration:
    """Every request takes the same time, whatever its size and the load: the mock with capacity awareness off."""

    capacity: int = 1
    first_token_seconds: float = 0.03
    total_seconds: float = 0.2

    @property
    def steady(self) -> bool:
        return True

    def pace(self, work: Work, _running: int, _random: Random, /) -> Pace:
        return spread(min(self.first_token_seconds, self.total_seconds), self.total_seconds, work.output_tokens)

    def gap(self, pace: Pace, _running: int, _random: Random, /) -> float:
        return pace.inter_token_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantLatency:
    """Time to first token and between tokens are normal around fixed means, at most 70 % off."""

    capacity: int = 1
    first_token_seconds: float = 0.0
    inter_token_seconds: float = 0.0
    first_token_deviation_seconds: float = 0.0
    inter_token_deviation_seconds: float = 0.0

    @property
    def steady(self) -> bool:
        return self.inter_token_deviation_seconds == 0

    def pace(self, _work: Work, _running: int, random: Random, /) -> Pace:
        first = drawn(self.first_token_seconds, self.first_token_deviation_seconds, random)
        return Pace(first, self.inter_token_seconds)

    def gap(self, pace: Pace, _running: int, random: Random, /) -> float:
        return drawn(pace.inter_token_seconds, self.inter_token_deviation_seconds, random)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerTokenLatency:
    """Prefill costs an overhead and a time per token that is not cached; decoding a fixed time per token.

    Compute times grow linearly from one sequence alone to `load_factor` times with all slots taken.
    """

    capacity: int = 1
    overhead_seconds: float = 0.03
    prefill_seconds_per_token: float = 0.00025
    inter_token_seconds: float = 0.012
    load_factor: float = 1.0
    max_num_seqs: int = 256

    @property
    def steady(self) -> bool:
        return True

    def pace(self, work: Work, running: int, _random: Random, /) -> Pace:
        fresh = work.prompt_tokens - work.cached_tokens
        prefill = self.overhead_seconds + fresh * self.prefill_seconds_per_token
        return Pace(prefill * self._load(running), self.inter_token_seconds)

    def gap(self, pace: Pace, running: int, _random: Random, /) -> float:
        return pace.inter_token_seconds * self._load(running)

    def _load(self, running: int) -> float:
        if self.max_num_seqs <= 1:
            return 1.0
        return 1 + (self.load_factor - 1) * (running - 1) / (self.max_num_seqs - 1)


def spread(first_seconds: float, total_seconds: float, output_tokens: int) -> Pace:
    """Return an even pace whose first token comes at `first_seconds` and whose last at `total_seconds`."""
    if output_tokens <= 1:
        return Pace(total_seconds, 0.0)
    return Pace(first_seconds, (total_seconds - first_seconds) / (output_tokens - 1))


def drawn(mean: float, deviation: float, random: Random) -> float:
    """Return a normal number within `LARGEST_DEVIATION` of its mean."""
    if deviation == 0:
        return mean
    value = random.gauss(mean, deviation)
    return min(max(value, mean * (1 - LARGEST_DEVIATION)), mean * (1 + LARGEST_DEVIATION))
