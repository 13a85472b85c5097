"""The metrics page of whichever flavour the engine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from simulator import metrics_process
from simulator.exposition import CONTENT_TYPE
from simulator.service import Service

__all__ = ["CONTENT_TYPE", "page"]


def page(service: Service) -> bytes:
    """Return the whole page; counters in it never fall unless an override is changed."""
    for engine in service.engines:
        engine.advance()
    lines = [*_flavour(service), *metrics_process.http(service.http, service.started), ""]
    return "\n".join(lines).encode("utf-8", "replace")


def _flavour(service: Service) -> Iterator[str]:
    from simulator import metrics_others, metrics_vllm

    writers: Mapping[str, Callable[[Service], Iterator[str]]] = {
        "vllm": metrics_vllm.lines,
        "sglang": metrics_others.sglang,
        "trtllm": metrics_others.trtllm,
        "xllm": metrics_others.xllm,
    }
    yield from metrics_process.process(service.started)
    yield from writers[service.settings.flavour](service)
