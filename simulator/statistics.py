"""What the engine has done since it started: the numbers behind the metrics page.

Counters only grow. Histograms hold plain counts per bucket; the page makes them cumulative.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.sequence import Sequence

THROUGHPUT_WINDOW_SECONDS = 10

_FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
_INTER_TOKEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_ITERATION = (
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
)  # fmt: skip
_CHOICES = (1.0, 2.0, 5.0, 10.0, 20.0)
_PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
_TRANSFER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0)
_TRANSFER_BYTES = tuple(float(2**power) for power in range(11, 35, 2))
_TRANSFER_DESCRIPTORS = tuple(float(count) for count in (10, 20, 30, 50, 75, 100, 200, 400, 1000, 2000, 4000, 10000))
_HTTP = (0.1, 0.5, 1.0)
_HTTP_FINE = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip


def one_two_five(limit: int) -> tuple[float, ...]:
    """Return 1, 2, 5, 10, 20, 50, ... up to `limit`."""
    steps = (float(digit * 10**power) for power in range(len(str(limit))) for digit in (1, 2, 5))
    return tuple(step for step in steps if step <= limit)


class Histogram:
    """Counts of observations by upper bound, with their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


class Throughput:
    """Tokens per second over the last `THROUGHPUT_WINDOW_SECONDS` whole seconds."""

    __slots__ = ("_seconds", "_tokens")

    def __init__(self) -> None:
        self._seconds = [-1] * THROUGHPUT_WINDOW_SECONDS
        self._tokens = [0] * THROUGHPUT_WINDOW_SECONDS

    def add(self, tokens: int, now: float) -> None:
        second = int(now)
        place = second % THROUGHPUT_WINDOW_SECONDS
        if self._seconds[place] != second:
            self._seconds[place], self._tokens[place] = second, 0
        self._tokens[place] += tokens

    def rate(self, now: float) -> float:
        oldest = int(now) - THROUGHPUT_WINDOW_SECONDS
        recent = (count for second, count in zip(self._seconds, self._tokens, strict=True) if second > oldest)
        return sum(recent) / THROUGHPUT_WINDOW_SECONDS


class EngineStatistics:
    """Everything that the engine counts; times are in seconds."""

    def __init__(self, max_model_tokens: int = 16384) -> None:
        sizes = one_two_five(max_model_tokens)
        self.prompt_tokens = 0
        self.cached_prompt_tokens = 0
        self.transferred_prompt_tokens = 0
        self.generation_tokens = 0
        self.lookup_tokens = 0
        self.lookup_hits = 0
        self.preemptions = 0
        self.finished = dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0)
        self.rejected = 0
        self.prompt_throughput = Throughput()
        self.generation_throughput = Throughput()
        self.iteration_tokens = Histogram(_ITERATION)
        self.time_to_first_token = Histogram(_FIRST_TOKEN)
        self.inter_token_latency = Histogram(_INTER_TOKEN)
        self.time_per_output_token = Histogram(_INTER_TOKEN)
        self.end_to_end = Histogram(_REQUEST)
        self.queue_time = Histogram(_REQUEST)
        self.inference_time = Histogram(_REQUEST)
        self.prefill_time = Histogram(_REQUEST)
        self.decode_time = Histogram(_REQUEST)
        self.request_prompt_tokens = Histogram(sizes)
        self.request_generation_tokens = Histogram(sizes)
        self.request_max_generation_tokens = Histogram(sizes)
        self.request_max_tokens = Histogram(sizes)
        self.request_choices = Histogram(_CHOICES)
        self.request_preemptions = Histogram(_PREEMPTIONS)
        self.request_computed_tokens = Histogram(sizes)
        self.transfers = TransferStatistics()

    def count_lookup(self, tokens: int, cached: int) -> None:
        """Count the search for a prompt in the prefix cache."""
        self.lookup_tokens += tokens
        self.lookup_hits += cached

    def count_iteration(self, tokens: int) -> None:
        if tokens:
            self.iteration_tokens.observe(tokens)

    def count_tokens(self, sequence: Sequence, tokens: int, at: float) -> None:
        """Count output tokens that become visible at `at`, and with the first of them the prompt."""
        self.generation_tokens += tokens
        self.generation_throughput.add(tokens, at)
        if sequence.first_token_at is None:
            self._count_first(sequence, at)
        else:
            self.inter_token_latency.observe((at - sequence.last_token_at) / tokens, tokens)
        sequence.last_token_at = at

    def count_end(self, sequence: Sequence, reason: str, at: float) -> None:
        self.finished[reason] += 1
        self.request_preemptions.observe(sequence.preemptions)
        self.request_choices.observe(sequence.draft.choices)
        if sequence.draft.max_tokens is not None:
            self.request_max_tokens.observe(sequence.draft.max_tokens)
        if reason != "abort":
            self._count_times(sequence, at)

    def _count_first(self, sequence: Sequence, at: float) -> None:
        sequence.first_token_at = at
        cached = sequence.cached_tokens or 0
        transferred = max(min(sequence.draft.remote_tokens, sequence.prompt_tokens - 1) - cached, 0)
        self.prompt_tokens += sequence.prompt_tokens
        self.cached_prompt_tokens += cached
        self.transferred_prompt_tokens += transferred
        self.prompt_throughput.add(sequence.prompt_tokens, at)
        self.time_to_first_token.observe(at - sequence.arrived)
        self.request_computed_tokens.observe(sequence.prompt_tokens - cached - transferred)

    def _count_times(self, sequence: Sequence, at: float) -> None:
        arrived, admitted, first = sequence.arrived, sequence.admitted, sequence.first_token_at
        assert admitted is not None
        assert first is not None
        self.end_to_end.observe(at - arrived)
        self.queue_time.observe(admitted - arrived)
        self.inference_time.observe(at - admitted)
        self.prefill_time.observe(first - admitted)
        self.decode_time.observe(at - first)
        self.time_per_output_token.observe((at - first) / max(sequence.visible - 1, 1))
        self.request_prompt_tokens.observe(sequence.prompt_tokens)
        self.request_generation_tokens.observe(sequence.visible)
        self.request_max_generation_tokens.observe(sequence.draft.max_tokens or sequence.visible)


class TransferStatistics:
    """What came over from other engines."""

    def __init__(self) -> None:
        self.seconds = Histogram(_TRANSFER_SECONDS)
        self.post_seconds = Histogram(_TRANSFER_SECONDS)
        self.bytes = Histogram(_TRANSFER_BYTES)
        self.descriptors = Histogram(_TRANSFER_DESCRIPTORS)
        self.failed = 0

    @property
    def any(self) -> bool:
        """Whether there has been one."""
        return bool(self.failed or sum(self.seconds.counts))

    def count(self, seconds: float, size: int, blocks: int) -> None:
        self.seconds.observe(seconds)
        self.post_seconds.observe(seconds / 100)
        self.bytes.observe(size)
        self.descriptors.observe(blocks)


class HttpStatistics:
    """Requests by handler, method and status class, with their sizes and times."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], int] = {}
        self.durations: dict[tuple[str, str], Histogram] = {}
        self.all_durations = Histogram(_HTTP_FINE)
        self.sizes: dict[str, list[int]] = {}
        """By handler: requests, bytes of their bodies, bytes of whole answers."""

    def count(self, handler: str, method: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one answered request; `handler` is a known path or "none", which bounds the number of series."""
        key = (handler, method, f"{status // 100}xx")
        self.requests[key] = self.requests.get(key, 0) + 1
        durations = self.durations.get((handler, method))
        if durations is None:
            durations = self.durations[handler, method] = Histogram(_HTTP)
        durations.observe(seconds)
        self.all_durations.observe(seconds)
        sizes = self.sizes.setdefault(handler, [0, 0, 0])
        sizes[0] += 1
        sizes[1] += received
        sizes[2] += sent
