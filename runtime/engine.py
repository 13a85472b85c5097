"""The engine beside the sidecar: its models, its metrics, its adapters.

EngineError
├── InvalidRequestError   400, 422   final: the caller has to change the request
├── UnsupportedError      501        final: this engine cannot do it
├── RefusedError          the engine's own status
└── UnreachableError      408, 502   retry: no answer in time, or nobody listens
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from runtime.settings import RuntimeSettings

Json = dict[str, Any]
LOAD_PATHS: Final = {"vllm": "/v1/load_lora_adapter", "sglang": "/load_lora_adapter"}
UNLOAD_PATHS: Final = {"vllm": "/v1/unload_lora_adapter", "sglang": "/unload_lora_adapter"}
ATTEMPTS: Final = 3
FIRST_PAUSE_SECONDS: Final = 1.0
SCRAPE_SECONDS: Final = 1.0
CALL_SECONDS: Final = 600.0
CONNECT_SECONDS: Final = 10.0
LONGEST_NAME: Final = 253
_ADAPTER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class EngineError(Exception):
    """What the caller of the sidecar gets; `code` is the HTTP status."""

    def __init__(self, code: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind

    def body(self) -> Json:
        return {"object": "error", "message": str(self), "type": self.kind, "param": None, "code": self.code}


class InvalidRequestError(EngineError):
    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(code, "ValidationError", message)


class UnsupportedError(EngineError):
    def __init__(self, message: str) -> None:
        super().__init__(501, "NotImplementedError", message)


class RefusedError(EngineError):
    """The engine answered, and not with 200."""


class UnreachableError(EngineError):
    """No answer."""


def checked_name(name: object) -> str:
    """An adapter's name as the engine gets it. Raises InvalidRequestError."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequestError("LoRA name cannot be empty")
    if len(name) > LONGEST_NAME:
        raise InvalidRequestError(f"LoRA name too long (max {LONGEST_NAME} characters)")
    if not _ADAPTER_NAME.fullmatch(name):
        raise InvalidRequestError("LoRA name must contain only alphanumeric characters, dots, hyphens, and underscores")
    return name


class Engine:
    """One session with the engine. `headers` of a call are those of the caller that the engine must see."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def metrics(self) -> str:
        """The engine's page; empty when it does not answer."""
        timeout = aiohttp.ClientTimeout(total=SCRAPE_SECONDS)
        try:
            url = self._settings.endpoint + self._settings.metrics_path
            async with self._open().get(url, timeout=timeout) as answer:
                return await answer.text() if answer.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError):
            return ""

    async def models(self, headers: Mapping[str, str]) -> Json:
        answer = await self._call("GET", "/v1/models", None, headers)
        if not isinstance(answer, dict):
            raise RefusedError(500, "ServerError", "Failed to parse models response")
        return answer

    async def load(self, name: str, path: str, headers: Mapping[str, str]) -> None:
        if not path.strip():
            raise InvalidRequestError("LoRA path cannot be empty")
        about = {404: ("NotFoundError", f"LoRA path '{path}' not found")}
        about[409] = ("ConflictError", f"LoRA adapter '{name}' already exists")
        body = {"lora_name": name, "lora_path": path}
        await self._call("POST", self._path(LOAD_PATHS), body, headers, about)

    async def unload(self, name: str, headers: Mapping[str, str]) -> None:
        about = {404: ("NotFoundError", f"LoRA adapter '{name}' not found")}
        await self._call("POST", self._path(UNLOAD_PATHS), {"lora_name": name}, headers, about)

    def _path(self, paths: Mapping[str, str]) -> str:
        path = paths.get(self._settings.engine)
        if path is None:
            raise UnsupportedError(f"Engine {self._settings.engine} takes no LoRA adapters through this sidecar")
        return path

    async def _call(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str],
        about: Mapping[int, tuple[str, str]] | None = None,
    ) -> Any:  # fmt: skip
        """The answer's JSON, or its text; tried again after what passes. Raises EngineError."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(method, path, body, headers, about or {})
            except EngineError as error:
                passes = isinstance(error, UnreachableError) or error.code >= 500
                if attempt == ATTEMPTS or not passes:
                    raise
            await asyncio.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str],
        about: Mapping[int, tuple[str, str]],
    ) -> Any:  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, sock_connect=CONNECT_SECONDS)
        url = self._settings.endpoint + path
        try:
            async with self._open().request(method, url, json=body, headers=headers, timeout=timeout) as answer:
                text = await answer.text()
                if answer.status == 200:
                    return await answer.json(content_type=None) if _is_json(text) else text
        except TimeoutError as error:
            raise UnreachableError(408, "TimeoutError", f"no answer of the engine at {url} in time") from error
        except aiohttp.ClientError as error:
            raise UnreachableError(502, "ConnectionError", f"the engine at {url} cannot be reached: {error}") from error
        kind, message = about.get(answer.status, ("ServerError", text))
        raise RefusedError(answer.status, kind, message)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session


def _is_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))
