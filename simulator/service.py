"""One engine process seen from its handlers: settings, engine, overrides, and whether it is going away."""

from __future__ import annotations

import time
from zlib import crc32

from simulator.engine import Clock, Engine
from simulator.overrides import Overrides
from simulator.responses import ENGINE_VERSION
from simulator.settings import Settings
from simulator.statistics import HttpStatistics
from simulator.tokens import HashingTokenizer, Tokenizer


class Service:
    """The state that all handlers share."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.engine = Engine(settings.limits, settings.latency, clock)
        self.overrides = Overrides(settings.overrides)
        self.http = HttpStatistics()
        self.tokenizer: Tokenizer = HashingTokenizer()
        self.started = int(time.time())
        self.draining = False
        self.requests = 0
        self.fingerprint = f"vllm-{ENGINE_VERSION}-{crc32(settings.model.encode()):08x}"

    def next_request_number(self) -> int:
        """Return 0, 1, 2, ... in the order of accepted requests; the seed of each request is made from it."""
        number = self.requests
        self.requests += 1
        return number
