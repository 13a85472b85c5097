"""Which path is answered by what, for each flavour and setting.

Handlers are named here and loaded when their path is first asked for, so that an engine that only generates text pays
for nothing else at start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import TypeAlias

from simulator.service import Service
from simulator.settings import Settings
from simulator.wire import Request, Response, Stream

Handler: TypeAlias = Callable[[Service, Request], Awaitable[Response | Stream]]
Routes: TypeAlias = Mapping[str, Mapping[str, str]]

OPEN_PATHS = frozenset(
    {"/health", "/ready", "/version", "/load", "/ping", "/metrics", "/prometheus/metrics", "/set_metrics"}
)
"""Paths that need no key even when one is set."""

_COMMON: Routes = {
    "/health": {"GET": "endpoints.health"},
    "/ready": {"GET": "endpoints.ready"},
    "/ping": {"GET": "endpoints.ping", "POST": "endpoints.ping"},
    "/version": {"GET": "endpoints.version"},
    "/load": {"GET": "endpoints.load"},
    "/set_metrics": {"POST": "endpoints.set_metrics"},
    "/v1/models": {"GET": "endpoints.models"},
    "/v1/chat/completions": {"POST": "generation.chat_completion"},
    "/v1/completions": {"POST": "generation.text_completion"},
    "/tokenize": {"POST": "tokenization.tokenize"},
    "/detokenize": {"POST": "tokenization.detokenize"},
    "/admin/config": {"GET": "administration.read_config", "POST": "administration.patch_config"},
    "/admin/crash": {"POST": "administration.crash_now"},
}
_OTHER_TASKS: Routes = {
    "/v1/embeddings": {"POST": "pooling.embeddings"},
    "/v1/rerank": {"POST": "pooling.rerank"},
    "/rerank": {"POST": "pooling.rerank"},
    "/v1/audio/speech": {"POST": "audio.speech"},
    "/v1/audio/voices": {"GET": "audio.voices"},
    "/v1/audio/transcriptions": {"POST": "audio.transcriptions"},
    "/v1/audio/translations": {"POST": "audio.translations"},
    "/v1/images/generations": {"POST": "pictures.images"},
    "/v1/video/generations": {"POST": "pictures.video"},
    "/v1/videos": {"POST": "pictures.videos"},
}
_LORA: Routes = {
    "/v1/load_lora_adapter": {"POST": "lora.load"},
    "/v1/unload_lora_adapter": {"POST": "lora.unload"},
}
_METRICS: Routes = {"/metrics": {"GET": "endpoints.metrics_page"}}
_FLAVOURS: Mapping[str, Routes] = {
    "vllm": _METRICS,
    "xllm": _METRICS,
    "sglang": {
        **_METRICS,
        "/health_generate": {"GET": "endpoints.health"},
        "/get_model_info": {"GET": "endpoints.model_info"},
        "/flush_cache": {"GET": "administration.flush_cache", "POST": "administration.flush_cache"},
    },
    "trtllm": {"/prometheus/metrics": {"GET": "endpoints.metrics_page"}},
}
_DEVELOPMENT: Routes = {
    "/reset_prefix_cache": {"POST": "administration.reset_prefix_cache"},
    "/is_sleeping": {"GET": "administration.is_sleeping"},
}
_SLEEP: Routes = {"/sleep": {"POST": "administration.sleep"}, "/wake_up": {"POST": "administration.wake_up"}}

WORK_PATHS = frozenset({"/v1/chat/completions", "/v1/completions", *_OTHER_TASKS})
"""Paths to which failure control applies."""


def routes(settings: Settings) -> Routes:
    """Return the paths of an engine with their methods and the names of their handlers."""
    chosen = {**_COMMON, **_FLAVOURS[settings.flavour]}
    if settings.task == "any":
        chosen |= _OTHER_TASKS
    if settings.enable_lora:
        sglang = settings.flavour == "sglang"
        chosen |= {path.removeprefix("/v1") if sglang else path: methods for path, methods in _LORA.items()}
    if settings.dev_mode:
        chosen |= _DEVELOPMENT
    if settings.sleep_mode:
        chosen |= _SLEEP
    return chosen


def handler(name: str) -> Handler:
    """Return the handler called `module.function`."""
    module, _, function = name.partition(".")
    found: Handler = getattr(import_module(f"simulator.{module}"), function)
    return found
