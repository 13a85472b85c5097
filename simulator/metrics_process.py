"""What the metrics page says about the process and its HTTP requests, the same for all flavours."""

from __future__ import annotations

import gc
import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path

from simulator.exposition import Labels, counter, gauge, histogram, summary
from simulator.statistics import HttpStatistics

_GC = (
    ("objects_collected_total", "Objects collected during gc", "collected"),
    ("objects_uncollectable_total", "Uncollectable objects found during GC", "uncollectable"),
    ("collections_total", "Number of times this generation was collected", "collections"),
)
_ONLY_HEADER = "Only value of header is respected. Otherwise ignored. No percentile calculated. "


def process(started: float) -> Iterator[str]:
    generations = list(enumerate(gc.get_stats()))
    for name, explanation, key in _GC:
        samples = [((("generation", str(number)),), float(stats[key])) for number, stats in generations]
        yield from counter(f"python_gc_{name}", explanation, samples)
    major, minor, patch = platform.python_version_tuple()
    labels = (
        ("implementation", platform.python_implementation()), ("major", major), ("minor", minor),
        ("patchlevel", patch), ("version", platform.python_version()),
    )  # fmt: skip
    yield from gauge("python_info", "Python platform information", [(labels, 1)])
    yield from _resources(started)


def _resources(started: float) -> Iterator[str]:
    pages = [int(text) for text in Path("/proc/self/statm").read_text().split()[:2]]
    size = resource.getpagesize()
    times = os.times()
    none: Labels = ()
    yield from gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", [(none, pages[0] * size)])
    yield from gauge("process_resident_memory_bytes", "Resident memory size in bytes.", [(none, pages[1] * size)])
    explanation = "Start time of the process since unix epoch in seconds."
    yield from gauge("process_start_time_seconds", explanation, [(none, started)])
    explanation = "Total user and system CPU time spent in seconds."
    yield from counter("process_cpu_seconds_total", explanation, [(none, times.user + times.system)])
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - half the cost of a Path on every scrape
    yield from gauge("process_open_fds", "Number of open file descriptors.", [(none, descriptors)])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield from gauge("process_max_fds", "Maximum number of open file descriptors.", [(none, most)])


def http(statistics: HttpStatistics, created: float) -> Iterator[str]:
    samples = [
        ((("handler", handler), ("method", method), ("status", status)), float(count))
        for (handler, method, status), count in statistics.requests.items()
    ]
    yield from counter(
        "http_requests_total", "Total number of requests by method, status and handler.", samples, created
    )
    for place, direction, what in ((1, "request", "incoming requests"), (2, "response", "outgoing responses")):
        series = [
            ((("handler", handler),), sizes[0], float(sizes[place])) for handler, sizes in statistics.sizes.items()
        ]
        explanation = f"Content length of {what} by handler. {_ONLY_HEADER}"
        yield from summary(f"http_{direction}_size_bytes", explanation, series, created)
    explanation = (
        "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. "
    )
    every = [((), statistics.all_durations)]
    yield from histogram("http_request_duration_highr_seconds", explanation, every, created)
    explanation = (
        "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. "
    )
    by_handler = [
        ((("handler", handler), ("method", method)), values)
        for (handler, method), values in statistics.durations.items()
    ]
    yield from histogram("http_request_duration_seconds", explanation, by_handler, created)
