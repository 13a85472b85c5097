"""One engine process seen from its handlers: settings, engines, adapters, overrides, and whether it is going away."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

from simulator.adapters import Adapter, Adapters
from simulator.engine import Clock, Engine
from simulator.errors import ModelNotFoundError
from simulator.failure_control import FailureControl
from simulator.kv_publisher import KVEventPublisher
from simulator.overrides import Overrides
from simulator.rendezvous import Offers
from simulator.reply import Author, read_dataset
from simulator.responses import ENGINE_VERSION
from simulator.settings import Settings, SettingsError
from simulator.statistics import HttpStatistics
from simulator.tokens import Tokenizer, load_tokenizer


class Service:
    """The state that all handlers share."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.publishers = _publishers(settings)
        sinks = iter(self.publishers)
        self.engines = [Engine(settings.engine, clock, next(sinks, None)) for _ in range(settings.ranks)]
        self.overrides = Overrides(settings.overrides)
        self.failures = FailureControl(settings.failures, settings.seed)
        self.http = HttpStatistics()
        self.offers = Offers()
        self.tokenizer: Tokenizer = _said(lambda: load_tokenizer(settings.tokenizer))
        self.author = _author(settings, self.tokenizer)
        self.engine_id = str(uuid.uuid4())
        self.started = int(time.time())
        self.ready_at = clock.time() + settings.startup_seconds
        self.draining = False
        self.requests = 0
        self.fingerprint = f"vllm-{ENGINE_VERSION}-{crc32(settings.model.encode('utf-8', 'surrogateescape')):08x}"
        self._clock = clock
        self.adapters = Adapters(self.engines, settings.engine.lora.most_rank, mock_replies=settings.lora_mock_replies)
        for name, path in settings.lora_modules:
            self.adapters.load(name, path)

    @property
    def starting(self) -> bool:
        return self._clock.time() < self.ready_at

    @property
    def running(self) -> int:
        return sum(engine.running for engine in self.engines)

    @property
    def waiting(self) -> int:
        return sum(engine.waiting for engine in self.engines)

    def next_request_number(self) -> int:
        """Return 0, 1, 2, ... in the order of accepted requests; the seed of each request is made from it."""
        number = self.requests
        self.requests += 1
        return number

    def engine_for(self, headers: Mapping[str, str]) -> Engine:
        """Return the engine of the rank that a header names, else the least loaded."""
        rank = headers.get("x-data-parallel-rank", "")
        if rank.isascii() and rank.isdigit() and int(rank[:9]) < len(self.engines):
            return self.engines[int(rank)]
        if len(self.engines) == 1:
            return self.engines[0]
        return min(self.engines, key=lambda engine: engine.running + engine.waiting)

    def adapter_of(self, model: str) -> Adapter | None:
        """Return the adapter that a model name stands for, None for the base model. Raises ModelNotFoundError."""
        if model in self.settings.served_names:
            return None
        adapter = self.adapters.find(model)
        if adapter is None:
            raise ModelNotFoundError(model, self.settings.served_names)
        return adapter


def _publishers(settings: Settings) -> list[KVEventPublisher]:
    if settings.kv_events is None:
        return []
    events = settings.kv_events
    return [_said(lambda rank=rank: KVEventPublisher(events, rank)) for rank in range(settings.ranks)]


def _author(settings: Settings, tokenizer: Tokenizer) -> Author:
    author = Author(tokenizer=tokenizer, pod=settings.pod, mode=settings.text_mode, lengths=settings.lengths)
    if settings.dataset is None:
        return author
    path = settings.dataset
    return replace(author, responses=_said(lambda: read_dataset(path, tokenizer)))


def _said(read: Any) -> Any:
    """Return what `read` gives; what cannot be read or loaded is an unusable setting."""
    try:
        return read()
    except (ValueError, OSError, ImportError) as error:
        raise SettingsError(str(error)) from error
