"""Every setting of the sidecar; nothing else in this room reads the environment.

| variable | default | what it sets |
|---|---|---|
| INFERENCE_ENGINE | vllm | which engine runs beside: vllm, sglang, trtllm; any other is passed through |
| INFERENCE_ENGINE_VERSION | 0.6.1 | shown in `aibrix:info` |
| INFERENCE_ENGINE_ENDPOINT | http://localhost:8000 | where the engine listens |
| METRIC_SCRAPE_PATH | /metrics | the engine's page of metrics |
| METRICS_ENABLE_TRANSFORMATION | 1 | 0: metrics only under the engine's own names |
| METRICS_RAW_PASSTHROUGH_MODE | 0 | 1: the same |
| LOG_LEVEL | INFO | level of the log on standard error |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_YES: Final = frozenset({"1", "ON", "YES", "TRUE"})


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """The table above, typed. `renames`: standard names are added to the engine's own."""

    engine: str = "vllm"
    engine_version: str = "0.6.1"
    endpoint: str = "http://localhost:8000"
    metrics_path: str = "/metrics"
    renames: bool = True
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> RuntimeSettings:
        def said(name: str, default: str) -> str:
            return environment.get(name, default)

        return cls(
            engine=said("INFERENCE_ENGINE", "vllm").lower(),
            engine_version=said("INFERENCE_ENGINE_VERSION", "0.6.1"),
            endpoint=said("INFERENCE_ENGINE_ENDPOINT", "http://localhost:8000").rstrip("/"),
            metrics_path="/" + said("METRIC_SCRAPE_PATH", "/metrics").lstrip("/"),
            renames=_is_true(said("METRICS_ENABLE_TRANSFORMATION", "1"))
            and not _is_true(said("METRICS_RAW_PASSTHROUGH_MODE", "0")),
            log_level=said("LOG_LEVEL", "INFO").upper(),
        )


def _is_true(text: str) -> bool:
    return text.upper() in _YES
