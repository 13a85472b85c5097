"""How long requests took and how many tokens they had: the dashboards' counters by bucket, and real histograms beside.

The kernel counts in fixed buckets (csrc/times.h); their bounds are those of the metrics catalogue, gateway 8.2. A text
bucket has no quantile, so each duration is a histogram in seconds as well. The steps of `pd` come with that strategy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from csrc.binding import ModelTotals

TOKEN_BOUNDS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
SPAN_BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
WHOLE_BOUNDS_MS = (100, 250, 500, 1000, 5000, 20000, 60000)
LABELS = ("gateway_pod", "model")


@dataclass(frozen=True)
class Buckets:
    """Where a quantity stands among the kernel's words."""

    first: int
    bounds: tuple[int, ...]
    unit: str = ""
    total: int | None = None
    """Word of its sum in microseconds."""
    counter: str = ""
    histogram: str = ""
    what: str = ""

    def counts(self, words: Sequence[int]) -> Sequence[int]:
        """Of each bucket, the open one last."""
        return words[self.first : self.first + len(self.bounds) + 1]

    @property
    def names(self) -> list[str]:
        """Labels of the buckets: `0-1ms`, ..., `5000ms+`."""
        closed = [f"{low}-{high}{self.unit}" for low, high in pairwise((0, *self.bounds))]
        return [*closed, f"{self.bounds[-1]}{self.unit}+"]


QUANTITIES = (
    Buckets(0, TOKEN_BOUNDS, counter="gateway_prompt_token_bucket", what="Requests by their prompt tokens."),
    Buckets(9, TOKEN_BOUNDS, counter="gateway_completion_token_bucket", what="Requests by the tokens made for them."),
    Buckets(
        18, SPAN_BOUNDS_MS, "ms", 65, "gateway_ttft_bucket", "gateway_ttft_seconds",
        "Streams by the time to the first chunk with content.",
    ),
    Buckets(
        31, SPAN_BOUNDS_MS, "ms", 66, "gateway_tpot_bucket", "gateway_tpot_seconds",
        "Streams by the mean time of a token after the first.",
    ),
    Buckets(
        44, SPAN_BOUNDS_MS, "ms", 67, "", "gateway_routing_seconds", "Requests by the time until their pod was chosen.",
    ),
    Buckets(
        57, WHOLE_BOUNDS_MS, "ms", 68, "gateway_total_time_bucket", "gateway_request_duration_seconds",
        "Requests by their whole time.",
    ),
)  # fmt: skip


def families(gateway_pod: str, models: Sequence[ModelTotals]) -> Iterable[Metric]:
    """Counters by bucket and histograms of all models that are known."""
    known = [each for each in models if each.name and any(each.times)]
    for quantity in QUANTITIES:
        if quantity.counter:
            yield _counter(quantity, gateway_pod, known)
        if quantity.histogram:
            yield _histogram(quantity, gateway_pod, known)


def _counter(quantity: Buckets, gateway_pod: str, models: Sequence[ModelTotals]) -> Metric:
    family = CounterMetricFamily(quantity.counter, quantity.what, labels=(*LABELS, "bucket"))
    for model in models:
        for name, count in zip(quantity.names, quantity.counts(model.times), strict=True):
            if count:
                family.add_metric((gateway_pod, model.name, name), count)
    return family


def _histogram(quantity: Buckets, gateway_pod: str, models: Sequence[ModelTotals]) -> Metric:
    family = HistogramMetricFamily(quantity.histogram, quantity.what, labels=LABELS)
    edges = [*(str(bound / 1000) for bound in quantity.bounds), "+Inf"]
    for model in models:
        assert quantity.total is not None
        buckets = list(zip(edges, accumulate(quantity.counts(model.times)), strict=True))
        family.add_metric((gateway_pod, model.name), buckets, model.times[quantity.total] / 1e6)
    return family
