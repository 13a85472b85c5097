"""What the engine has done since it started: the numbers behind the metrics page.

Counters only grow. Histograms hold plain counts per bucket; the page makes them cumulative.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

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
_TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)
_HTTP = (0.1, 0.5, 1.0)


class Histogram:
    """Counts of observations by upper bound, with their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
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

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished = dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0)
        self.rejected = 0
        self.prompt_throughput = Throughput()
        self.generation_throughput = Throughput()
        self.time_to_first_token = Histogram(_FIRST_TOKEN)
        self.inter_token_latency = Histogram(_INTER_TOKEN)
        self.time_per_output_token = Histogram(_INTER_TOKEN)
        self.end_to_end = Histogram(_REQUEST)
        self.queue_time = Histogram(_REQUEST)
        self.inference_time = Histogram(_REQUEST)
        self.prefill_time = Histogram(_REQUEST)
        self.decode_time = Histogram(_REQUEST)
        self.request_prompt_tokens = Histogram(_TOKENS)
        self.request_generation_tokens = Histogram(_TOKENS)
        self.request_max_tokens = Histogram(_TOKENS)

    def count_prompt(self, tokens: int, now: float) -> None:
        self.prompt_tokens += tokens
        self.prompt_throughput.add(tokens, now)

    def count_output(self, tokens: int, now: float) -> None:
        self.generation_tokens += tokens
        self.generation_throughput.add(tokens, now)


class HttpStatistics:
    """Requests by handler, method and status class."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], int] = {}
        self.durations: dict[tuple[str, str], Histogram] = {}

    def count(self, handler: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request; `handler` is a known path or "none", which bounds the number of series."""
        key = (handler, method, f"{status // 100}xx")
        self.requests[key] = self.requests.get(key, 0) + 1
        self.durations.setdefault((handler, method), Histogram(_HTTP)).observe(seconds)
